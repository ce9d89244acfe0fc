//! The table of cases in docs/balancing.md: these inputs, these scores.

use std::time::Duration;

use super::*;

/// Runs, errors, mean ms, running of 8, the host, the fleet's error rate; health, load score, unhealthy.
type Case = (&'static str, u32, u32, f64, u32, Host, f64, f64, f64, bool);
/// CPU, memory, loop lag in ms, round trip in ms.
type Host = [f64; 4];

const CALM: Host = [0.0; 4];
const FULL: Host = [1.0, 0.0, 0.0, 0.0];
const NO_MEMORY: Host = [0.0, 1.0, 0.0, 0.0];
const LATE: Host = [0.0, 0.0, 500.0, 0.0];
const FAR: Host = [0.0, 0.0, 0.0, 500.0];
const HALF_LATE: Host = [0.0, 0.0, 275.0, 0.0];

#[rustfmt::skip]
const CASES: [Case; 18] = [
    ("idle, nothing known", 0, 0, 0.0, 0, CALM, 0.05, 1.00, 1.00, false),
    ("like the fleet", 100, 5, 200.0, 0, CALM, 0.05, 1.00, 1.00, false),
    ("like the fleet, full", 100, 5, 200.0, 8, CALM, 0.05, 0.80, 2.20, false),
    ("twice as fast", 100, 5, 100.0, 0, CALM, 0.05, 1.00, 0.50, false),
    ("five times slower", 100, 5, 1000.0, 0, CALM, 0.05, 0.60, 5.38, false),
    ("twenty times slower", 100, 5, 4000.0, 0, CALM, 0.05, 0.15, 10.0, true),
    ("30 % errors", 100, 30, 200.0, 0, CALM, 0.05, 0.74, 1.79, false),
    ("60 % errors", 100, 60, 200.0, 0, CALM, 0.05, 0.42, 2.74, true),
    ("60 % errors beside 30 %", 100, 60, 200.0, 0, CALM, 0.30, 0.57, 2.29, false),
    ("fails everything", 100, 100, 200.0, 0, CALM, 0.05, 0.00, 4.00, true),
    ("3 of 3 failed", 3, 3, 200.0, 0, CALM, 0.05, 0.40, 2.80, false),
    ("fails everything, as everywhere", 100, 100, 200.0, 0, CALM, 1.0, 1.00, 1.00, false),
    ("host at its limit", 100, 5, 200.0, 0, FULL, 0.05, 0.80, 1.20, false),
    ("host at its limit, full", 100, 5, 200.0, 8, FULL, 0.05, 0.60, 2.40, false),
    ("host out of memory", 100, 5, 200.0, 0, NO_MEMORY, 0.05, 0.80, 1.20, false),
    ("loop 500 ms late", 100, 5, 200.0, 0, LATE, 0.05, 0.80, 1.20, false),
    ("loop 275 ms late", 100, 5, 200.0, 0, HALF_LATE, 0.05, 0.90, 1.10, false),
    ("Redis 500 ms away", 100, 5, 200.0, 0, FAR, 0.05, 0.80, 1.20, false),
];

/// What a circuit is told twice: 1.5 s later it opens, or it does not.
fn opens(vitals: &Vitals, fleet: &Fleet) -> bool {
    let (mut circuit, blame) = (Circuit::new(), Blame::of(vitals, fleet));
    let health = health_score(vitals, fleet);
    let turns = [0, 1500].map(|ms| circuit.on_health(health, blame.rate, blame.runs, Duration::from_millis(ms)));
    turns.contains(&Some(Turn::Opened))
}

#[test]
fn the_documented_cases_have_these_scores() {
    let doc = include_str!("../../../docs/balancing.md");
    for (name, runs, errors, mean_ms, running, [cpu, memory, lag_ms, rtt_ms], error_rate, health, load, unhealthy) in
        CASES
    {
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
            memory,
            lag_ms,
            rtt_ms,
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
        assert_eq!(opens(&vitals, &fleet), unhealthy, "{name}");
        let opens = if unhealthy { "yes" } else { "no" };
        assert!(row.contains(&format!("| {health:.2} | {load:.2} | {opens} |")), "{row}");
    }
}
