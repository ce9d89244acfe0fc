//! Where the output of a task goes: into Redis, or to the job's spill place.
//!
//! Invariant: a spilled file is written whole before anything refers to it, under a name that carries the fencing
//! token, so that two copies of a task never write the same file. It is a [draft](super::drafts) until it counts.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use workyard_shared::job::{Form, JobSpec, MAX_PART, Member, OutputName, Part, SPILLED_DATA_GONE};
use workyard_shared::keys::Keys;
use workyard_shared::store::{Store, StoreError};

use super::book::JobView;
use super::drafts::Draft;
use super::sealing::SealedJob;
use super::spill::Spill;
use crate::handler::Failure;
use crate::stage::failed;

/// What decides about an output.
pub(super) struct Place<'a> {
    pub(super) view: &'a Arc<JobView>,
    pub(super) spec: &'a JobSpec,
    pub(super) allowed: &'a Spill,
    pub(super) member: Member,
    pub(super) keys: &'a Keys,
    /// Its output is what people read: it stays when intermediate data goes.
    pub(super) is_result: bool,
    pub(super) token: &'a str,
    /// The task is not wanted any more.
    pub(super) stop: &'a CancellationToken,
    pub(super) sealed: &'a SealedJob<'a>,
}

impl Place<'_> {
    /// Puts it there.
    pub(super) async fn put(&self, outputs: Vec<(u32, Vec<u8>)>) -> Result<Vec<(u32, Part)>, Failure> {
        let outputs = self.sealed.outputs(outputs, |name| self.place(name)).await?;
        let size: usize = outputs.iter().map(|(_, lines)| lines.len() + 1).sum();
        let largest = outputs.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
        let over = largest > MAX_PART || self.view.is_over(size, self.spec.budget);
        let Some(spill) = self.spec.spill.as_deref().filter(|_| over) else {
            if largest > MAX_PART {
                return Err(Failure::fatal(format!(
                    "the output has a part of {largest} bytes, more than the {MAX_PART} that Redis keeps; give the job a \
                     spill place, smaller chunks or more partitions"
                )));
            }
            let inline = |(name, lines)| (name, Part::Inline(Bytes::from(lines)));
            return Ok(outputs.into_iter().map(inline).collect());
        };
        let store = self.allowed.open_for_task(spill)?;
        let folder = self.keys.spill_folder(&self.view.id);
        let (mut drafts, mut contents) = (Vec::new(), Vec::new());
        for (name, lines) in outputs {
            drafts.push(Draft::new(self.path(&folder, name), self.member, self.place(name)));
            contents.push((name, Bytes::from(lines)));
        }
        let writer = Writer::begin(self.view, drafts);
        let (tell, told) = oneshot::channel();
        // Not a part of this future, which ends at once when the task is stopped: a write goes on then, and what it has
        // made can only be removed behind it.
        tokio::spawn(writer.write(store, contents, self.stop.clone(), tell));
        told.await
            .map_err(|_| Failure::retry("stopped before its output was written"))?
            .map_err(failed)
    }

    /// Where Redis has it if it counts.
    fn place(&self, name: u32) -> OutputName {
        match (self.member, self.spec.form) {
            (Member::Map { chunk, .. }, Form::Fold { .. }) => OutputName::Data(format!("0.{chunk}")),
            (Member::Map { chunk, .. }, Form::Keyed { .. }) => OutputName::Data(format!("{name}.{chunk}")),
            (Member::Fold { .. }, _) if self.is_result => OutputName::Result(0),
            (Member::Fold { level, node, .. }, _) => OutputName::Data(format!("{level}.{node}")),
            (Member::Partition { partition, .. }, _) => OutputName::Result(partition),
        }
    }

    fn path(&self, folder: &str, name: u32) -> String {
        let token = self.token;
        match self.member {
            Member::Fold { .. } if self.is_result => format!("{folder}/out/0-{token}"),
            Member::Map { chunk, .. } => format!("{folder}/data/m{chunk}-{name}-{token}"),
            Member::Fold { level, node, .. } => format!("{folder}/data/r{level}.{node}-{token}"),
            Member::Partition { partition, .. } => format!("{folder}/out/{partition}-{token}"),
        }
    }
}

type Told = oneshot::Sender<Result<Vec<(u32, Part)>, StoreError>>;

/// Writes the files of one task.
struct Writer {
    view: Arc<JobView>,
    drafts: Vec<Draft>,
    told: bool,
}

impl Writer {
    fn begin(view: &Arc<JobView>, drafts: Vec<Draft>) -> Self {
        view.drafts.begin(&drafts);
        Self {
            view: Arc::clone(view),
            drafts,
            told: false,
        }
    }

    async fn write(mut self, store: Store, contents: Vec<(u32, Bytes)>, stop: CancellationToken, tell: Told) {
        let mut parts = Vec::with_capacity(contents.len());
        for (draft, (name, lines)) in self.drafts.iter().zip(contents) {
            if stop.is_cancelled() {
                return;
            }
            let bytes = lines.len() as u64;
            if let Err(error) = store.write(&draft.path, lines).await {
                // Nobody to hear of it has stopped waiting.
                tell.send(Err(error)).ok();
                return;
            }
            let path = draft.path.clone();
            parts.push((name, Part::Spilled { bytes, path }));
        }
        self.told = tell.send(Ok(parts)).is_ok();
    }
}

/// However it ended.
impl Drop for Writer {
    fn drop(&mut self) {
        self.view.drafts.end(&self.drafts, self.told);
    }
}

/// Reads what was spilled: all its bytes, no more and no fewer.
pub(super) async fn read_spilled(spec: &JobSpec, allowed: &Spill, path: &str, bytes: u64) -> Result<Bytes, Failure> {
    let spill = spec
        .spill
        .as_deref()
        .ok_or_else(|| Failure::fatal("an output was spilled by a job without a spill place"))?;
    let read = allowed.open_for_task(spill)?.read_whole(path, bytes).await;
    read.map_err(|error| match error {
        // Said so that whoever reads it knows what a retry of the job cannot do. It may come: a mount that is late.
        StoreError::Missing { .. } => Failure::retry(format!("{SPILLED_DATA_GONE}: {error}")),
        // The same of one that a server shows late.
        StoreError::Damaged { .. } => Failure::retry(error.to_string()),
        other => failed(other),
    })
}
