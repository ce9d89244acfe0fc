//! Map-reduce in a consumer: tasks of jobs run, and jobs are looked after.
//!
//! docs/jobs.md is the specification. [`book`] knows the jobs whose tasks run here and stops what is not wanted
//! any more; [`member`] runs one map or reduce task; [`patient`] waits out outages for it, [`sealing`] opens what it reads and seals what it makes, [`output`] decides where its output goes, [`spill`] where it may, [`drafts`] what of it does not stay; [`tend`] and
//! [`straggler`] are the maintainer's chores. Invariant: nothing here decides about a job: the functions do.

mod book;
mod drafts;
mod inputs;
mod member;
mod output;
mod patient;
mod sealing;
mod spill;
mod straggler;
mod tend;

pub(crate) use book::JobBook;
pub(crate) use member::{MemberEnd, MemberTask};
pub(crate) use sealing::Sealing;
pub(crate) use spill::Spill;
pub(crate) use tend::JobChores;
