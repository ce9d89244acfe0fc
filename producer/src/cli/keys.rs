//! `keys`: makes and changes key rings.
//!
//! Invariant: no key is ever printed, save the public halves that are asked for. A ring is replaced whole, by a file that
//! nobody else could read at any moment, or stays as it was.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::Local;
use serde_json::json;
use workyard_producer::{KeyId, KeyRing};
use workyard_shared::crypto::{Use, edit, read_text};

use super::args::{KeyArgs, KeysAction, NewKeyArgs};
use super::exit::{CliError, Exit};
use super::output::Out;

/// Runs the command.
pub(crate) fn run(action: &KeysAction, as_json: bool) -> Result<Exit, CliError> {
    let mut out = Out::new(as_json);
    match action {
        KeysAction::New(args) => add(args, &mut out)?,
        KeysAction::Use(args) => {
            let (text, usage) = chosen(args)?;
            replace(&args.file, &edit::with_current(&text, usage, &args.id)?)?;
            out.note(&format!("{} key {} is current now", usage.as_str(), args.id));
        }
        KeysAction::Remove(args) => {
            let (text, usage) = chosen(args)?;
            replace(&args.file, &edit::without(&text, usage, &args.id)?)?;
            let what = usage.as_str();
            out.note(&format!(
                "{what} key {} is gone; what it sealed or signed is lost with it",
                args.id
            ));
        }
        KeysAction::List(args) => list(&KeyRing::read(&args.file)?, &mut out)?,
        KeysAction::Public(args) => public(&KeyRing::read(&args.file)?, &mut out)?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn add(args: &NewKeyArgs, out: &mut Out) -> Result<(), CliError> {
    let usage = Use::from(args.usage);
    // What is there is read under the rules for rings: a file that others can read would give the new key away.
    let before = match args.file.try_exists() {
        Ok(false) => None,
        _ => Some(read_text(&args.file)?),
    };
    let text = before.as_deref().unwrap_or_default();
    let id = match &args.id {
        Some(id) => id.clone(),
        None => free_id(text, usage)?,
    };
    let text = edit::with_new_key(text, usage, &id)?;
    match before {
        Some(_) => replace(&args.file, &text)?,
        None => create(&args.file, &text)?,
    }
    let ring = KeyRing::parse(&text).map_err(|why| CliError::usage(why, None))?;
    let current = ring.list().contains(&(usage, id.clone(), true));
    if out.json {
        return out.document(&json!({ "id": id.as_str(), "use": usage.as_str(), "current": current }));
    }
    if !current {
        out.note(
            "note: it opens, and does not seal or sign yet: when all have it, `workyard keys use` makes it current",
        );
    }
    out.line(id.as_str())
}

/// Today's date; with a number behind it, if a key has that name.
fn free_id(text: &str, usage: Use) -> Result<KeyId, CliError> {
    let today = Local::now().format("%Y-%m-%d").to_string();
    let ring = KeyRing::parse(text).ok();
    let taken = |id: &str| {
        let mut keys = ring.iter().flat_map(KeyRing::list);
        keys.any(|(of, known, _)| known.as_str() == id && (of == Use::Encrypt) == (usage == Use::Encrypt))
    };
    let mut id = today.clone();
    let mut number = 1;
    while taken(&id) {
        number += 1;
        id = format!("{today}-{number}");
    }
    Ok(KeyId::new(id)?)
}

/// The ring's text, and of which use the named key is.
fn chosen(args: &KeyArgs) -> Result<(String, Use), CliError> {
    let text = read_text(&args.file)?;
    if let Some(usage) = args.usage {
        return Ok((text, usage.into()));
    }
    let ring = KeyRing::parse(&text).map_err(|why| CliError::usage(why, None))?;
    let mut uses = ring.list();
    uses.retain(|(_, id, _)| *id == args.id);
    match uses[..] {
        [(usage, ..)] => Ok((text, usage)),
        // Its own refusal says which keys there are.
        [] => Ok((text, Use::Encrypt)),
        _ => Err(CliError::usage(
            format!("two keys are called {}", args.id),
            Some("say which: --use encrypt or --use sign"),
        )),
    }
}

fn list(ring: &KeyRing, out: &mut Out) -> Result<(), CliError> {
    let keys = ring.list();
    if out.json {
        let key = |(usage, id, current): &(Use, KeyId, bool)| json!({ "id": id.as_str(), "use": usage.as_str(), "current": current });
        return out.document(&keys.iter().map(key).collect::<Vec<_>>());
    }
    for (usage, id, current) in keys {
        let mark = if current { "  current" } else { "" };
        out.line(&format!("{:<7}  {id}{mark}", usage.as_str()))?;
    }
    Ok(())
}

fn public(ring: &KeyRing, out: &mut Out) -> Result<(), CliError> {
    let lines = ring.public_lines();
    if lines.is_empty() {
        let hint = Some("`workyard keys new FILE --use sign` adds one");
        return Err(CliError::usage("the ring has no sign key", hint));
    }
    if out.json {
        return out.document(&lines);
    }
    lines.iter().try_for_each(|line| out.line(line))
}

fn cannot(path: &Path) -> impl Fn(io::Error) -> CliError + '_ {
    move |error| CliError::usage(format!("cannot write {}: {error}", path.display()), None)
}

/// A file of its own beside the ring, with mode 0600 from its beginning.
fn written(path: &Path, text: &str) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn create(path: &Path, text: &str) -> Result<(), CliError> {
    let file = written(path, text).map_err(cannot(path))?;
    // One that somebody made meanwhile is not overwritten.
    file.persist_noclobber(path)
        .map_err(|error| cannot(path)(error.error))?;
    Ok(())
}

fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let cannot = cannot(path);
    // Behind a link the file itself is replaced; it keeps its mode, which was looked at.
    let path: PathBuf = fs::canonicalize(path).map_err(&cannot)?;
    let mode = fs::metadata(&path).map_err(&cannot)?.permissions().mode() & 0o777;
    let file = written(&path, text).map_err(&cannot)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(&cannot)?;
    file.persist(&path).map_err(|error| cannot(error.error))?;
    Ok(())
}
