//! What this consumer knows of the jobs whose tasks it runs, and the loop that keeps it true.
//!
//! Four times a second, for each job with tasks that run here: has it ended, is each of them still wanted? What is not
//! is stopped. So a cancel, a failed sibling or a faster copy reaches a running function within a second,
//! whatever message was lost; nothing depends on it, since the fence refuses the output anyway.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use workyard_shared::Error;
use workyard_shared::broker::Queue;
use workyard_shared::job::{JobRecord, Member};
use workyard_shared::name::JobId;

use super::spill::Spill;
use crate::stage::Stages;

/// Pause between looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a job without tasks here is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Members asked for in one look.
const MOST_ASKED: usize = 1000;

/// One job.
pub(crate) struct JobView {
    pub(crate) id: JobId,
    epoch: u64,
    record: OnceCell<Option<Arc<JobRecord>>>,
    bytes: AtomicU64,
    full: AtomicBool,
    running: Mutex<HashMap<Member, CancellationToken>>,
    idle_since: Mutex<Option<Instant>>,
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
            idle.is_none_or(|since| since.elapsed() < FORGET_AFTER)
        });
        views.values().cloned().collect()
    }

    async fn look(&self, view: &Arc<JobView>) -> Result<(), Error> {
        let members = view.members();
        let names: Vec<String> = members.iter().map(Member::to_string).collect();
        let idle = names.is_empty();
        let pulse = self.queue.job_pulse(&view.id, &names).await?;
        view.bytes.store(pulse.bytes, Ordering::Relaxed);
        view.full.store(pulse.full, Ordering::Relaxed);
        let over = pulse.epoch != view.epoch || pulse.state.is_none_or(|state| state.is_terminal());
        if over && idle {
            self.views
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&(view.id.clone(), view.epoch));
        } else if over {
            view.stop(|_| true);
        } else {
            let gone = |member: &Member| {
                let at = members.iter().position(|m| m == member);
                at.is_some_and(|at| pulse.live.get(at) == Some(&false))
            };
            view.stop(gone);
        }
        Ok(())
    }
}
