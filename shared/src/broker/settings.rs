//! set, and reading what was set: see `lua/settings.lua`.

use redis::{Cmd, Value};

use super::{Queue, reply};
use crate::error::Error;
use crate::settings::{NAMES, Setting, Settings};

impl Queue {
    /// Changes settings, all of them or none.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn set(&self, settings: &[Setting]) -> Result<(), Error> {
        let mut cmd = self.fcall("set", &[&self.keys.audit()]);
        cmd.arg(&*self.who);
        for setting in settings {
            cmd.arg(setting.name()).arg(setting.value());
        }
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Pauses (nothing more is claimed; what runs goes on) or resumes the queue.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn set_paused(&self, paused: bool) -> Result<(), Error> {
        self.set(&[Setting::Paused(paused)]).await
    }

    /// The settings of the queue.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn settings(&self) -> Result<Settings, Error> {
        read(self.link.call(&self.settings_cmd()).await?)
    }

    /// About how much memory the records of all tasks take, in bytes: what `max_bytes` is held against.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn held_bytes(&self) -> Result<u64, Error> {
        let mut cmd = redis::cmd("MEMORY");
        cmd.arg("USAGE").arg(self.keys.named("tasks")).arg("SAMPLES").arg(50);
        match self.link.call(&cmd).await? {
            Value::Nil => Ok(0),
            held => reply::count(&held),
        }
    }

    pub(super) fn settings_cmd(&self) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.named("cfg")).arg(&NAMES);
        cmd
    }
}

/// Reads what was set.
pub(super) fn read(answer: Value) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (name, value) in NAMES.iter().zip(reply::array(answer)?) {
        if value == Value::Nil {
            continue;
        }
        // What somebody else put there counts as not set, here as in the functions.
        let value = reply::string(value)?;
        match format!("{name}={value}").parse::<Setting>() {
            Ok(setting) if setting.value() == value => settings.apply(setting),
            _ => {}
        }
    }
    Ok(settings)
}
