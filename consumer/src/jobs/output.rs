//! Where the output of a task goes: into Redis, or to the job's spill place.
//!
//! Invariant: a spilled file is written whole before anything refers to it, under a name that carries the fencing
//! token, so that two copies of a task never write the same file.

use bytes::Bytes;
use workyard_shared::job::{JobSpec, MAX_PART, Member, Part};

use super::book::JobView;
use super::spill::Spill;
use crate::handler::Failure;
use crate::stage::failed;

/// What decides about an output.
pub(super) struct Place<'a> {
    pub(super) view: &'a JobView,
    pub(super) spec: &'a JobSpec,
    pub(super) allowed: &'a Spill,
    pub(super) member: Member,
    /// Its output is what people read: it stays when intermediate data goes.
    pub(super) is_result: bool,
    pub(super) token: &'a str,
}

impl Place<'_> {
    /// Puts it there.
    pub(super) async fn put(&self, outputs: Vec<(u32, Vec<u8>)>) -> Result<Vec<(u32, Part)>, Failure> {
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
        let store = self.allowed.open(spill).map_err(failed)?;
        let mut parts = Vec::with_capacity(outputs.len());
        for (name, lines) in outputs {
            let path = self.path(name);
            let bytes = lines.len() as u64;
            store.write(&path, lines.into()).await.map_err(failed)?;
            parts.push((name, Part::Spilled { bytes, path }));
        }
        Ok(parts)
    }

    fn path(&self, name: u32) -> String {
        let (job, token) = (&self.view.id, self.token);
        match self.member {
            Member::Fold { .. } if self.is_result => format!("{job}/out/0-{token}"),
            Member::Map { chunk, .. } => format!("{job}/data/m{chunk}-{name}-{token}"),
            Member::Fold { level, node, .. } => format!("{job}/data/r{level}.{node}-{token}"),
            Member::Partition { partition, .. } => format!("{job}/out/{partition}-{token}"),
        }
    }
}

/// Reads what was spilled.
pub(super) async fn read_spilled(spec: &JobSpec, allowed: &Spill, path: &str) -> Result<Bytes, Failure> {
    let spill = spec
        .spill
        .as_deref()
        .ok_or_else(|| Failure::fatal("an output was spilled by a job without a spill place"))?;
    allowed.open(spill).map_err(failed)?.read(path).await.map_err(failed)
}
