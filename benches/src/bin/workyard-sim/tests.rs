//! What the policies must show, in virtual time.

use workyard_shared::balance::Policy;

use super::*;

const ROUND_ROBIN: Dispatch = Dispatch::Claim(Policy::RoundRobin);
const ADAPTIVE: Dispatch = Dispatch::Claim(Policy::Adaptive);

fn scenario(name: &str, consumers: usize, tasks: usize) -> Scenario {
    Scenario::of(name, consumers, tasks).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let mixed = scenario("mixed-even", 20, 2000);
    assert_eq!(compare(&mixed, 7, 1), compare(&mixed, 7, 1));
    assert_ne!(run(&mixed, ADAPTIVE, 7, 1), run(&mixed, ADAPTIVE, 8, 1));
}

#[test]
fn adaptive_beats_round_robin_by_a_quarter_when_tasks_arrive_evenly() {
    let paper = scenario("paper-even", 0, 0);
    for seed in [1, 1000, 2000] {
        let (turns, adaptive) = (run(&paper, ROUND_ROBIN, seed, 20), run(&paper, ADAPTIVE, seed, 20));
        assert!(
            adaptive.total_p99_s <= 0.75 * turns.total_p99_s,
            "{} {}",
            adaptive.total_p99_s,
            turns.total_p99_s
        );
        assert!(
            adaptive.shares["unreliable"] < turns.shares["unreliable"],
            "{adaptive:?} {turns:?}"
        );
    }
}

#[test]
fn adaptive_is_no_slower_when_all_tasks_come_at_once() {
    let paper = scenario("paper-burst", 0, 0);
    for seed in [1, 1000, 2000] {
        let (turns, adaptive) = (run(&paper, ROUND_ROBIN, seed, 20), run(&paper, ADAPTIVE, seed, 20));
        assert!(
            adaptive.makespan_s <= turns.makespan_s,
            "{} {}",
            adaptive.makespan_s,
            turns.makespan_s
        );
    }
}

#[test]
fn every_task_ends_under_every_policy() {
    for name in Scenario::NAMES {
        let scenario = scenario(name, 20, 3000);
        for dispatch in Dispatch::ALL {
            let raw = world::simulate(&scenario, dispatch, 3, Raw::default());
            assert_eq!(raw.totals.len(), scenario.tasks, "{name} {}", dispatch.name());
        }
    }
}

#[test]
fn a_dead_downstream_burns_few_attempts() {
    let dead = scenario("dead-kind", 20, 40_000);
    for policy in Policy::ALL {
        let tally = run(&dead, Dispatch::Claim(policy), 1, 1);
        assert!(tally.wasted_share < 0.05, "{policy}: {}", tally.wasted_share);
        assert!(tally.failed < 1.0, "{policy}: {}", tally.failed);
    }
}

#[test]
fn a_failing_consumer_wastes_little() {
    let mixed = scenario("mixed-even", 20, 20_000);
    for policy in Policy::ALL {
        let tally = run(&mixed, Dispatch::Claim(policy), 1, 1);
        assert!(tally.wasted_share < 0.05, "{policy}: {}", tally.wasted_share);
    }
}

#[test]
fn the_documented_tables_and_plots_are_what_it_prints() {
    let doc = include_str!("../../../../docs/balancing.md");
    for name in Scenario::NAMES {
        let (scenario, rounds) = (
            scenario(name, 100, 50_000),
            if name.starts_with("paper") { 50 } else { 1 },
        );
        let tallies = compare(&scenario, 1, rounds);
        for tally in &tallies {
            let row = table::row(tally);
            assert!(
                doc.lines().any(|line| line == row),
                "docs/balancing.md has not, of {name}: {row}"
            );
        }
        let plotted = std::fs::read_to_string(image(name)).unwrap();
        assert!(
            plotted == plot::svg(&scenario, &tallies),
            "{}: make it anew with --images",
            image(name).display()
        );
    }
}

fn image(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/images/sim-{name}.svg"))
}

/// A million with `WORKYARD_SIM_TASKS=1000000` and `--release`.
#[test]
fn ten_thousand_consumers_end_all_tasks() {
    let chosen = std::env::var("WORKYARD_SIM_TASKS").ok();
    let tasks = chosen.map_or(20_000, |text| text.parse().expect("WORKYARD_SIM_TASKS is a number"));
    let large = scenario("mixed-even", 10_000, tasks);
    let raw = world::simulate(&large, ADAPTIVE, 1, Raw::default());
    assert_eq!(raw.totals.len(), tasks);
}
