//! Map-reduce jobs: planned and submitted, watched, operated, and their results read.
//!
//! docs/jobs.md is the specification. Reading order: [`builder`] is what a caller says; [`spool`], [`scan`], [`source`], [`csv_ends`], [`cut`],
//! [`pack`] and [`size`] make chunks of the input; [`identity`] knows the same call again; [`submit`] sends them; [`handle`] is a job that is there, [`output`] and
//! [`merge`] its result. It runs nothing of a job.

mod spool;
mod scan;
mod walk;
mod source;
mod csv_ends;
mod cut;
mod pack;
mod files;
mod size;
mod input;
mod identity;
mod submit;
mod builder;
mod output;
mod merge;
mod handle;

pub use builder::MapReduce;
pub use files::FileFormat;
pub use handle::JobHandle;
pub use merge::Pairs;
pub use scan::ItemFormat;
