//! The outputs that a reduce reads: which there are, and where.
//!
//! Invariant: they come in the order of their chunks. One that is not there is left out only if its chunk was lost or
//! its map left nothing; a result that lacks one that is gone would be wrong, so the reduce fails. That it is not there is only
//! believed of the server that handed out the task.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use workyard_shared::broker::Absent;
use workyard_shared::job::{DATA_GONE, Form, JobRecord, Member, Part};
use workyard_shared::name::JobId;

use super::book::JobBook;
use super::output;
use super::patient::patiently;
use super::sealing::SealedJob;
use crate::handler::Failure;

/// Outputs asked for in one call: bounded, since each may have 16 MiB.
const AT_ONCE: usize = 256;

/// Names of the stored outputs that `member` reads.
pub(super) fn names(record: &JobRecord, member: Member) -> Vec<String> {
    match (record.spec.form, member) {
        (Form::Fold { fan_in }, Member::Fold { level, node, .. }) => {
            let fan = fan_in.map_or(record.maps.total, u64::from).max(1);
            let below = (1..level).fold(record.maps.total, |size, _| size.div_ceil(fan));
            let (first, end) = (node.saturating_mul(fan), (node + 1).saturating_mul(fan).min(below));
            (first..end).map(|child| format!("{}.{child}", level - 1)).collect()
        }
        (Form::Keyed { .. }, Member::Partition { partition, .. }) => (0..record.maps.total)
            .map(|chunk| format!("{partition}.{chunk}"))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether the output of `member` is the job's result, or a part of it.
pub(super) fn is_result(record: &JobRecord, member: Member) -> bool {
    match (record.spec.form, member) {
        (Form::Fold { fan_in }, Member::Fold { level, .. }) => {
            let fan = fan_in.map_or(record.maps.total, u64::from).max(1);
            (1..=level).fold(record.maps.total, |size, _| size.div_ceil(fan)) <= 1
        }
        (_, Member::Partition { .. }) => true,
        _ => false,
    }
}

/// Reads them, until `stop`. `None`: the task is not wanted any more.
pub(super) async fn fetch(
    book: &JobBook,
    job: &JobId,
    record: &JobRecord,
    member: Member,
    sealed: &SealedJob<'_>,
    stop: &CancellationToken,
) -> Result<Option<Vec<Bytes>>, Failure> {
    let mut inputs = Vec::new();
    for names in names(record, member).chunks(AT_ONCE) {
        let mut parts = patiently(stop, || book.bulk.job_data(job, names)).await?;
        // The connection for bulk may still go to a former master that lives on. If an output is gone there, or never
        // came, nobody would refuse a result that lacks it: the task is the new master's.
        if parts.iter().any(Option::is_none) {
            parts = patiently(stop, || book.queue.job_data(job, names)).await?;
        }
        let absent = names.iter().zip(&parts).filter(|(_, part)| part.is_none());
        let absent: Vec<String> = absent.map(|(name, _)| name.clone()).collect();
        if !absent.is_empty() {
            let why = || {
                book.queue
                    .job_absent(job, record.epoch, member, record.spec.form, &absent)
            };
            match patiently(stop, why).await? {
                Absent::Unwanted => return Ok(None),
                Absent::Gone(gone) if gone.is_empty() => {}
                Absent::Gone(gone) => return Err(is_gone(record, &absent, &gone)),
            }
        }
        for (name, part) in names.iter().zip(parts) {
            let stored = match part {
                None => continue,
                Some(Part::Inline(lines)) => lines,
                Some(Part::Spilled { bytes, path }) => {
                    output::read_spilled(&record.spec, &book.spill, &path, bytes).await?
                }
            };
            inputs.push(sealed.input(name, stored).await?);
        }
    }
    Ok(Some(inputs))
}

/// For good: what made it is done, and nothing makes it again.
fn is_gone(record: &JobRecord, absent: &[String], gone: &[usize]) -> Failure {
    let name = gone.first().and_then(|at| absent.get(*at)).map_or("", String::as_str);
    let of = match (record.spec.form, name.split_once('.')) {
        (Form::Fold { .. }, Some(("0", chunk))) => format!("that of chunk {chunk}"),
        (Form::Keyed { .. }, Some((partition, chunk))) => format!("that of chunk {chunk} for partition {partition}"),
        _ => format!("that of reduce r:{name}"),
    };
    let others = match gone.len() {
        1 => String::new(),
        n => format!(", and {} others", n - 1),
    };
    Failure::fatal(format!(
        "{DATA_GONE}: {of} (`{name}` of the job's data){others}; what is done does not run again"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use workyard_shared::job::JobSpec;
    use workyard_shared::name::Kind;

    use super::*;

    fn record(form: Form, maps: u64) -> JobRecord {
        let spec = JobSpec::new(form, Kind::new("m").unwrap(), Kind::new("r").unwrap());
        let mut fields: HashMap<String, String> =
            spec.to_fields().into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        for (name, value) in [
            ("v", "1".to_owned()),
            ("state", "mapping".to_owned()),
            ("maps", maps.to_string()),
        ] {
            fields.insert(name.to_owned(), value);
        }
        JobRecord::from_fields(&fields).unwrap()
    }

    fn fold(level: u32, node: u64) -> Member {
        Member::Fold {
            level,
            node,
            backup: false,
        }
    }

    #[test]
    fn a_node_reads_its_children_in_order_and_the_last_of_a_level_fewer() {
        let tree = record(Form::Fold { fan_in: Some(3) }, 8);
        assert_eq!(names(&tree, fold(1, 0)), ["0.0", "0.1", "0.2"]);
        assert_eq!(names(&tree, fold(1, 2)), ["0.6", "0.7"]);
        assert_eq!(names(&tree, fold(2, 0)), ["1.0", "1.1", "1.2"]);
        let flat = record(Form::Fold { fan_in: None }, 4);
        assert_eq!(names(&flat, fold(1, 0)), ["0.0", "0.1", "0.2", "0.3"]);
        let one = record(Form::Fold { fan_in: None }, 1);
        assert_eq!(names(&one, fold(1, 0)), ["0.0"]);
    }

    #[test]
    fn the_top_node_of_a_tree_is_the_result_and_no_other() {
        let tree = record(Form::Fold { fan_in: Some(3) }, 8);
        assert!(is_result(&tree, fold(2, 0)));
        assert!(
            !is_result(&tree, fold(1, 0))
                && !is_result(
                    &tree,
                    Member::Map {
                        chunk: 0,
                        backup: false
                    }
                )
        );
        for maps in [1, 7] {
            assert!(is_result(&record(Form::Fold { fan_in: None }, maps), fold(1, 0)));
        }
    }

    #[test]
    fn a_partition_reads_its_part_of_every_chunk() {
        let keyed = record(Form::Keyed { partitions: 4 }, 3);
        let member = Member::Partition {
            partition: 2,
            backup: true,
        };
        assert_eq!(names(&keyed, member), ["2.0", "2.1", "2.2"]);
    }
}
