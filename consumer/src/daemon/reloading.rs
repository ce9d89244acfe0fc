//! What a SIGHUP may change: reads the file again and compares.
//!
//! Invariant: a file that cannot be used, or that changes what only a restart can, is refused whole.

use std::sync::{Arc, Mutex, PoisonError};

use super::logging::Logging;
use super::{Cli, Failure, load, settings};
use crate::Registry;
use crate::config::{DaemonConfig, Secret};
use crate::reload::{Fresh, Reloads};

/// The configuration that holds, and how to read it anew.
pub(super) struct Reloading {
    cli: Cli,
    logging: Logging,
    holds: Mutex<(DaemonConfig, Registry)>,
}

impl Reloading {
    pub(super) fn new(cli: Cli, file: DaemonConfig, registry: Registry, logging: Logging) -> Arc<Self> {
        Arc::new(Self {
            cli,
            logging,
            holds: Mutex::new((file, registry)),
        })
    }

    /// Called at every SIGHUP.
    pub(super) fn hook(self: Arc<Self>) -> Reloads {
        Arc::new(move || self.reload().map_err(|failure| failure.to_string()))
    }

    fn reload(self: &Arc<Self>) -> Result<Fresh, Failure> {
        let file = load(&self.cli)?;
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = needs_restart(&self.cli, &holds.0, &file);
        if !changed.is_empty() {
            let changed = changed.join(", ");
            let why = format!(
                "only a restart can change {changed}; a reload can change concurrency, queues, log, handlers and keys"
            );
            return Err(workyard_shared::Error::Invalid(why).into());
        }
        let registry = settings::registry(&file, Some((&holds.0, &holds.1)))?;
        let (queues, protection) = (
            settings::queues(&self.cli, &file)?,
            settings::protection(&self.cli, &file)?,
        );
        drop(holds);
        let this = Arc::clone(self);
        Ok(Fresh {
            registry: registry.clone(),
            protection,
            concurrency: self.cli.concurrency.unwrap_or(file.concurrency),
            queues,
            holds: Box::new(move || {
                this.logging.apply(file.log.as_ref());
                *this.holds.lock().unwrap_or_else(PoisonError::into_inner) = (file, registry);
            }),
        })
    }
}

/// Settings that differ and that a running worker cannot change. What a flag says, the file does not.
fn needs_restart(cli: &Cli, old: &DaemonConfig, new: &DaemonConfig) -> Vec<&'static str> {
    let url = |file: &DaemonConfig| file.redis_url.as_ref().map(Secret::expose).map(str::to_owned);
    let table = [
        ("redis_url", cli.redis_url.is_none() && url(old) != url(new)),
        ("redis_user, redis_password or files of TLS", old.access != new.access),
        ("prefix", cli.prefix.is_none() && old.prefix != new.prefix),
        ("queue_order", old.queue_order != new.queue_order),
        ("prefetch", old.prefetch != new.prefetch),
        ("lease", old.lease != new.lease),
        ("drain_timeout", old.drain_timeout != new.drain_timeout),
        ("watch_host", old.watch_host != new.watch_host),
        ("http", cli.http.is_none() && old.http != new.http),
        ("[jobs]", old.jobs != new.jobs),
        ("[telemetry]", old.telemetry != new.telemetry),
    ];
    table
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const FILE: &str =
        "concurrency = 2\n[[queues]]\nname = \"q\"\n[handlers.a]\ntype = \"builtin\"\nfunction = \"echo\"\n";

    fn changes(flags: &[&str], from: &str, to: &str) -> Vec<&'static str> {
        let read = |text: &str| crate::config::parse(text, "x.toml".as_ref()).unwrap();
        let mut args = vec!["workyard-consumer", "--config", "x.toml"];
        args.extend(flags);
        needs_restart(&Cli::parse_from(args), &read(FILE), &read(&FILE.replace(from, to)))
    }

    #[test]
    fn only_concurrency_queues_log_handlers_and_keys_need_no_restart() {
        let whole = "concurrency = 2";
        for (from, to) in [
            (whole, "concurrency = 3"),
            (whole, "log = \"debug\""),
            (whole, "[keys]\nfile = \"ring\"\nrequire_sealed = true"),
            ("name = \"q\"", "name = \"q\"\nsigned = true"),
            ("name = \"q\"", "name = \"q\"\nweight = 7"),
            ("name = \"q\"", "name = \"r\""),
            ("name = \"q\"", "name = \"r\"\n[[queues]]\nname = \"q\""),
            ("[handlers.a]", "[handlers.b]"),
        ] {
            assert_eq!(changes(&[], from, to), [""; 0], "{to}");
        }
        for (to, name) in [
            ("redis_url = \"redis://127.0.0.1:2/\"", "redis_url"),
            ("redis_user = \"ada\"", "redis_user, redis_password or files of TLS"),
            ("prefix = \"other\"", "prefix"),
            ("queue_order = \"weighted\"", "queue_order"),
            ("prefetch = 9", "prefetch"),
            ("lease = \"9s\"", "lease"),
            ("drain_timeout = \"9s\"", "drain_timeout"),
            ("http = 9464", "http"),
            ("[telemetry]\nservice_name = \"other\"", "[telemetry]"),
        ] {
            assert_eq!(changes(&[], whole, to), [name]);
        }
        assert_eq!(
            changes(&["--http", "9464"], whole, "http = 1"),
            [""; 0],
            "a flag goes before the file"
        );
        assert_eq!(changes(&["--queue", "z"], "\"q\"", "\"r\""), [""; 0]);
    }
}
