//! Where the text functions get their bytes: out of the payload, or from a file below `root`.
//!
//! Invariant: no path, however it is written and whatever links stand on its way, opens a file
//! outside of `root`. On Linux the kernel resolves and opens in one step (`openat2` with
//! `RESOLVE_BENEATH`), so a link that is swapped in between gains nothing.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

use crate::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    path: Option<String>,
    text: Option<String>,
}

/// What a payload names.
#[derive(Debug)]
pub(super) enum Source {
    /// Bytes of the payload itself.
    Text(String),
    /// A file, open for reading.
    File(File),
}

/// Opens what `payload` names: `{"text": ..}`, or `{"path": ..}` below `root`.
pub(super) fn open(payload: &[u8], root: Option<&Path>) -> Result<Source, Failure> {
    let form = || Failure::fatal(r#"the payload must be {"path": "..."} or {"text": "..."}"#);
    let payload: Payload = serde_json::from_slice(payload).map_err(|_| form())?;
    match (payload.path, payload.text) {
        (None, Some(text)) => Ok(Source::Text(text)),
        (Some(path), None) => {
            let root = root.ok_or_else(|| {
                Failure::fatal("this handler reads no files: it has no `root` in the configuration")
            })?;
            file(root, &path).map(Source::File)
        }
        (None, None) | (Some(_), Some(_)) => Err(form()),
    }
}

fn file(root: &Path, path: &str) -> Result<File, Failure> {
    let outside = || Failure::fatal(format!("{path} is not below the configured root"));
    let relative = match Path::new(path) {
        absolute if absolute.is_absolute() => absolute.strip_prefix(root).map_err(|_| outside())?,
        relative => relative,
    };
    let file = open_beneath(root, relative).map_err(|errno| match errno {
        Errno::XDEV | Errno::LOOP => outside(),
        // Worth a retry: it may be about to be written.
        errno => Failure::retry(format!("cannot open {path}: {}", io::Error::from(errno))),
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(Failure::fatal(format!("{path} is no regular file")))
    }
}

/// Non-blocking, since opening a named pipe would wait for its writer; files do not care.
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

#[cfg(target_os = "linux")]
fn open_beneath(root: &Path, relative: &Path) -> Result<File, Errno> {
    use rustix::fs::ResolveFlags;
    let folder = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&folder, relative, flags(), Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        // Kernels before 5.6, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_resolved(root, relative),
        Err(errno) => Err(errno),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: &Path, relative: &Path) -> Result<File, Errno> {
    open_resolved(root, relative)
}

/// Where the kernel cannot do it in one step: resolve, compare, open. Who can write below `root`
/// could swap a link in between.
fn open_resolved(root: &Path, relative: &Path) -> Result<File, Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let resolved = root.join(relative).canonicalize().map_err(errno)?;
    if !resolved.starts_with(root.canonicalize().map_err(errno)?) {
        return Err(Errno::XDEV);
    }
    Ok(rustix::fs::open(resolved, flags() | OFlags::NOFOLLOW, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Next;

    type Opener = fn(&Path, &Path) -> Result<File, Errno>;

    #[test]
    fn only_what_lies_below_the_root_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/in"), "inside").unwrap();
        std::fs::write(dir.path().join("out"), "outside").unwrap();
        symlink("sub/in", root.join("link-in")).unwrap();
        symlink("../out", root.join("link-out")).unwrap();
        symlink(dir.path(), root.join("folder-out")).unwrap();
        for opener in [open_beneath as Opener, open_resolved] {
            for path in ["sub/in", "./sub/../sub/in", "link-in"] {
                let mut text = String::new();
                opener(&root, Path::new(path))
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, "inside", "{path}");
            }
            for path in ["../out", "sub/../../out", "link-out", "folder-out/out"] {
                assert_eq!(
                    opener(&root, Path::new(path)).unwrap_err(),
                    Errno::XDEV,
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn a_refused_path_fails_for_good_and_a_missing_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let root = dir.path();
        let table = [
            (
                "/etc/passwd",
                Next::Final,
                "is not below the configured root",
            ),
            ("../x", Next::Final, "is not below the configured root"),
            ("sub", Next::Final, "is no regular file"),
            ("missing", Next::Retry, "cannot open missing: No such file"),
        ];
        for (path, next, text) in table {
            let failure = file(root, path).unwrap_err();
            assert_eq!(failure.next, next, "{path}");
            assert!(failure.message.contains(text), "{}", failure.message);
        }
        let inside = root.join("file");
        std::fs::write(&inside, "").unwrap();
        assert!(
            file(root, inside.to_str().unwrap()).is_ok(),
            "an absolute path below the root"
        );
    }

    #[test]
    fn a_payload_is_a_path_or_a_text() {
        assert!(matches!(open(br#"{"text":"a"}"#, None), Ok(Source::Text(text)) if text == "a"));
        let table = [
            r#"{"path":"a","text":"b"}"#,
            "{}",
            "3",
            r#"{"text":1}"#,
            r#"{"txt":"a"}"#,
        ];
        for payload in table {
            let failure = open(payload.as_bytes(), Some(Path::new("/"))).unwrap_err();
            assert!(
                failure.message.starts_with("the payload must be"),
                "{payload}"
            );
        }
        let failure = open(br#"{"path":"a"}"#, None).unwrap_err();
        assert!(failure.message.contains("no `root`"), "{}", failure.message);
    }
}
