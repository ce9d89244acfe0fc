//! Whole map and reduce tasks, without Redis.

mod keyed;
mod reading;
pub(crate) use reading::chunk_of;
mod typed;

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use workyard_shared::job::{Chunk, Form, Function, JobSpec};
use workyard_shared::name::Kind;

use super::{Stages, run_map, run_reduce};
use crate::config::Place;
use crate::{Context, Failure, Registry};

/// A job of these functions; `kind` or `kind {args}`.
pub(crate) fn spec(form: Form, map: &str, reduce: &str) -> JobSpec {
    let (map, reduce) = (function(map), function(reduce));
    let mut spec = JobSpec::new(form, map.kind.clone(), reduce.kind.clone());
    (spec.map, spec.reduce) = (map, reduce);
    spec
}

pub(crate) fn function(text: &str) -> Function {
    let (kind, args) = text.split_once(' ').unwrap_or((text, "{}"));
    Function {
        kind: Kind::new(kind).unwrap(),
        args: args.to_owned(),
    }
}

pub(crate) fn items(values: &Value) -> Chunk {
    serde_json::from_value(json!({ "items": values })).unwrap()
}

pub(crate) fn ctx() -> Context {
    Context::for_test("k", "j:m:0")
}

/// Stages of a registry that may read below a folder.
pub(crate) fn below(registry: &Registry, folder: &Path) -> Stages {
    registry.stages(&[Place::Folder(folder.to_owned())])
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Maps one chunk; partitions and their lines.
pub(crate) async fn map(stages: &Stages, spec: &JobSpec, chunk: Chunk) -> Result<Vec<(u32, String)>, Failure> {
    let parts = run_map(stages, spec, ctx(), chunk).await?;
    Ok(parts.into_iter().map(|(part, lines)| (part, text(lines))).collect())
}

/// The one part of a fold.
pub(crate) async fn map_fold(stages: &Stages, spec: &JobSpec, chunk: Chunk) -> Result<String, Failure> {
    let mut parts = map(stages, spec, chunk).await?;
    assert_eq!(parts.len(), 1);
    let (part, lines) = parts.remove(0);
    assert_eq!(part, 0);
    Ok(lines)
}

pub(crate) async fn reduce(stages: &Stages, spec: &JobSpec, inputs: &[&str]) -> Result<String, Failure> {
    let inputs = inputs
        .iter()
        .map(|lines| Bytes::copy_from_slice(lines.as_bytes()))
        .collect();
    run_reduce(stages, spec, ctx(), inputs, true).await.map(text)
}

/// A whole job of one partition over these chunks.
pub(crate) async fn job(stages: &Stages, spec: &JobSpec, chunks: Vec<Chunk>) -> Result<String, Failure> {
    let mut outputs = Vec::new();
    for chunk in chunks {
        for (part, lines) in map(stages, spec, chunk).await? {
            assert_eq!(part, 0, "the jobs of these tests have one partition");
            outputs.push(lines);
        }
    }
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    reduce(stages, spec, &outputs).await
}

pub(crate) fn one_partition() -> Form {
    Form::Keyed { partitions: 1 }
}
