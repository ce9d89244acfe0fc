//! Where the text functions get their bytes: out of the payload, or from a file below `root`.
//!
//! Invariant: no path, however it is written and whatever links stand on its way, opens a file
//! outside of `root`; see [`open_beneath`].

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use serde::Deserialize;

use crate::Failure;
use crate::beneath::open_beneath;

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
            let root = root
                .ok_or_else(|| Failure::fatal("this handler reads no files: it has no `root` in the configuration"))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Next;

    #[test]
    fn a_refused_path_fails_for_good_and_a_missing_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let root = dir.path();
        let table = [
            ("/etc/passwd", Next::Final, "is not below the configured root"),
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
            assert!(failure.message.starts_with("the payload must be"), "{payload}");
        }
        let failure = open(br#"{"path":"a"}"#, None).unwrap_err();
        assert!(failure.message.contains("no `root`"), "{}", failure.message);
    }
}
