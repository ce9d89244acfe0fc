//! The steps, and how often each is chosen.

use proptest::prelude::*;
use workyard_shared::broker::JobVerdict;
use workyard_shared::job::Form;

use super::model::Shape;
use super::world::CONSUMERS;

/// How one task is settled.
#[derive(Debug, Clone)]
pub struct Pick {
    pub which: u8,
    /// Among what anybody ever claimed; else among what the consumer holds.
    pub is_anyones: bool,
    pub verdict: JobVerdict,
}

/// One step.
#[derive(Debug, Clone)]
pub enum Op {
    Submit(Shape),
    Claim {
        by: usize,
        most: usize,
    },
    Settle {
        by: usize,
        picks: Vec<Pick>,
    },
    Resettle {
        by: usize,
    },
    Die {
        of: usize,
    },
    Promote,
    Tend,
    /// A reducer says that it begins.
    Reducing,
    Backup {
        picks: Vec<u8>,
    },
    Cancel,
    Retry,
    Delete,
}

fn shape() -> impl Strategy<Value = Shape> {
    let form = prop_oneof![
        3 => Just(Form::Fold { fan_in: Some(2) }),
        1 => Just(Form::Fold { fan_in: None }),
        2 => (1..3_u32).prop_map(|partitions| Form::Keyed { partitions }),
    ];
    let allowed = prop_oneof![Just(0_u64), Just(1_u64)];
    (form, 1..6_u64, allowed).prop_map(|(form, chunks, allowed)| Shape { form, chunks, allowed })
}

fn pick() -> impl Strategy<Value = Pick> {
    let verdict = prop_oneof![
        12 => Just(JobVerdict::Done),
        3 => Just(JobVerdict::Retry),
        2 => Just(JobVerdict::Final),
        1 => Just(JobVerdict::Drop),
    ];
    (any::<u8>(), prop::bool::weighted(0.1), verdict).prop_map(|(which, is_anyones, verdict)| Pick {
        which,
        is_anyones,
        verdict,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let by = 0..CONSUMERS;
    prop_oneof![
        2 => shape().prop_map(Op::Submit),
        14 => (by.clone(), 1..5_usize).prop_map(|(by, most)| Op::Claim { by, most }),
        18 => (by.clone(), prop::collection::vec(pick(), 1..6)).prop_map(|(by, picks)| Op::Settle { by, picks }),
        2 => by.clone().prop_map(|by| Op::Resettle { by }),
        4 => by.prop_map(|of| Op::Die { of }),
        4 => Just(Op::Promote),
        3 => Just(Op::Tend),
        2 => Just(Op::Reducing),
        3 => prop::collection::vec(any::<u8>(), 1..3).prop_map(|picks| Op::Backup { picks }),
        2 => Just(Op::Cancel),
        5 => Just(Op::Retry),
        2 => Just(Op::Delete),
    ]
}

/// A sequence that begins with a job.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    (shape(), prop::collection::vec(op(), 1..80)).prop_map(|(shape, mut ops)| {
        ops.insert(0, Op::Submit(shape));
        ops
    })
}
