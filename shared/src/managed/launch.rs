//! Starting the server process of a data directory.
//!
//! Invariant: the server gets the locked file of its directory as file descriptor 3 and keeps it open until it ends.
//! That is what makes "locked" mean "a server lives here" (see [`super::dir`]).
//!
//! It does not wait until the server answers; that is the same for who starts it and for who finds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::dir::DataDir;
use super::endpoint::Endpoint;
use super::error::Error;

/// Redis closes descriptors 0 to 2 when it goes to the background, and Rust's start of a process passes on no others.
/// So the shell moves the lock from 1 to 3, and 1 to where the messages go. It then becomes the server: no process
/// stays between.
const SCRIPT: &str = r#"exec "$0" "$1" 3>&1 1>&2"#;

/// How much of the log an error quotes: enough for the reason, which Redis writes last.
const QUOTED_LINES: usize = 12;

/// Starts `binary` on `dir`. `claim` is the locked file; our copy of it closes here, the server's copy stays.
///
/// If we die before the server runs, the lock is free again and nothing has happened. If we die after that, the
/// server runs, and the record that was written before tells how to reach it.
pub(super) fn launch(dir: &DataDir, binary: &Path, endpoint: &Endpoint, claim: File) -> Result<(), Error> {
    write_config(dir, endpoint).map_err(Error::at(dir.config()))?;
    let mark = log_length(dir);
    let ran = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .arg(binary)
        .arg(dir.config())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(claim)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output);
    let output = ran.map_err(Error::at(binary))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let log = format!("{}\n{}", said.trim_end(), log_since(dir, mark));
    Err(Error::NotStarted {
        binary: binary.to_owned(),
        dir: dir.path().to_owned(),
        log,
    })
}

/// The length of the log now, for [`log_since`].
pub(super) fn log_length(dir: &DataDir) -> u64 {
    fs::metadata(dir.log()).map_or(0, |meta| meta.len())
}

/// The last lines that the log got since it had length `mark`: what an earlier server wrote would mislead.
pub(super) fn log_since(dir: &DataDir, mark: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(dir.log())?;
        file.seek(SeekFrom::Start(mark))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    // A missing log is an empty one: this text is part of an error already.
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

fn write_config(dir: &DataDir, endpoint: &Endpoint) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.config())?;
    file.write_all(&config(dir, endpoint))
}

fn config(dir: &DataDir, endpoint: &Endpoint) -> Vec<u8> {
    let listen = match endpoint {
        Endpoint::Socket => [
            b"port 0\nunixsocketperm 700\nunixsocket ".to_vec(),
            quoted(&dir.socket()),
        ]
        .concat(),
        Endpoint::Loopback { port, password } => {
            format!("bind 127.0.0.1\nport {port}\nrequirepass {password}").into_bytes()
        }
    };
    // noeviction: an evicted key would be a lost task. save "": the append-only file has everything already.
    [
        b"# Written by Workyard at each start; changes are overwritten.\ndaemonize yes\ndir ".to_vec(),
        quoted(dir.path()),
        b"\npidfile ".to_vec(),
        quoted(&dir.pid_file()),
        b"\nlogfile ".to_vec(),
        quoted(&dir.log()),
        b"\nappendonly yes\nappendfsync everysec\nsave \"\"\nmaxmemory-policy noeviction\n".to_vec(),
        listen,
        b"\n".to_vec(),
    ]
    .concat()
}

/// A path as a quoted string of a Redis configuration, whatever bytes it has.
fn quoted(path: &Path) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            _ => text.push(byte),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_the_queue_relies_on() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("with \"quotes\" and blanks")).unwrap();
        let text = String::from_utf8(config(&dir, &Endpoint::Socket)).unwrap();
        for line in [
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "save \"\"",
            "port 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("with \\\"quotes\\\" and blanks/redis.sock\""), "{text}");
    }

    #[test]
    fn only_what_is_new_in_the_log_is_quoted() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("data")).unwrap();
        assert_eq!(log_since(&dir, 0), "");
        fs::write(dir.log(), "old\n").unwrap();
        let mark = log_length(&dir);
        fs::write(dir.log(), "old\nnew\n").unwrap();
        assert_eq!(log_since(&dir, mark), "new");
    }
}
