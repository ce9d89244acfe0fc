//! Properties of the scores over seeded random fleets: range, direction, forgetting.

use std::time::Duration;

use super::*;

const ROUNDS: u32 = 20_000;

/// Mostly plausible figures, sometimes nonsense.
fn figure(rng: &mut fastrand::Rng, up_to: f64) -> f64 {
    match rng.u32(0..30) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => -1.0,
        3 => 0.0,
        4 => 1e300,
        _ => rng.f64() * up_to,
    }
}

fn vitals(rng: &mut fastrand::Rng) -> Vitals {
    let kinds = (0..rng.u32(0..4)).map(|n| {
        let runs = rng.u32(0..50);
        let errors = rng.u32(0..=runs + 1);
        (
            format!("k{n}"),
            KindVitals {
                running: rng.u32(0..3),
                runs,
                errors,
                finals: rng.u32(0..=errors),
                mean_ms: figure(rng, 5000.0),
                recent_ms: Vec::new(),
            },
        )
    });
    Vitals {
        who: 0,
        kinds: kinds.collect(),
        capacity: rng.u32(0..20),
        running: rng.u32(0..25),
        lag_ms: figure(rng, 600.0),
        cpu: figure(rng, 1.0),
        memory: figure(rng, 1.0),
        rtt_ms: figure(rng, 600.0),
    }
}

fn cases(seed: u64) -> impl Iterator<Item = (Vitals, Fleet, fastrand::Rng)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..ROUNDS).map(move |_| {
        let reports: Vec<Vitals> = (0..rng.usize(0..6)).map(|_| vitals(&mut rng)).collect();
        let fleet = Fleet::default().next(&reports, Duration::ZERO);
        (vitals(&mut rng), fleet, rng.fork())
    })
}

#[test]
fn scores_are_in_range_for_any_input() {
    for (vitals, fleet, _) in cases(1) {
        let (health, load) = (health_score(&vitals, &fleet), load_score(&vitals, &fleet));
        assert!(
            (0.0..=1.0).contains(&health) && (0.0..=10.0).contains(&load),
            "{health} {load} {vitals:?} {fleet:?}"
        );
        let blame = Blame::of(&vitals, &fleet).rate;
        assert!((0.0..=1.0).contains(&blame), "{blame} {vitals:?} {fleet:?}");
    }
}

#[test]
fn worse_figures_never_give_a_better_score() {
    for (vitals, fleet, mut rng) in cases(2) {
        let mut worse = vitals.clone();
        match rng.u32(0..7) {
            0 => worse.running += rng.u32(0..10),
            1 => worse.cpu += rng.f64(),
            2 => worse.memory += rng.f64(),
            3 => worse.lag_ms += rng.f64() * 500.0,
            4 => worse.rtt_ms += rng.f64() * 500.0,
            choice => {
                for kind in worse.kinds.values_mut() {
                    if choice == 5 {
                        kind.errors = kind.errors.saturating_add(rng.u32(0..10));
                    } else if kind.mean_ms > 0.0 {
                        kind.mean_ms *= 1.0 + rng.f64() * 10.0;
                    }
                }
            }
        }
        // A sum of infinities compares with nothing: such a figure is ignored, which is no promise of direction.
        if worse
            .kinds
            .values()
            .chain(vitals.kinds.values())
            .all(|k| k.mean_ms.is_finite())
        {
            let (before, after) = (health_score(&vitals, &fleet), health_score(&worse, &fleet));
            assert!(
                after <= before + 1e-12,
                "{before} {after} {vitals:?} {worse:?} {fleet:?}"
            );
            let (before, after) = (load_score(&vitals, &fleet), load_score(&worse, &fleet));
            assert!(
                after + 1e-12 >= before,
                "{before} {after} {vitals:?} {worse:?} {fleet:?}"
            );
        }
    }
}

/// A consumer like its fleet, of which `n` of seven figures is at this share of what counts of it.
fn strained(n: usize, share: f64) -> (f64, f64) {
    let between = |from: f64, to: f64| from + share * (to - from);
    let figure = |of: usize, from: f64, to: f64| if n == of { between(from, to) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1000")]
    let thousandths = |of| figure(of, 0.0, 1000.0) as u32;
    let kind = KindVitals {
        runs: 1000,
        errors: 50 + thousandths(5) * 95 / 100,
        mean_ms: if n == 6 { between(350.0, 900.0) } else { 100.0 },
        ..KindVitals::default()
    };
    let vitals = Vitals {
        capacity: 1000,
        running: thousandths(4),
        cpu: figure(0, 0.85, 1.0),
        memory: figure(1, 0.85, 1.0),
        lag_ms: figure(2, 50.0, 500.0),
        rtt_ms: figure(3, 50.0, 500.0),
        kinds: [("mail".to_owned(), kind)].into(),
        ..Vitals::default()
    };
    let kind = KindFleet {
        median_ms: 100.0,
        error_rate: 0.05,
        consumers: 4,
        ..KindFleet::default()
    };
    let fleet = Fleet {
        consumers: 4,
        kinds: [("mail".to_owned(), kind)].into(),
    };
    (health_score(&vitals, &fleet), load_score(&vitals, &fleet))
}

#[test]
fn each_figure_alone_makes_a_worse_score_when_it_gets_worse() {
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..ROUNDS {
        let n = usize::try_from(round).unwrap() % 7;
        // Errors within what is noise count nothing.
        let better = 0.05 + rng.f64() * 0.4;
        let worse = better + 0.05 + rng.f64() * 0.4;
        let (before, after) = (strained(n, better), strained(n, worse));
        assert!(after.0 < before.0, "figure {n}, health: {before:?} {after:?}");
        assert!(after.1 > before.1, "figure {n}, load score: {before:?} {after:?}");
    }
}

#[test]
fn a_consumer_that_fails_everything_is_unhealthy_and_is_forgiven() {
    let times = RunTimes::new();
    let at = Duration::from_secs;
    let report = |window: &Window, now| {
        let mut vitals = Vitals {
            capacity: 4,
            ..Vitals::default()
        };
        vitals
            .kinds
            .insert("mail".to_owned(), KindVitals::of(window, &times, now));
        vitals
    };
    let (mut good, mut bad) = (Window::new(), Window::new());
    for n in 0..100 {
        good.record(Outcome::Success, at(100));
        bad.record(Outcome::of(n < 92), at(100));
    }
    let fleet = Fleet::default().next(&[report(&good, at(100)), report(&bad, at(100))], at(100));
    assert_eq!(health_score(&report(&bad, at(100)), &fleet), 0.0);
    assert_eq!(health_score(&report(&good, at(100)), &fleet), 1.0);
    assert_eq!(
        health_score(&report(&bad, at(110)), &fleet),
        1.0,
        "ten seconds later it is forgotten"
    );

    let everywhere = Fleet::default().next(&[report(&bad, at(100)), report(&bad, at(100))], at(100));
    assert_eq!(
        health_score(&report(&bad, at(100)), &everywhere),
        1.0,
        "what fails everywhere is not its fault"
    );
    assert!(matches!(everywhere.kinds["mail"].breaker, Breaker::Open { .. }));
}
