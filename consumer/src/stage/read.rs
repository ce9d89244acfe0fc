//! From the description of a chunk to its bytes.
//!
//! Invariant: what is read is what was there when the job was submitted: size and version of each
//! file are compared before and after. A chunk never takes more than [`MAX_BYTES`].

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bytes::Bytes;
use serde_json::value::RawValue;
use workyard_shared::job::{Chunk, Slice};

use super::blocking::{blocking, by_length};
use super::places::Places;
use super::records::{CsvText, FileText, Records};
use super::{MAX_BYTES, Origin, StageContext, lines};
use crate::handler::Failure;

/// How much is read between two looks at whether the task still counts.
const STEP: usize = 8 << 20;

/// Reads a chunk; and where its items come from.
pub(super) async fn read(places: &Places, ctx: &StageContext, chunk: Chunk) -> Result<(Records, Origin), Failure> {
    match chunk {
        Chunk::Items(items) => {
            let bytes = items.iter().map(|item| item.get().len()).sum();
            by_length(bytes, move || Ok((items_as_lines(items), Origin::default()))).await
        }
        Chunk::Lines(slices) => {
            let (text, origin) = join(places, ctx, slices).await?;
            Ok((Records::Lines(text), origin))
        }
        Chunk::JsonLines(slices) => {
            let (text, origin) = join(places, ctx, slices).await?;
            by_length(text.len(), move || Ok((Records::json(text, &origin)?, origin))).await
        }
        Chunk::Csv(csv) => {
            let wrong = || Failure::fatal(format!("{:?} cannot stand between the fields of CSV", csv.delimiter));
            let delimiter = u8::try_from(csv.delimiter)
                .ok()
                .filter(u8::is_ascii)
                .ok_or_else(wrong)?;
            let (text, origin) = join(places, ctx, csv.slices).await?;
            let header = csv.header;
            let csv = CsvText {
                header,
                delimiter,
                text,
            };
            Ok((Records::Csv(csv), origin))
        }
        Chunk::Files(slices) => {
            bounded(&slices)?;
            let mut origin = Origin::default();
            let mut files = Vec::with_capacity(slices.len());
            for slice in slices {
                let path = slice.url.strip_prefix("file://").unwrap_or(&slice.url).to_owned();
                origin.add_file(files.len(), &slice);
                let text = append(places, ctx, slice, Vec::new()).await?.into();
                files.push(FileText { path, text });
            }
            Ok((Records::Files(files), origin))
        }
        _ => Err(Failure::fatal("a chunk of a kind that this consumer does not know")),
    }
}

fn items_as_lines(items: Vec<Box<RawValue>>) -> Records {
    let mut out = Vec::with_capacity(items.iter().map(|item| item.get().len() + 1).sum());
    for item in items {
        lines::push_json(&mut out, item.get());
    }
    // They were parsed as JSON when the chunk was.
    Records::Json(out.into())
}

fn bounded(slices: &[Slice]) -> Result<u64, Failure> {
    let bytes = slices
        .iter()
        .fold(0_u64, |sum, slice| sum.saturating_add(slice.bytes()));
    if bytes > MAX_BYTES {
        return Err(Failure::fatal(format!(
            "a chunk of {bytes} bytes; at most {MAX_BYTES} are read at once"
        )));
    }
    Ok(bytes)
}

/// The slices one after the other, each ended by a line feed.
async fn join(places: &Places, ctx: &StageContext, slices: Vec<Slice>) -> Result<(Bytes, Origin), Failure> {
    let bytes = usize::try_from(bounded(&slices)?)?;
    let mut out = Vec::with_capacity(bytes + slices.len());
    let mut origin = Origin::default();
    for slice in slices {
        origin.add(out.len(), &slice);
        out = append(places, ctx, slice, out).await?;
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
    Ok((out.into(), origin))
}

/// Appends the bytes of a slice.
async fn append(places: &Places, ctx: &StageContext, slice: Slice, mut out: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if slice.end > slice.size || slice.start > slice.end {
        return Err(Failure::fatal(format!(
            "{} has no bytes {} to {}",
            slice.url, slice.start, slice.end
        )));
    }
    ctx.check()?;
    if slice.url.starts_with("file://") {
        let (places, ctx) = (places.clone(), ctx.clone());
        return blocking(move || append_file(&places, &ctx, &slice, out)).await;
    }
    let store = places.store(&slice.url)?;
    let range = slice.start..slice.end;
    out.extend_from_slice(&store.fetch(slice.url, range, slice.size, slice.version).await?);
    Ok(out)
}

fn append_file(places: &Places, ctx: &StageContext, slice: &Slice, out: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let path = slice.url.strip_prefix("file://").unwrap_or(&slice.url);
    let file = places.open(Path::new(path))?;
    append_unchanged(&file, path, slice, out, || ctx.check())
}

/// `step` says before each read whether to go on.
fn append_unchanged(
    file: &File,
    path: &str,
    slice: &Slice,
    mut out: Vec<u8>,
    mut step: impl FnMut() -> Result<(), Failure>,
) -> Result<Vec<u8>, Failure> {
    unchanged(file, path, slice)?;
    let mut at = slice.start;
    while at < slice.end {
        step()?;
        let length = usize::try_from(slice.end - at).unwrap_or(STEP).min(STEP);
        let start = out.len();
        out.resize(start + length, 0);
        file.read_exact_at(&mut out[start..], at)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => changed(path),
                _ => Failure::retry(format!("cannot read {path}: {error}")),
            })?;
        at += length as u64;
    }
    unchanged(file, path, slice)?;
    Ok(out)
}

fn unchanged(file: &File, path: &str, slice: &Slice) -> Result<(), Failure> {
    let now = file.metadata()?;
    let modified = i128::from(now.mtime()) * 1_000_000_000 + i128::from(now.mtime_nsec());
    if now.len() == slice.size && modified.to_string() == slice.version {
        Ok(())
    } else {
        Err(changed(path))
    }
}

fn changed(path: &str) -> Failure {
    Failure::fatal(format!("{path} has changed under the job"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Next;

    /// Reads a file of two lines that becomes this between the first look at it and the read.
    fn read_while_it_becomes(text: &str) -> Result<Vec<u8>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let written = File::options().write(true).open(&path).unwrap();
        // The clock of the file system may be too coarse to tell two writes apart.
        written.set_modified(std::time::UNIX_EPOCH).unwrap();
        let (name, file) = (path.to_str().unwrap(), File::open(&path).unwrap());
        let slice = Slice {
            url: format!("file://{name}"),
            start: 0,
            end: 8,
            size: 8,
            version: "0".to_owned(),
        };
        append_unchanged(&file, name, &slice, Vec::new(), || {
            if text != "one\ntwo\n" {
                std::fs::write(&path, text)?;
            }
            Ok(())
        })
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_fails_for_good() {
        assert_eq!(read_while_it_becomes("one\ntwo\n").unwrap(), b"one\ntwo\n");
        for text in ["six\nten\n", "one\ntwo\nthree\n", "one\n", ""] {
            let failure = read_while_it_becomes(text).unwrap_err();
            assert_eq!(failure.next, Next::Final, "{text:?}");
            assert!(
                failure.message.ends_with("f has changed under the job"),
                "{}",
                failure.message
            );
        }
    }
}
