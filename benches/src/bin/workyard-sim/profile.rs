//! What a simulated consumer is like: how fast, how reliable, and what becomes of it.
//!
//! Invariant: the same draw gives the same run; a profile has no state.

/// How a consumer changes during the simulation; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Steady,
    /// From then on each ten seconds double its run time, up to tenfold.
    Degrades { from: f64 },
    /// Everything fails in that span.
    Fails { from: f64, until: f64 },
    /// It is gone from then on, with what it held.
    Dies { at: f64 },
}

/// One kind of consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) mean_s: f64,
    pub(crate) sd_s: f64,
    pub(crate) error_rate: f64,
    pub(crate) capacity: usize,
    pub(crate) fate: Fate,
}

/// The shortest run, as in the paper.
const SHORTEST_S: f64 = 0.1;
/// A failing run raises at once, as in the paper.
const FAILURE_S: f64 = 0.01;

impl Profile {
    /// Runs per second when all slots are busy and nothing fails.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "slots are few")]
        let slots = self.capacity as f64;
        slots / self.mean_s
    }

    /// Whether the run succeeds, and the seconds it takes.
    pub(crate) fn run(&self, now_s: f64, rng: &mut fastrand::Rng) -> (bool, f64) {
        let (error_draw, gauss) = (rng.f64(), gauss(rng));
        let fails = matches!(self.fate, Fate::Fails { from, until } if (from..until).contains(&now_s));
        if fails || error_draw < self.error_rate {
            return (false, FAILURE_S);
        }
        let slower = match self.fate {
            Fate::Degrades { from } => ((now_s - from).max(0.0) / 10.0).exp2().min(10.0),
            Fate::Steady | Fate::Fails { .. } | Fate::Dies { .. } => 1.0,
        };
        (true, (self.mean_s + self.sd_s * gauss).max(SHORTEST_S) * slower)
    }
}

/// A normal draw (Box and Muller).
fn gauss(rng: &mut fastrand::Rng) -> f64 {
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
