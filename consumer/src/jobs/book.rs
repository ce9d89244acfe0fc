//! What this consumer knows of the jobs whose tasks it runs, and the loop that keeps it true.
//!
//! Four times a second, for each job with tasks that run here: has it ended, is each of them still wanted? What is not
//! is stopped. So a cancel, a failed sibling or a faster copy reaches a running function within a second,
//! whatever message was lost; nothing depends on it, since the fence refuses the output anyway. The same look finds the
//! spilled files that will never count, and removes them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use workyard_shared::Error;
use workyard_shared::broker::Queue;
use workyard_shared::job::{JobRecord, Member};
use workyard_shared::name::JobId;

use super::drafts::{self, Draft, Drafts};
use super::spill::Spill;
use crate::stage::Stages;

/// Pause between looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a job without tasks here is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Members asked for in one look.
const MOST_ASKED: usize = 1000;
/// Longest time for the last look, when the consumer leaves.
const CLOSING: Duration = Duration::from_secs(5);

/// One job.
pub(crate) struct JobView {
    pub(crate) id: JobId,
    epoch: u64,
    record: OnceCell<Option<Arc<JobRecord>>>,
    bytes: AtomicU64,
    full: AtomicBool,
    running: Mutex<HashMap<Member, CancellationToken>>,
    idle_since: Mutex<Option<Instant>>,
    /// Spilled files that do not count yet.
    pub(super) drafts: Drafts,
}

impl JobView {
    fn new(id: JobId, epoch: u64) -> Self {
        Self {
            id,
            epoch,
            record: OnceCell::new(),
            bytes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            running: Mutex::default(),
            idle_since: Mutex::new(Some(Instant::now())),
            drafts: Drafts::default(),
        }
    }

    /// Its record as it was when its first task came here: the spec never changes. `None`: the job is gone.
    pub(crate) async fn record(&self, queue: &Queue) -> Result<Option<Arc<JobRecord>>, Error> {
        let record = self.record.get_or_try_init(|| async {
            let record = queue.job_record(&self.id).await?;
            if let Some(record) = &record {
                self.bytes.store(record.bytes, Ordering::Relaxed);
                self.full.store(record.full, Ordering::Relaxed);
            }
            Ok::<_, Error>(record.map(Arc::new))
        });
        record.await.cloned()
    }

    /// Whether so many more bytes would go over the budget, as far as is known here.
    pub(crate) fn is_over(&self, more: usize, budget: u64) -> bool {
        self.full.load(Ordering::Relaxed) || self.bytes.load(Ordering::Relaxed) + more as u64 > budget
    }

    fn members(&self) -> Vec<Member> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.keys().copied().take(MOST_ASKED).collect()
    }

    fn stop(&self, which: impl Fn(&Member) -> bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, cancel) in running.iter().filter(|(member, _)| which(member)) {
            cancel.cancel();
        }
    }
}

/// A member that runs here, until this is dropped.
pub(crate) struct Running {
    view: Arc<JobView>,
    member: Member,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.view.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.member);
        if running.is_empty() {
            *self.view.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

/// The jobs of one queue, as this consumer knows them.
pub(crate) struct JobBook {
    pub(crate) queue: Queue,
    /// The same queue, for reading the data of jobs.
    pub(crate) bulk: Queue,
    pub(crate) stages: Arc<Stages>,
    pub(crate) spill: Arc<Spill>,
    /// By job and start: what is known of one start says nothing about the next.
    views: Mutex<HashMap<(JobId, u64), Arc<JobView>>>,
}

impl JobBook {
    /// An empty book, looked after until `stop`.
    pub(crate) fn open(
        queue: Queue,
        bulk: Queue,
        stages: Arc<Stages>,
        spill: Arc<Spill>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let book = Arc::new(Self {
            queue,
            bulk,
            stages,
            spill,
            views: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&book).run(stop));
        book
    }

    /// Writes down that a member runs here.
    pub(crate) fn begin(
        &self,
        job: &JobId,
        epoch: u64,
        member: Member,
        cancel: &CancellationToken,
    ) -> (Arc<JobView>, Running) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views
            .entry((job.clone(), epoch))
            .or_insert_with(|| Arc::new(JobView::new(job.clone(), epoch)));
        let mut running = view.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(member, cancel.clone());
        *view.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(running);
        let view = Arc::clone(view);
        let running = Running {
            view: Arc::clone(&view),
            member,
        };
        (view, running)
    }

    async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for view in self.known() {
                // An outage is told by the lane; here the next look is soon.
                self.look(&view).await.ok();
            }
        }
    }

    /// Forgets jobs that have had no task here for a while: one of the same name may come.
    fn known(&self) -> Vec<Arc<JobView>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|_, view| {
            let idle = *view.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            idle.is_none_or(|since| since.elapsed() < FORGET_AFTER) || !view.drafts.is_empty()
        });
        views.values().cloned().collect()
    }

    async fn look(self: &Arc<Self>, view: &Arc<JobView>) -> Result<(), Error> {
        let mut members = view.members();
        let idle = members.is_empty();
        members.extend(view.drafts.members().into_iter().take(MOST_ASKED));
        let names: Vec<String> = members.iter().map(Member::to_string).collect();
        let pulse = self.queue.job_pulse(&view.id, &names).await?;
        view.bytes.store(pulse.bytes, Ordering::Relaxed);
        view.full.store(pulse.full, Ordering::Relaxed);
        let over = pulse.epoch != view.epoch || pulse.state.is_none_or(|state| state.is_terminal());
        // One that has gone does not come again in this start of the job: whatever is settled of it now is refused.
        let live: HashMap<Member, bool> = members.into_iter().zip(pulse.live).collect();
        let gone = |member: &Member| over || live.get(member) == Some(&false);
        view.stop(gone);
        let decided = view.drafts.take(gone);
        if !decided.is_empty() {
            // Not awaited: a slow store must not keep other jobs from hearing of their end.
            tokio::spawn(Arc::clone(self).sweep(Arc::clone(view), decided));
        } else if over && idle && view.drafts.is_empty() {
            self.views
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&(view.id.clone(), view.epoch));
        }
        Ok(())
    }

    /// Forgets files that count, removes the others.
    async fn sweep(self: Arc<Self>, view: Arc<JobView>, decided: Vec<Draft>) {
        let Ok(counted) = drafts::counted(&self.queue, &view.id, &decided).await else {
            // An outage is told by the lane; of damaged keys the maintainer complains.
            decided.iter().for_each(|draft| {
                view.drafts.put_back(draft);
            });
            return;
        };
        for (draft, counts) in decided.iter().zip(counted) {
            let removed = match counts {
                true => Ok(()),
                false => self.remove(&view, &draft.path).await,
            };
            match removed {
                Ok(()) => view.drafts.forget(draft),
                Err(why) if view.drafts.put_back(draft) => {
                    debug!(job = %view.id, path = draft.path, %why, "a spilled file that does not count is still there");
                }
                Err(why) => {
                    let (job, path) = (&view.id, &draft.path);
                    warn!(%job, path, %why, "a spilled file of job {job} that does not count stays until the job goes: {path}: {why}");
                }
            }
        }
    }

    async fn remove(&self, view: &JobView, path: &str) -> Result<(), String> {
        let record = view.record(&self.queue).await.map_err(|e| e.to_string())?;
        let Some(place) = record.as_ref().and_then(|record| record.spec.spill.as_deref()) else {
            return Ok(());
        };
        let store = self.spill.open(place).map_err(|e| e.to_string())?;
        store.remove(path).await.map_err(|e| e.to_string())?;
        debug!(job = %view.id, path, "removed a spilled file that does not count");
        Ok(())
    }

    /// The last look, when all that ran here has ended: nobody comes back for these files.
    pub(crate) async fn close(self: &Arc<Self>) {
        let looks = async {
            for view in self.known() {
                if view.drafts.is_empty() {
                    continue;
                }
                view.drafts.whole().await;
                if self.look(&view).await.is_ok() {
                    view.drafts.quiet().await;
                }
            }
        };
        if tokio::time::timeout(CLOSING, looks).await.is_err() {
            warn!(queue = %self.queue.name(), "spilled files that do not count may stay until their jobs go");
        }
    }
}
