//! Which call a job is of: a mark in its record, so that the same call made again goes on with it.
//!
//! Invariant: two calls have one mark if they would make the same job: same functions, options, items or files as they are
//! now, and size of chunks if the caller chose it. The mark stands in Redis: that of a sealed job is made with a secret of its
//! key, so that nobody can try what the input may have been. A size that was measured stands behind the mark: slots come and go, and
//! chunks cut in another way must never be added to a job.

use sha2::{Digest, Sha256};
use workyard_shared::Error as CallError;
use workyard_shared::job::JobSpec;
use workyard_shared::name::SessionId;
use workyard_shared::trace_context::{TRACEPARENT, TRACESTATE};

use super::input::Ready;
use crate::error::Error;

/// What begins a mark; another way to make them begins otherwise.
const FORM: &str = "call1";

/// The mark of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity(String);

impl Identity {
    /// Reads the whole input of items once; of files, what they are called, their sizes and versions.
    pub(crate) fn of(spec: &JobSpec, ready: &Ready, chosen: Option<u64>, secret: Option<&[u8]>) -> Result<Self, Error> {
        let mut spec = spec.clone();
        // Each call has its own trace, and `./x` is `x`.
        spec.headers.retain(|name, _| name != TRACEPARENT && name != TRACESTATE);
        spec.input.clear();
        let mut hash = Sha256::new();
        if let Some(secret) = secret {
            part(&mut hash, b"sealed");
            part(&mut hash, secret);
        }
        for (name, value) in spec.to_fields() {
            part(&mut hash, name.as_bytes());
            part(&mut hash, value.as_bytes());
        }
        part(
            &mut hash,
            chosen.map(|size| size.to_string()).unwrap_or_default().as_bytes(),
        );
        match ready {
            Ready::Items(items) => {
                part(&mut hash, b"items");
                for item in items.read()? {
                    part(&mut hash, &item?);
                }
            }
            Ready::Files(sources, format) => {
                part(&mut hash, format!("{format:?}").as_bytes());
                for source in sources {
                    part(&mut hash, source.url.as_bytes());
                    part(&mut hash, &source.size.to_le_bytes());
                    part(&mut hash, source.version.as_bytes());
                }
            }
        }
        let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{FORM}-{digits}")))
    }

    /// What the job's record says if its chunks are of this size.
    pub(crate) fn nonce(&self, size: u64) -> Result<SessionId, CallError> {
        SessionId::new(format!("{}-{size}", self.0))
    }

    /// The size of chunks of a job of this call; `None` if the nonce is of another.
    pub(crate) fn size_in(&self, nonce: &str) -> Option<u64> {
        nonce.strip_prefix(&self.0)?.strip_prefix('-')?.parse().ok()
    }
}

/// Its length first, so that no two lists of parts are the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use workyard_shared::job::Form;
    use workyard_shared::name::Kind;

    use super::*;
    use crate::job::files::FileFormat;
    use crate::job::source::tests::written;
    use crate::job::spool::Spool;

    fn spec() -> JobSpec {
        JobSpec::new(Form::fold(), Kind::new("count").unwrap(), Kind::new("sum").unwrap())
    }

    fn items(texts: &[&str]) -> Ready {
        let mut spool = Spool::new(1 << 20).unwrap();
        for text in texts {
            spool.push(text.as_bytes(), String::new).unwrap();
        }
        Ready::Items(spool.done().unwrap())
    }

    fn mark(spec: &JobSpec, ready: &Ready) -> Identity {
        Identity::of(spec, ready, None, None).unwrap()
    }

    #[test]
    fn the_same_call_has_the_same_mark_and_a_trace_or_a_name_for_people_is_no_part_of_it() {
        let first = mark(&spec(), &items(&["1", "2"]));
        assert_eq!(first, mark(&spec(), &items(&["1", "2"])));
        let mut traced = spec();
        traced.headers.insert(TRACEPARENT.to_owned(), "00-x".to_owned());
        "numbers.json".clone_into(&mut traced.input);
        assert_eq!(first, mark(&traced, &items(&["1", "2"])));
    }

    #[test]
    fn another_option_item_or_size_is_another_call() {
        let first = mark(&spec(), &items(&["1", "2"]));
        for other in [&["1"][..], &["2", "1"], &["12"], &["1", "2", "3"]] {
            assert_ne!(first, mark(&spec(), &items(other)), "{other:?}");
        }
        let mut headed = spec();
        headed.headers.insert("shop".to_owned(), "1".to_owned());
        assert_ne!(first, mark(&headed, &items(&["1", "2"])));
        assert_ne!(
            first,
            Identity::of(&spec(), &items(&["1", "2"]), None, Some(&[7; 32])).unwrap()
        );
        assert_ne!(
            first,
            Identity::of(&spec(), &items(&["1", "2"]), Some(5), None).unwrap()
        );
    }

    #[test]
    fn a_file_that_changed_is_another_input() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &[u8]| {
            mark(
                &spec(),
                &Ready::Files(vec![written(dir.path(), "f", text)], FileFormat::Lines),
            )
        };
        let first = of(b"one\n");
        assert_ne!(first, of(b"one\ntwo\n"));
    }

    #[test]
    fn the_size_of_chunks_comes_back_from_the_nonce_of_the_same_call_only() {
        let ours = mark(&spec(), &items(&["1"]));
        let nonce = ours.nonce(u64::MAX).unwrap();
        assert_eq!(ours.size_in(nonce.as_str()), Some(u64::MAX));
        assert_eq!(mark(&spec(), &items(&["2"])).size_in(nonce.as_str()), None);
        assert_eq!(ours.size_in(SessionId::fresh().as_str()), None);
    }
}
