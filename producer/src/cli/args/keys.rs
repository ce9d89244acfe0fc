//! Arguments of `keys`.
//!
//! Nothing here acts.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use workyard_producer::KeyId;
use workyard_shared::crypto::Use;

use crate::cli::value;

pub(super) const KEYS_HELP: &str = "\
A ring is a text file with mode 0600. Its `encrypt` keys seal payloads and results, its `sign` keys sign tasks, its `verify`
keys are the public halves of others' sign keys. The current key of a use makes, all of them open and verify. To exchange a
key: add one everywhere (keys new), make it current (keys use), and remove the old one (keys remove) when nothing that it
sealed is left: results, dead letters and delayed tasks. Consumers read their ring at their start and at SIGHUP.

Examples:
  workyard keys new workyard.keys                      # a ring with an encrypt key, or one more key in it
  workyard keys new signer.keys --use sign --id shop-1
  workyard keys public signer.keys >> consumer.keys    # what a consumer of signed tasks needs
  workyard keys use workyard.keys 2026-11
  workyard enqueue send '{\"to\":\"ada\"}' --keys workyard.keys --wait";

/// What to do with a ring.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Add a new key; makes the file if there is none
    New(NewKeyArgs),
    /// Make a key the current one of its use
    Use(KeyArgs),
    /// Remove a key that is not current
    Remove(KeyArgs),
    /// List ids and uses, never keys
    List(RingArgs),
    /// Print the `verify` lines for the rings of those who only verify
    Public(RingArgs),
}

/// A ring.
#[derive(Debug, Args)]
pub(crate) struct RingArgs {
    /// The ring
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

/// Arguments of `keys new`.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// The ring
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Its id [default: today's date]
    #[arg(long, value_parser = value::named::<KeyId>, value_name = "ID")]
    pub(crate) id: Option<KeyId>,
    /// What it is for
    #[arg(long = "use", value_enum, default_value_t = UseArg::Encrypt, value_name = "USE")]
    pub(crate) usage: UseArg,
}

/// A key of a ring.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The ring
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The id of the key
    #[arg(value_parser = value::named::<KeyId>)]
    pub(crate) id: KeyId,
    /// Which of two keys with this id
    #[arg(long = "use", value_enum, value_name = "USE")]
    pub(crate) usage: Option<UseArg>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UseArg {
    /// Seal and open payloads and results
    Encrypt,
    /// Sign tasks
    Sign,
}

impl From<UseArg> for Use {
    fn from(usage: UseArg) -> Self {
        match usage {
            UseArg::Encrypt => Self::Encrypt,
            UseArg::Sign => Self::Sign,
        }
    }
}
