//! Backup copies of slow tasks, when a phase is nearly done and slots are free.
//!
//! The idea is that of MapReduce (Dean and Ghemawat, OSDI 2004, 3.6): the last few tasks of a phase often wait for
//! one slow machine, and a second copy elsewhere costs little. Invariant: at most one copy per task; the function that
//! settles decides which of the two counts.

use std::time::Duration;

use workyard_shared::Error;
use workyard_shared::balance::Vitals;
use workyard_shared::broker::Queue;
use workyard_shared::job::{JobRecord, JobState, Member};
use workyard_shared::name::JobId;

/// How many times the median a task has run before it is slow ...
const TIMES_MEDIAN: u32 = 3;
/// ... and at least this long.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Run times without which there is no median to speak of.
const SAMPLES: usize = 3;

/// How long a task may run before it is slow; `None` while that cannot be said.
fn slow_after(mut runs: Vec<Duration>) -> Option<Duration> {
    if runs.len() < SAMPLES {
        return None;
    }
    runs.sort_unstable();
    Some((runs[runs.len() / 2] * TIMES_MEDIAN).max(AT_LEAST))
}

/// Whether at most a tenth of the phase (or one task) is left.
fn nearly_done(total: u64, left: u64) -> bool {
    left > 0 && left <= (total / 10).max(1)
}

/// What holds up the phase: how many tasks it has, and how many of these could run and have not ended. Nodes of a tree above
/// those that run do not count: a slow node would else be excused by all that wait for it.
fn progress(record: &JobRecord, members: &[String]) -> (u64, u64) {
    let phase = &record.maps;
    match record.state {
        JobState::Mapping => (phase.total, phase.total.saturating_sub(phase.done + phase.failed)),
        _ => {
            let reduces = members
                .iter()
                .filter(|name| name.starts_with("r:") && !name.ends_with(":b"));
            (record.reduces.total, reduces.count() as u64)
        }
    }
}

/// The members of the present phase that may get a copy.
fn candidates(record: &JobRecord, members: &[String]) -> Vec<Member> {
    let maps = record.state == JobState::Mapping;
    let backed_up = |member: &Member| members.contains(&format!("{member}:b"));
    members
        .iter()
        .filter(|name| !name.ends_with(":b"))
        .filter_map(|name| Member::parse(name))
        .filter(|member| member.is_map() == maps && !backed_up(member))
        .collect()
}

/// Adds copies for what is slow among these live members. How many.
pub(super) async fn back_up(queue: &Queue, job: &JobId, members: &[String]) -> Result<u64, Error> {
    let Some(record) = queue.job_record(job).await? else {
        return Ok(0);
    };
    let active = matches!(
        record.state,
        JobState::Mapping | JobState::Shuffling | JobState::Reducing
    );
    let (total, left) = progress(&record, members);
    if !active || !record.spec.backups || !nearly_done(total, left) {
        return Ok(0);
    }
    let Some(limit) = slow_after(queue.job_runs(job).await?) else {
        return Ok(0);
    };
    let members = candidates(&record, members);
    let slow = slow_ones(queue, job, record.epoch, &members, limit).await?;
    if slow.is_empty() || !has_free_slot(queue).await? {
        return Ok(0);
    }
    queue.job_backup(job, &slow).await
}

/// Whether a consumer has a slot that nothing runs in, as it said with its last beat. That one waits for work says less: with what
/// it claims ahead it may wait while all of its slots are taken.
async fn has_free_slot(queue: &Queue) -> Result<bool, Error> {
    let survey = queue.survey().await?;
    Ok(survey.reports.iter().any(|(_, report)| {
        // Of one that says nothing it is not known that it has none.
        serde_json::from_str::<Vitals>(report).map_or(true, |vitals| vitals.running < vitals.capacity)
    }))
}

/// Which of these have been held for longer than `limit`: a token is the time of its claim in us, or a little more.
async fn slow_ones(
    queue: &Queue,
    job: &JobId,
    epoch: u64,
    members: &[Member],
    limit: Duration,
) -> Result<Vec<String>, Error> {
    let ids: Vec<String> = members.iter().map(|member| member.task_id(job, epoch)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let now_us = queue.now_us().await?;
    let mut slow = Vec::new();
    for (consumer, _) in queue.consumers().await? {
        let tokens = queue.held_tokens(&consumer, &ids).await?;
        for (member, token) in members.iter().zip(tokens) {
            let held = token.map(|claimed| Duration::from_micros(now_us.saturating_sub(claimed)));
            if held.is_some_and(|held| held > limit) {
                slow.push(member.to_string());
            }
        }
    }
    Ok(slow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_three_medians_and_at_least_a_second() {
        let ms = |list: &[u64]| list.iter().map(|n| Duration::from_millis(*n)).collect::<Vec<_>>();
        assert_eq!(slow_after(ms(&[50, 60])), None);
        assert_eq!(slow_after(ms(&[50, 60, 40])), Some(AT_LEAST));
        assert_eq!(slow_after(ms(&[9000, 1, 2000, 2100, 1])), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_phase_is_nearly_done_when_a_tenth_or_one_task_is_left() {
        assert!(nearly_done(100, 10));
        assert!(!nearly_done(100, 11));
        assert!(nearly_done(3, 1));
        assert!(!nearly_done(3, 0));
        assert!(!nearly_done(0, 0));
    }
}
