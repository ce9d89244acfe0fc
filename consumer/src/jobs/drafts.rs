//! Spilled files of one start of a job that nobody has counted yet.
//!
//! Invariant: a file is noted before it is begun, and forgotten when Redis refers to it or when it is removed. So what a
//! task wrote that was stopped, outrun, timed out or frozen over the end of its job does not stay, whatever became of its
//! outcome on the way: the settled state in Redis decides, not an answer. Only the death of this process between writing
//! and looking leaves a file to the end of the job.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use workyard_shared::Error;
use workyard_shared::broker::Queue;
use workyard_shared::job::{Member, OutputName, Part};
use workyard_shared::name::JobId;

/// Pause behind a removal that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many tries, about half an hour, the file is left to the end of the job.
const MOST_TRIES: u32 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Being written: what is removed now would come again.
    Begun,
    /// Whole; whether it counts is decided when its task is settled.
    Written,
    /// It never counts.
    Discarded,
    /// Somebody is at it.
    Swept,
}

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) path: String,
    member: Member,
    place: OutputName,
    state: State,
    tries: u32,
    not_before: Option<Instant>,
}

impl Draft {
    pub(super) fn new(path: String, member: Member, place: OutputName) -> Self {
        Self {
            path,
            member,
            place,
            state: State::Begun,
            tries: 0,
            not_before: None,
        }
    }
}

/// The files, by their paths.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    files: Mutex<HashMap<String, Draft>>,
    changed: Notify,
}

impl Drafts {
    fn files(&self) -> MutexGuard<'_, HashMap<String, Draft>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes files that will be written.
    pub(super) fn begin(&self, drafts: &[Draft]) {
        let noted = drafts.iter().map(|draft| (draft.path.clone(), draft.clone()));
        self.files().extend(noted);
    }

    /// Nothing is written to them any more. Whether their paths were told to whoever settles the task: else they never count.
    pub(super) fn end(&self, drafts: &[Draft], told: bool) {
        let mut files = self.files();
        for draft in drafts {
            if let Some(file) = files.get_mut(&draft.path) {
                file.state = if told { State::Written } else { State::Discarded };
            }
        }
        drop(files);
        self.changed.notify_waiters();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// Whose files are whole.
    pub(super) fn members(&self) -> HashSet<Member> {
        let files = self.files();
        let whole = files.values().filter(|file| file.state == State::Written);
        whole.map(|file| file.member).collect()
    }

    /// Takes those that are to be looked at: never to count, or of a task whose end is decided.
    pub(super) fn take(&self, decided: impl Fn(&Member) -> bool) -> Vec<Draft> {
        let (mut files, now) = (self.files(), Instant::now());
        let due = files.values_mut().filter(|file| match file.state {
            State::Discarded => file.not_before.is_none_or(|at| at <= now),
            State::Written => decided(&file.member),
            State::Begun | State::Swept => false,
        });
        due.map(|file| {
            file.state = State::Swept;
            file.clone()
        })
        .collect()
    }

    /// One that counts, or is removed.
    pub(super) fn forget(&self, draft: &Draft) {
        self.files().remove(&draft.path);
        self.changed.notify_waiters();
    }

    /// One that could not be removed, or not be asked for: later again. False: not any more.
    pub(super) fn put_back(&self, draft: &Draft) -> bool {
        let mut files = self.files();
        let again = draft.tries < MOST_TRIES;
        if again {
            let pause = FIRST_PAUSE.saturating_mul(1 << draft.tries.min(16)).min(LONGEST_PAUSE);
            if let Some(file) = files.get_mut(&draft.path) {
                file.state = State::Discarded;
                file.tries += 1;
                file.not_before = Some(Instant::now() + pause);
            }
        } else {
            files.remove(&draft.path);
        }
        drop(files);
        self.changed.notify_waiters();
        again
    }

    /// Waits until nothing is being written.
    pub(super) async fn whole(&self) {
        self.until(|file| file.state != State::Begun).await;
    }

    /// Waits until whatever was taken is dealt with.
    pub(super) async fn quiet(&self) {
        self.until(|file| file.state != State::Swept).await;
    }

    async fn until(&self, is_so: impl Fn(&Draft) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that no change between is missed.
            changed.as_mut().enable();
            if self.files().values().all(&is_so) {
                return;
            }
            changed.await;
        }
    }
}

/// Which of them Redis refers to.
pub(super) async fn counted(queue: &Queue, job: &JobId, drafts: &[Draft]) -> Result<Vec<bool>, Error> {
    let names: Vec<String> = drafts.iter().filter_map(|draft| draft.data_name()).collect();
    let mut data = queue.job_data(job, &names).await?.into_iter();
    let mut counted = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let part = match draft.place {
            OutputName::Data(_) => data.next().flatten(),
            OutputName::Result(part) => queue.job_output(job, part).await?,
        };
        counted.push(matches!(part, Some(Part::Spilled { path, .. }) if path == draft.path));
    }
    Ok(counted)
}

impl Draft {
    fn data_name(&self) -> Option<String> {
        match &self.place {
            OutputName::Data(name) => Some(name.clone()),
            OutputName::Result(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(chunk: u64) -> Draft {
        let member = Member::Map { chunk, backup: false };
        Draft::new(
            format!("j/data/m{chunk}-0-7"),
            member,
            OutputName::Data(format!("0.{chunk}")),
        )
    }

    fn paths(drafts: &[Draft]) -> Vec<&str> {
        drafts.iter().map(|draft| draft.path.as_str()).collect()
    }

    #[test]
    fn a_file_is_looked_at_when_it_is_whole_and_its_end_decided_and_only_once_at_a_time() {
        let (drafts, one) = (Drafts::default(), [draft(1)]);
        drafts.begin(&one);
        assert!(drafts.take(|_| true).is_empty(), "it is being written");
        drafts.end(&one, true);
        assert!(drafts.take(|_| false).is_empty());
        assert_eq!(paths(&drafts.take(|_| true)), ["j/data/m1-0-7"]);
        assert!(drafts.take(|_| true).is_empty() && !drafts.is_empty());
        drafts.forget(&one[0]);
        assert!(drafts.is_empty());
    }

    #[test]
    fn one_that_nobody_heard_of_never_counts_and_is_tried_again_later() {
        let (drafts, one) = (Drafts::default(), [draft(1)]);
        drafts.begin(&one);
        drafts.end(&one, false);
        let taken = drafts.take(|_| false);
        assert_eq!(taken.len(), 1);
        assert!(drafts.put_back(&taken[0]));
        assert!(drafts.take(|_| true).is_empty(), "not at once");
        let last = Draft {
            tries: MOST_TRIES,
            ..taken[0].clone()
        };
        assert!(!drafts.put_back(&last) && drafts.is_empty());
    }
}
