//! What a map-reduce job reads and makes, sealed: chunks, arguments, outputs, error texts.
//!
//! Each has the form of [`sealed`](super::sealed), bound to queue, functions and job, and to its place in the job: a chunk to
//! its number, arguments to the function's role, an output to its name. An output may be longer than what can be sealed at
//! once, so it is sealed in blocks, one a line, each bound to its number: all but the last have [`BLOCK_BYTES`], the last
//! fewer, so that none can be missing, exchanged or moved. It is read block by block.
//!
//! Invariant: what is made of something sealed is sealed. Nobody has to be told that a job is sealed, so nobody who writes to
//! Redis can tell otherwise.

use bytes::Bytes;

use super::{Binding, KeyRing, Part, Unopened, is_sealed};
use crate::error::Error;
use crate::job::{Function, JobSpec, OutputName, Role};
use crate::limits::MAX_ERROR_BYTES;
use crate::name::{JobId, QueueName};

/// Plaintext of one block of an output.
pub const BLOCK_BYTES: usize = 256 << 10;
/// Longest error text that is sealed: what is longer is cut. Sealed it fits into [`MAX_ERROR_BYTES`], with a place before it.
const ERROR_BYTES: usize = 2700;

/// The job that something sealed belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobBinding {
    queue: String,
    /// Its functions, and which of them have arguments: with others, nothing of it opens.
    functions: String,
    job: String,
}

impl JobBinding {
    /// Of a job in this queue.
    #[must_use]
    pub fn new(queue: &QueueName, job: &JobId, spec: &JobSpec) -> Self {
        let named = |function: &Function| match function.args.as_str() {
            "{}" => function.kind.to_string(),
            _ => format!("{}+", function.kind),
        };
        let combine = spec.combine.as_ref().map_or_else(|| "-".to_owned(), named);
        Self {
            queue: queue.to_string(),
            functions: format!("{} {combine} {}", named(&spec.map), named(&spec.reduce)),
            job: job.to_string(),
        }
    }

    /// The part of the job at `place`; a space ends it, and no job id has one.
    fn with<T>(&self, place: &str, act: impl FnOnce(Binding<'_>) -> T) -> T {
        let id = format!("{place} {}", self.job);
        act(Binding {
            queue: &self.queue,
            kind: &self.functions,
            id: &id,
        })
    }
}

fn block_of(name: &OutputName, block: u64) -> String {
    match name {
        OutputName::Data(name) => format!("data {name} {block}"),
        OutputName::Result(part) => format!("out {part} {block}"),
    }
}

impl KeyRing {
    /// Seals the description of chunk `number`.
    ///
    /// # Errors
    /// As [`KeyRing::seal`].
    pub fn seal_chunk(&self, job: &JobBinding, number: u64, plain: &[u8]) -> Result<Bytes, Error> {
        job.with(&number.to_string(), |binding| self.seal(Part::Chunk, binding, plain))
    }

    /// Seals the arguments of all functions that have some.
    ///
    /// # Errors
    /// As [`KeyRing::seal`].
    pub fn seal_arguments(&self, job: &JobBinding, spec: &mut JobSpec) -> Result<(), Error> {
        each_arguments(spec, |role, args| {
            if args != "{}" && !is_sealed(args.as_bytes()) {
                let sealed = job.with(role.as_str(), |binding| {
                    self.seal(Part::Arguments, binding, args.as_bytes())
                })?;
                *args = text(&sealed);
            }
            Ok(())
        })
    }

    /// A secret of the key that seals now, for marks that nobody shall be able to guess the text of; `None` without such a key.
    #[must_use]
    pub fn mark(&self) -> Option<&[u8]> {
        self.current_seal().map(|key| &key.mark[..])
    }

    /// Seals an output, which becomes a line per block.
    ///
    /// # Errors
    /// As [`KeyRing::seal`].
    pub fn seal_output(&self, job: &JobBinding, name: &OutputName, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut lines = Vec::with_capacity(plain.len() / 3 * 4 + 256);
        let last = plain.len() / BLOCK_BYTES;
        for block in 0..=last {
            let from = block * BLOCK_BYTES;
            let piece = &plain[from..plain.len().min(from + BLOCK_BYTES)];
            let sealed = job.with(&block_of(name, block as u64), |binding| {
                self.seal(Part::Data, binding, piece)
            })?;
            lines.extend_from_slice(&sealed);
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Seals an error text, cut to what fits.
    ///
    /// # Errors
    /// As [`KeyRing::seal`].
    pub fn seal_error(&self, job: &JobBinding, error: &str) -> Result<String, Error> {
        let mut end = error.len().min(ERROR_BYTES);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        let sealed = job.with("error", |binding| {
            self.seal(Part::Error, binding, &error.as_bytes()[..end])
        })?;
        debug_assert!(sealed.len() + 256 <= MAX_ERROR_BYTES, "{}", sealed.len());
        Ok(text(&sealed))
    }
}

/// Opens the description of chunk `number`.
///
/// # Errors
/// [`Unopened`].
pub fn open_chunk(keys: Option<&KeyRing>, job: &JobBinding, number: u64, sealed: &[u8]) -> Result<Bytes, Unopened> {
    let keys = ring(keys, sealed)?;
    job.with(&number.to_string(), |binding| keys.open(Part::Chunk, binding, sealed))
}

/// Opens a whole output.
///
/// # Errors
/// [`Unopened`].
pub fn open_output(
    keys: Option<&KeyRing>,
    job: &JobBinding,
    name: &OutputName,
    sealed: &[u8],
) -> Result<Bytes, Unopened> {
    let mut blocks = Blocks::new(job.clone(), name.clone());
    let mut plain = Vec::with_capacity(sealed.len() / 4 * 3);
    for line in sealed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        plain.extend_from_slice(&blocks.open(keys, line)?);
    }
    blocks.finish()?;
    Ok(plain.into())
}

/// Whether the arguments of a function are sealed.
#[must_use]
pub fn has_sealed_arguments(spec: &JobSpec) -> bool {
    let functions = [Some(&spec.map), spec.combine.as_ref(), Some(&spec.reduce)];
    let mut given = functions.into_iter().flatten();
    given.any(|function| is_sealed(function.args.as_bytes()))
}

/// Opens the arguments of all functions.
///
/// # Errors
/// [`Unopened`].
pub fn open_arguments(keys: Option<&KeyRing>, job: &JobBinding, spec: &mut JobSpec) -> Result<(), Unopened> {
    each_arguments(spec, |role, args| {
        if is_sealed(args.as_bytes()) {
            let keys = ring(keys, args.as_bytes())?;
            let plain = job.with(role.as_str(), |binding| {
                keys.open(Part::Arguments, binding, args.as_bytes())
            })?;
            *args = text(&plain);
        }
        Ok(())
    })
}

/// An error text of a job with what is sealed in it opened; what does not open is told by its key.
#[must_use]
pub fn open_error(keys: Option<&KeyRing>, job: &JobBinding, error: &str) -> String {
    let found = error.match_indices("{\"workyard.sealed\":").next().map(|(at, _)| at);
    let Some((before, rest)) = found.map(|at| error.split_at(at)) else {
        return error.to_owned();
    };
    let end = rest.find('}').map_or(rest.len(), |at| at + 1);
    let (sealed, behind) = rest.split_at(end);
    let opened = ring(keys, sealed.as_bytes())
        .and_then(|keys| job.with("error", |binding| keys.open(Part::Error, binding, sealed.as_bytes())));
    let words = match opened {
        Ok(plain) => text(&plain),
        Err(why) => format!("({why})"),
    };
    format!("{before}{words}{behind}")
}

/// The blocks of one output, opened one after the other.
#[derive(Debug)]
pub struct Blocks {
    job: JobBinding,
    name: OutputName,
    next: u64,
    ended: bool,
}

impl Blocks {
    /// None is opened yet.
    #[must_use]
    pub fn new(job: JobBinding, name: OutputName) -> Self {
        Self {
            job,
            name,
            next: 0,
            ended: false,
        }
    }

    /// Opens the next block: a line of the stored output.
    ///
    /// # Errors
    /// [`Unopened`], also if it is not the next one.
    pub fn open(&mut self, keys: Option<&KeyRing>, line: &[u8]) -> Result<Bytes, Unopened> {
        if !is_sealed(line) {
            return Err(Unopened::Form("a line of it is not sealed"));
        }
        if self.ended {
            return Err(Unopened::Form("there is more behind its last block"));
        }
        let place = block_of(&self.name, self.next);
        let plain = self
            .job
            .with(&place, |binding| ring(keys, line)?.open(Part::Data, binding, line))?;
        self.next += 1;
        self.ended = plain.len() < BLOCK_BYTES;
        Ok(plain)
    }

    /// There is no further line.
    ///
    /// # Errors
    /// [`Unopened`] if blocks are missing.
    pub fn finish(&self) -> Result<(), Unopened> {
        match self.ended {
            true => Ok(()),
            false => Err(Unopened::Form("its last block is missing")),
        }
    }
}

/// The keys to open this with.
fn ring<'a>(keys: Option<&'a KeyRing>, sealed: &[u8]) -> Result<&'a KeyRing, Unopened> {
    keys.ok_or_else(|| Unopened::without_keys(sealed))
}

fn each_arguments<E>(spec: &mut JobSpec, mut act: impl FnMut(Role, &mut String) -> Result<(), E>) -> Result<(), E> {
    act(Role::Map, &mut spec.map.args)?;
    if let Some(combine) = &mut spec.combine {
        act(Role::Combine, &mut combine.args)?;
    }
    act(Role::Reduce, &mut spec.reduce.args)
}

/// What was text before it was sealed, and base64 is always.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Form;
    use crate::name::Kind;

    fn ring() -> KeyRing {
        KeyRing::parse(&format!("encrypt k1 {}\n", super::super::key::encode(&[1; 32]))).unwrap()
    }

    fn spec(reduce: &str) -> JobSpec {
        let kind = |name| Kind::new(name).unwrap();
        let mut spec = JobSpec::new(Form::keyed(), kind("m"), kind(reduce));
        spec.combine = Some(Function::new(kind("c")));
        spec
    }

    fn binding(queue: &str, job: &str, reduce: &str) -> JobBinding {
        JobBinding::new(
            &QueueName::new(queue).unwrap(),
            &JobId::new(job).unwrap(),
            &spec(reduce),
        )
    }

    fn job() -> JobBinding {
        binding("q", "j", "r")
    }

    #[test]
    fn a_chunk_opens_at_its_place_in_its_job_only() {
        let ring = ring();
        let sealed = ring.seal_chunk(&job(), 7, b"{\"items\":[1]}").unwrap();
        assert_eq!(open_chunk(Some(&ring), &job(), 7, &sealed).unwrap(), "{\"items\":[1]}");
        let others = [
            (job(), 8),
            (binding("p", "j", "r"), 7),
            (binding("q", "j2", "r"), 7),
            (binding("q", "j", "other"), 7),
        ];
        for (other, number) in others {
            assert!(
                open_chunk(Some(&ring), &other, number, &sealed).is_err(),
                "{other:?} {number}"
            );
        }
    }

    #[test]
    fn outputs_of_any_length_open_whole_and_in_order_or_not_at_all() {
        let ring = ring();
        let name = OutputName::Data("0.3".to_owned());
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
            let plain: Vec<u8> = (0..length).map(|n| b"[1,2]\n"[n % 6]).collect();
            let sealed = ring.seal_output(&job(), &name, &plain).unwrap();
            assert!(
                open_output(Some(&ring), &job(), &name, &sealed).unwrap() == plain,
                "{length}"
            );
            for other in [OutputName::Data("0.4".to_owned()), OutputName::Result(0)] {
                assert!(open_output(Some(&ring), &job(), &other, &sealed).is_err());
            }
            let lines: Vec<&[u8]> = sealed.split_inclusive(|byte| *byte == b'\n').collect();
            assert_eq!(lines.len(), length / BLOCK_BYTES + 1);
            let open = |lines: &[&[u8]]| open_output(Some(&ring), &job(), &name, &lines.concat());
            assert!(open(&lines[..lines.len() - 1]).is_err(), "the last is missing");
            assert!(
                open(&[&lines[..], &lines[lines.len() - 1..]].concat()).is_err(),
                "it is there twice"
            );
            if lines.len() > 2 {
                assert!(open(&[lines[1], lines[0], lines[2]]).is_err(), "another order");
                assert!(open(&lines[1..]).is_err(), "the first is missing");
            }
            assert!(open(&[&b"[1,2]\n"[..], &sealed]).is_err(), "a line that is plain");
        }
    }

    #[test]
    fn arguments_are_sealed_for_their_role_and_none_stay_none() {
        let ring = ring();
        let mut sealed = spec("r");
        "{\"pattern\":\"secret\"}".clone_into(&mut sealed.map.args);
        let plain = sealed.clone();
        let job = || JobBinding::new(&QueueName::new("q").unwrap(), &JobId::new("j").unwrap(), &plain);
        ring.seal_arguments(&job(), &mut sealed).unwrap();
        assert!(is_sealed(sealed.map.args.as_bytes()) && sealed.reduce.args == "{}");
        sealed.validate().unwrap();
        let mut opened = sealed.clone();
        assert!(has_sealed_arguments(&opened) && !has_sealed_arguments(&plain));
        open_arguments(Some(&ring), &job(), &mut opened).unwrap();
        assert_eq!(opened, plain);
        let mut without = sealed.clone();
        "{}".clone_into(&mut without.map.args);
        let other = JobBinding::new(&QueueName::new("q").unwrap(), &JobId::new("j").unwrap(), &without);
        assert_ne!(other, job(), "who takes the arguments away closes the rest");
        let mut moved = sealed.clone();
        std::mem::swap(&mut moved.map.args, &mut moved.reduce.args);
        assert!(open_arguments(Some(&ring), &job(), &mut moved).is_err());
        let keyless = open_arguments(None, &job(), &mut sealed).unwrap_err();
        assert_eq!(
            keyless.to_string(),
            "sealed with key k1, and no key ring was given here"
        );
        assert_eq!(open_arguments(None, &job(), &mut spec("r")), Ok(()));
    }

    #[test]
    fn an_error_is_opened_where_it_stands_in_a_text() {
        let ring = ring();
        let sealed = ring
            .seal_error(&job(), "item 1 is no number: \"secret\"\nmore")
            .unwrap();
        let told = format!("chunk 3 failed: {sealed} (no consumer could: 3 tries)");
        assert!(!told.contains("secret"));
        assert_eq!(
            open_error(Some(&ring), &job(), &told),
            "chunk 3 failed: item 1 is no number: \"secret\"\nmore (no consumer could: 3 tries)"
        );
        let keyless = open_error(None, &job(), &told);
        assert!(
            keyless.contains("chunk 3 failed: (sealed with key k1, and no key ring"),
            "{keyless}"
        );
        // What Redis cut off is told, too.
        let cut = open_error(Some(&ring), &job(), &told[..60]);
        assert!(cut.contains("not in that form"), "{cut}");
        assert_eq!(open_error(Some(&ring), &job(), "plain {x}"), "plain {x}");
        let long = ring.seal_error(&job(), &"\u{e9}".repeat(5000)).unwrap();
        assert!(long.len() < MAX_ERROR_BYTES - 256 && open_error(Some(&ring), &job(), &long).starts_with('\u{e9}'));
    }
}
