//! The Workyard protocol: what producers and consumers agree on.
//!
//! Reading order: [`name`], [`keys`] and [`options`] say what there is; [`envelope`] and [`record`]
//! are a task outside and inside Redis, [`trace_context`] says which trace it belongs to, [`crypto`] hides and signs it, [`job`] is a map-reduce job; [`functions`] is the Lua library that makes every
//! transition; [`acl`] says who may call what; [`link`] is the connection; [`broker`] has one method per function.
//! [`balance`] judges consumers by what they measure, and chooses among them.
//! [`store`] reads and writes the files that jobs refer to. [`metrics`] names every figure, [`http`] serves them.

pub mod limits;
pub mod overload;
pub mod error;
pub mod duration;
pub mod near;
pub mod secret;
pub mod name;
pub mod keys;
pub mod one_line;
pub mod options;
pub mod settings;
pub mod trace_context;
pub mod envelope;
pub mod crypto;
pub mod record;
pub mod job;
pub mod balance;
pub mod schema;
pub mod functions;
pub mod acl;
pub mod link;
pub mod broker;
pub mod check;
pub mod outage;
mod remedy;
pub mod submit;
pub mod store;
pub mod managed;
pub mod metrics;
pub mod http;

pub use error::{Error, Outage};
