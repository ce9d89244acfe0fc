//! What a consumer under comparison is like: how fast, how reliable, and what becomes of it. The simulator draws its runs in
//! virtual time, the benchmark sleeps them.
//!
//! Invariant: the same draw gives the same run; a profile has no state.

/// How a consumer changes during the simulation; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// It stays as it is.
    Steady,
    /// From then on each ten seconds double its run time, up to tenfold.
    Degrades {
        /// When that begins.
        from: f64,
    },
    /// Everything fails in that span.
    Fails {
        /// When that begins ...
        from: f64,
        /// ... and ends.
        until: f64,
    },
    /// It is gone from then on, with what it held.
    Dies {
        /// When.
        at: f64,
    },
}

/// One kind of consumer.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// What tables call it.
    pub name: &'static str,
    /// Mean run time, in seconds ...
    pub mean_s: f64,
    /// ... and its standard deviation.
    pub sd_s: f64,
    /// Share of runs that fail.
    pub error_rate: f64,
    /// Slots.
    pub capacity: usize,
    /// What becomes of it.
    pub fate: Fate,
}

/// The shortest run, as in the paper.
const SHORTEST_S: f64 = 0.1;
/// A failing run raises at once, as in the paper.
const FAILURE_S: f64 = 0.01;

impl Profile {
    /// One that stays as it is.
    #[must_use]
    pub fn steady(name: &'static str, mean_s: f64, sd_s: f64, error_rate: f64, capacity: usize) -> Self {
        Self {
            name,
            mean_s,
            sd_s,
            error_rate,
            capacity,
            fate: Fate::Steady,
        }
    }

    /// The four workers of the paper's listing.
    #[must_use]
    pub fn of_the_paper() -> [Self; 4] {
        [
            Self::steady("fast", 0.2, 0.1, 0.05, 8),
            Self::steady("medium", 0.5, 0.2, 0.10, 5),
            Self::steady("slow", 1.0, 0.3, 0.15, 3),
            Self::steady("unreliable", 0.3, 0.1, 0.30, 4),
        ]
    }

    /// Runs per second when all slots are busy and nothing fails.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "slots are few")]
        let slots = self.capacity as f64;
        slots / self.mean_s
    }

    /// Whether the run succeeds, and the seconds it takes.
    #[must_use]
    pub fn run(&self, now_s: f64, rng: &mut fastrand::Rng) -> (bool, f64) {
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

/// Runs per second of all together, when all slots are busy and nothing fails.
#[must_use]
pub fn capacity(fleet: &[Profile]) -> f64 {
    fleet.iter().map(Profile::rate).sum()
}

/// The value that `percent` of the sorted values do not exceed.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let nearest = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(nearest).copied().unwrap_or(0.0)
}

/// A normal draw (Box and Muller).
fn gauss(rng: &mut fastrand::Rng) -> f64 {
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
