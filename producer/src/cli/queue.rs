//! `queue set` and `queue show`: the settings of a queue; `queue delete`: a queue that nobody needs.
//!
//! Invariant: what is shown is what Redis holds afterwards, defaults included. What cannot be undone wants `--yes`.

use serde_json::{Map, Value, json};
use workyard_producer::{Overload, QueueName, Setting, Settings};

use super::args::QueueAction;
use super::exit::{CliError, Exit};
use super::output::counted;
use super::session::Session;

/// Runs the command.
pub(crate) async fn run(action: QueueAction, session: &mut Session) -> Result<Exit, CliError> {
    match action {
        QueueAction::Set { name, settings } => {
            session.take(Some(name))?;
            session.client.set(&session.queue, &settings).await?;
        }
        QueueAction::Show(args) => {
            session.take(args.name)?;
            if !session.named {
                let message = "no queue is named: `workyard queue show emails`, -q emails or WORKYARD_QUEUE=emails";
                return Err(CliError::usage(message, None));
            }
        }
        QueueAction::Delete { name, yes } => return delete(name, yes, session).await,
    }
    let name = session.queue.clone();
    let settings = session.client.settings(&name).await?;
    show(&name, &settings, session)?;
    Ok(Exit::Done)
}

async fn delete(name: QueueName, yes: bool, session: &mut Session) -> Result<Exit, CliError> {
    session.take(Some(name))?;
    session.known_queue().await?;
    let name = session.queue.clone();
    if !yes {
        let results = session.client.stats(&name).await?.results;
        let message = format!(
            "this would remove queue {name} for good: its settings, its counters and {}",
            counted(results, "result")
        );
        return Err(CliError::usage(message, Some("say --yes to do it")));
    }
    session.client.delete_queue(&name).await?;
    if session.out.json {
        session
            .out
            .document(&json!({ "queue": name.as_str(), "deleted": true }))?;
    } else {
        session.out.line(&format!("queue {name} is gone"))?;
    }
    Ok(Exit::Done)
}

fn show(name: &QueueName, settings: &Settings, session: &mut Session) -> Result<(), CliError> {
    if session.out.json {
        let mut document = Map::from_iter([("queue".to_owned(), json!(name.as_str()))]);
        document.extend(
            settings
                .all()
                .map(|setting| (setting.name().to_owned(), json_value(setting))),
        );
        return session.out.document(&document);
    }
    session.out.line(&format!("{:<14}{name}", "queue"))?;
    for setting in settings.all() {
        session
            .out
            .line(&format!("{:<14}{}", setting.name(), setting.value()))?;
    }
    if settings.max_pending == 0 && settings.max_bytes == 0 && settings.overload != Overload::default() {
        session
            .out
            .note("note: overload does nothing while max_pending and max_bytes are 0, which is no limit");
    }
    Ok(())
}

fn json_value(setting: Setting) -> Value {
    match setting {
        Setting::Paused(paused) => json!(paused),
        Setting::MaxPending(most) | Setting::MaxBytes(most) => json!(most),
        Setting::Balance(_) | Setting::Overload(_) => json!(setting.value()),
    }
}
