//! The table of cases in docs/balancing.md: these inputs, these scores.

use super::*;

/// Runs, errors, mean ms, running of 8, cpu, the fleet's error rate; health, load score.
type Case = (&'static str, u32, u32, f64, u32, f64, f64, f64, f64);

const CASES: [Case; 13] = [
    ("idle, nothing known", 0, 0, 0.0, 0, 0.0, 0.05, 1.00, 1.00),
    ("like the fleet", 100, 5, 200.0, 0, 0.0, 0.05, 1.00, 1.00),
    ("like the fleet, full", 100, 5, 200.0, 8, 0.0, 0.05, 0.80, 2.20),
    ("twice as fast", 100, 5, 100.0, 0, 0.0, 0.05, 1.00, 0.50),
    ("five times slower", 100, 5, 1000.0, 0, 0.0, 0.05, 0.60, 5.38),
    ("twenty times slower", 100, 5, 4000.0, 0, 0.0, 0.05, 0.15, 10.0),
    ("30 % errors", 100, 30, 200.0, 0, 0.0, 0.05, 0.74, 1.79),
    ("60 % errors", 100, 60, 200.0, 0, 0.0, 0.05, 0.42, 2.74),
    ("fails everything", 100, 100, 200.0, 0, 0.0, 0.05, 0.00, 4.00),
    ("3 of 3 failed", 3, 3, 200.0, 0, 0.0, 0.05, 0.40, 2.80),
    (
        "fails everything, as everywhere",
        100,
        100,
        200.0,
        0,
        0.0,
        1.0,
        1.00,
        1.00,
    ),
    ("host at its limit", 100, 5, 200.0, 0, 1.0, 0.05, 0.80, 1.20),
    ("host at its limit, full", 100, 5, 200.0, 8, 1.0, 0.05, 0.60, 2.40),
];

#[test]
fn the_documented_cases_have_these_scores() {
    let doc = include_str!("../../../docs/balancing.md");
    for (name, runs, errors, mean_ms, running, cpu, error_rate, health, load) in CASES {
        let kind = KindVitals {
            runs,
            errors,
            mean_ms,
            ..KindVitals::default()
        };
        let vitals = Vitals {
            capacity: 8,
            running,
            cpu,
            kinds: [("mail".into(), kind)].into(),
            ..Vitals::default()
        };
        let kind = KindFleet {
            median_ms: 200.0,
            error_rate,
            consumers: 4,
            ..KindFleet::default()
        };
        let fleet = Fleet {
            consumers: 4,
            kinds: [("mail".into(), kind)].into(),
        };
        let seen = (health_score(&vitals, &fleet), load_score(&vitals, &fleet));
        assert!(
            (seen.0 - health).abs() < 0.006 && (seen.1 - load).abs() < 0.006,
            "{name}: {seen:?}"
        );
        let row = doc
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")))
            .unwrap_or_else(|| panic!("{name}"));
        assert!(row.contains(&format!("| {health:.2} | {load:.2} |")), "{row}");
    }
}
