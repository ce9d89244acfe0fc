//! stub
use crate::{Context, Failure};
use bytes::Bytes;
use workyard_shared::job::{Chunk, JobSpec};
pub(crate) struct Stages;
impl Stages {
    pub(crate) fn knows(&self, _kind: &str) -> bool {
        true
    }
    pub(crate) fn may_spill(&self, _url: &str) -> bool {
        true
    }
}
pub(crate) async fn run_map(
    _stages: &Stages,
    _spec: &JobSpec,
    _ctx: Context,
    _chunk: Chunk,
) -> Result<Vec<(u32, Vec<u8>)>, Failure> {
    Ok(Vec::new())
}
pub(crate) async fn run_reduce(
    _stages: &Stages,
    _spec: &JobSpec,
    _ctx: Context,
    _inputs: Vec<Bytes>,
) -> Result<Vec<u8>, Failure> {
    Ok(Vec::new())
}
