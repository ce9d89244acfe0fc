//! Compares what producers, consumers and the watcher wrote down with what Redis says in the end.
//!
//! Invariant: what cannot be explained by a fault that happened is a violation. The only explanation for something that
//! was undone is a death of Redis that took what it had not yet written, synced or copied to the replica that took over; what a
//! receipt said to be kept where that death does not reach has none.

use std::collections::BTreeMap;

use workyard_shared::broker::Overview;

use crate::args::Args;
use crate::evidence::{Death, Evidence, Fate};
use crate::ledger::Accepted;
use crate::profile::Profile;
use crate::recovery::recoveries;
use crate::repeat::repeats;
use crate::report::Report;
use crate::runs::Run;

/// Examples that a violation names.
const EXAMPLES: usize = 3;

struct Checker<'a> {
    evidence: &'a Evidence,
    profile: Profile,
    /// For each death of Redis: what it answered for from when on, ms, it may not have kept.
    unkept_from: Vec<u64>,
    report: Report,
    /// What is wrong, with the tasks of which it is.
    wrong: BTreeMap<&'static str, Vec<String>>,
}

/// Judges a run. `wrong`: what went wrong while it was made.
pub(crate) fn check(args: &Args, evidence: &Evidence, wrong: Vec<String>) -> Report {
    let mut checker = Checker {
        evidence,
        profile: args.profile,
        unkept_from: unkept_from(args, evidence),
        report: Report::of(args),
        wrong: BTreeMap::new(),
    };
    checker.tasks();
    checker.runs();
    checker.ends();
    checker.counters();
    checker.jobs();
    checker.report.recoveries = recoveries(evidence);
    checker.report.violations = wrong;
    checker.finish()
}

impl Checker<'_> {
    fn blame(&mut self, what: &'static str, example: impl Into<String>) {
        self.wrong.entry(what).or_default().push(example.into());
    }

    /// Whether a death of Redis may have undone what happened to a task at this time.
    fn may_be_undone(&self, id: &str, at_ms: u64) -> bool {
        self.may_be_undone_between(id, at_ms, at_ms)
    }

    /// As [`Self::may_be_undone`], of what happened at some time between the two.
    fn may_be_undone_between(&self, id: &str, from_ms: u64, at_ms: u64) -> bool {
        self.death_that_undid(id, from_ms, at_ms).is_some()
    }

    fn death_that_undid(&self, id: &str, from_ms: u64, at_ms: u64) -> Option<&Death> {
        let mut deaths = self.evidence.deaths.iter().zip(&self.unkept_from);
        let found = deaths.find(|(death, unkept_from)| {
            from_ms <= death.back_ms && (death.lost.contains(id) || at_ms >= **unkept_from)
        });
        found.map(|(death, _)| death)
    }

    /// Every accepted task is in one terminal state.
    fn tasks(&mut self) {
        let evidence = self.evidence;
        self.report.accepted = evidence.known.accepted.len();
        self.report.maybe = evidence.known.maybe;
        for (id, accepted) in &evidence.known.accepted {
            let covered = self.profile.covers(accepted.level);
            self.report.covered += usize::from(covered);
            let level = self.report.levels.entry(accepted.level.name()).or_default();
            level.accepted += 1;
            level.lost += usize::from(evidence.fates[id] == Fate::Unknown);
            match &evidence.fates[id] {
                Fate::Ended(state, _, _) => *self.report.terminal.entry(state).or_default() += 1,
                Fate::Alive(place) => self.blame("accepted and never ended", format!("{id} ({place})")),
                Fate::Unknown if covered => {
                    self.report.lost += 1;
                    self.blame(
                        "lost although its receipt covers every fault here",
                        self.when_lost(id, accepted),
                    );
                }
                Fate::Unknown => match self.death_that_undid(id, accepted.sent_ms, accepted.at_ms) {
                    Some(death) => {
                        let age = death.at_ms.saturating_sub(accepted.at_ms);
                        self.report.lost_unsynced += 1;
                        self.report.loss_window_ms = self.report.loss_window_ms.max(age);
                    }
                    None => {
                        self.report.lost += 1;
                        self.blame("lost", self.when_lost(id, accepted));
                    }
                },
            }
        }
    }

    fn when_lost(&self, id: &str, accepted: &Accepted) -> String {
        let next = self.evidence.deaths.iter().find(|death| death.at_ms >= accepted.at_ms);
        let ms = next.map(|death| death.at_ms - accepted.at_ms);
        let (level, producer) = (accepted.level.name(), accepted.producer);
        format!("{id} ({level}, producer {producer}, {ms:?} ms before a death of Redis)")
    }

    /// What consumers ran: no token twice, no result of an old one, and a reason for each execution too many.
    fn runs(&mut self) {
        let evidence = self.evidence;
        for (id, runs) in &evidence.runs.of_task {
            self.report.runs += runs.len();
            if runs.iter().any(|run| run.starts > 1) {
                self.blame("one fencing token was handed out twice", id);
            }
            let Some(Fate::Ended(state, failures, token)) = evidence.fates.get(id) else {
                continue;
            };
            if let Some(token) = token {
                self.result_of(id, runs, *token);
            }
            let done = runs.iter().filter(|run| run.done_ms.is_some()).count();
            let right = *failures as usize + usize::from(*state == "completed");
            if matches!(*state, "completed" | "failed") && done > right {
                self.report.duplicated += done - right;
                let reasons = repeats(evidence, runs, |run| self.was_undone(id, run));
                if reasons.len() < done - right {
                    self.blame("executed twice without a reason", format!("{id} {runs:?}"));
                }
                for reason in reasons.into_iter().take(done - right) {
                    *self.report.duplicates.entry(reason).or_default() += 1;
                }
            }
        }
        self.report.stale_refused = total(&evidence.overview, "stale");
        for (id, fate) in &evidence.fates {
            if matches!(fate, Fate::Ended("completed", ..)) && !evidence.runs.of_task.contains_key(id) {
                self.blame("completed and never ran", id);
            }
        }
    }

    /// The result is that of the newest run.
    fn result_of(&mut self, id: &str, runs: &[Run], token: u64) {
        match runs.iter().find(|run| run.token == token) {
            None => self.blame("its result is of a run that nobody made", id),
            Some(run) if run.done_ms.is_none() => self.blame("its result is of a run that was not finished", id),
            Some(_) => {}
        }
        let newer = runs.iter().filter(|run| run.token > token);
        // Redis forgot that it had handed the task out again: then the older run was the newest that it knew.
        let unknown = newer.filter(|run| !self.may_be_undone(id, run.begun_ms)).count();
        if unknown > 0 {
            self.report.stale_accepted += 1;
            self.blame("a stale write was accepted", id);
        }
    }

    fn was_undone(&self, id: &str, run: &Run) -> bool {
        let done_ms = run.done_ms.unwrap_or(run.begun_ms);
        self.may_be_undone(id, run.begun_ms) || self.may_be_undone(id, done_ms)
    }

    /// Nobody was told of two ends.
    fn ends(&mut self) {
        for (id, ends) in &self.evidence.ends {
            let [.., (_, last)] = &ends[..] else { continue };
            let undone = ends[..ends.len() - 1]
                .iter()
                .all(|(at_ms, _)| self.may_be_undone(id, *at_ms));
            match (ends.len(), undone) {
                (1, _) => {}
                (_, true) => self.report.rolled_back += 1,
                (_, false) => {
                    self.report.two_ends += 1;
                    self.blame("ended twice", format!("{id} {ends:?}"));
                }
            }
            if let Some(Fate::Ended(state, ..)) = self.evidence.fates.get(id)
                && state != last
                && !ends.iter().any(|(at_ms, _)| self.may_be_undone(id, *at_ms))
            {
                self.blame("its state changed after its end", format!("{id}: {last}, then {state}"));
            }
        }
    }

    /// What Redis counted is what there is. The counters go back with the log, so this holds after every fault.
    fn counters(&mut self) {
        let seen = &self.evidence.overview;
        let work = |name: &str| {
            seen.kinds
                .get("work")
                .and_then(|kind| kind.get(name))
                .copied()
                .unwrap_or_default()
        };
        let counted: u64 = ["completed", "failed", "cancelled", "expired"]
            .into_iter()
            .map(work)
            .sum();
        if counted != seen.results + seen.failed {
            let text = format!(
                "{counted} ends were counted, {} tasks have ended",
                seen.results + seen.failed
            );
            self.blame("some tasks ended twice, or without being counted", text);
        }
        let known = &self.evidence.known;
        let unanswered = known
            .tried
            .iter()
            .filter(|id| !known.accepted.contains_key(*id))
            .count();
        let most = known.accepted.len() as u64 + known.maybe + unanswered as u64;
        let (least, submitted) = (known.accepted.len() as u64, work("submitted"));
        let lost = self.report.lost_unsynced as u64;
        if submitted > most {
            self.blame("more tasks were added than were sent", format!("{submitted} of {most}"));
        }
        if submitted + lost < least {
            self.blame(
                "tasks were accepted that were not added",
                format!("{submitted} of {least}"),
            );
        }
    }

    /// Every accepted job has completed with the right result.
    fn jobs(&mut self) {
        let evidence = self.evidence;
        self.report.jobs = evidence.known.jobs.len();
        for (job, result) in evidence.known.jobs.iter().zip(&evidence.jobs) {
            let (id, right) = (&job.id, job.result);
            match result {
                Ok(result) if *result == right => {}
                Ok(result) => self.blame("a job has a wrong result", format!("{id}: {result}, not {right}")),
                Err(_) if self.may_be_undone_between(id, job.sent_ms, job.at_ms) => self.report.jobs_lost_unsynced += 1,
                Err(what) => self.blame("a job did not complete", format!("{id}: {what}")),
            }
        }
    }

    fn finish(mut self) -> Report {
        for recovery in &self.report.recoveries {
            if recovery.is_late() {
                self.report
                    .violations
                    .push(format!("not recovered within 10 s: {recovery}"));
            }
        }
        for (what, examples) in self.wrong {
            let some = examples[..examples.len().min(EXAMPLES)].join("; ");
            self.report
                .violations
                .push(format!("{what}: {} ({some})", examples.len()));
        }
        self.report
    }
}

/// From when on what Redis answered for may be gone with each death. One that puts off writing while it answers may be stuck in the
/// very write when it does not answer any more.
fn unkept_from(args: &Args, evidence: &Evidence) -> Vec<u64> {
    let Some(unkept) = args.profile.unkept() else {
        return vec![u64::MAX; evidence.deaths.len()];
    };
    let unkept_ms = u64::try_from(unkept.as_millis()).unwrap_or(0);
    let last_answer = |at_ms: u64| {
        let before = |times: &Vec<u64>| times[..times.partition_point(|at| *at <= at_ms)].last().copied();
        evidence.known.answers.iter().filter_map(before).max().unwrap_or(0)
    };
    let deaths = evidence.deaths.iter();
    deaths
        .map(|death| last_answer(death.at_ms).saturating_sub(unkept_ms))
        .collect()
}

fn total(seen: &Overview, name: &str) -> u64 {
    seen.totals.get(name).copied().unwrap_or_default()
}
