//! The bytes of a chunk, and the items in them.
//!
//! Invariant: every text but that of a whole file ends with a line feed or is empty, and the JSON
//! lines are valid, so that no function has to check them again.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::item::{Item, without_return};
use super::{Origin, lines};
use crate::handler::Failure;

/// What a chunk holds, as it was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Records {
    /// Text, an item per line.
    Lines(Bytes),
    /// JSON lines; empty ones count for nothing.
    Json(Bytes),
    /// CSV, an item per record: an object of strings.
    Csv(CsvText),
    /// Whole files, an item per file: `{"path": ..., "text": ...}`.
    Files(Vec<FileText>),
}

/// Records of CSV, apart from the header.
#[derive(Debug, Clone)]
pub struct CsvText {
    /// The line that names the fields.
    pub header: String,
    /// Between fields.
    pub delimiter: u8,
    /// The records.
    pub text: Bytes,
}

/// A file.
#[derive(Debug, Clone)]
pub struct FileText {
    /// Its path or address.
    pub path: String,
    /// What it holds.
    pub text: Bytes,
}

#[derive(Serialize)]
struct FileItem<'a> {
    path: &'a str,
    text: Cow<'a, str>,
}

impl Records {
    /// JSON lines, each of which is checked.
    pub(crate) fn json(text: Bytes, origin: &Origin) -> Result<Self, Failure> {
        let mut offset = 0;
        for (at, whole) in lines::of(&text).enumerate() {
            let line = whole.trim_ascii();
            let sound = std::str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<IgnoredAny>(line).is_ok());
            if !sound && !line.is_empty() {
                let failure = Failure::fatal(format!("line {} of the chunk is not JSON", at + 1));
                return Err(origin.place(failure, &text, offset));
            }
            offset += whole.len() + 1;
        }
        Ok(Self::Json(text))
    }

    /// Calls `take` with each item.
    ///
    /// # Errors
    /// Those of `take`, and a failure for good for a record that does not fit its header.
    pub fn each(&self, mut take: impl FnMut(Item<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        self.each_at(&mut |_, item| take(item?))
    }

    /// Calls `take` with each item and where it stands: its offset in the text, or the number of its file.
    pub(super) fn each_at(&self, take: &mut Take<'_>) -> Result<(), Failure> {
        match self {
            Self::Lines(text) => lines::of(text).try_for_each(|line| {
                let at = line.as_ptr() as usize - text.as_ptr() as usize;
                take(at, Ok(Item::Text(without_return(line))))
            }),
            Self::Json(text) => each_json(text, &mut |item| {
                let at = match item {
                    Item::Json(json) => json.as_ptr() as usize - text.as_ptr() as usize,
                    Item::Text(_) => 0,
                };
                take(at, Ok(item))
            }),
            Self::Csv(csv) => csv.each(take),
            Self::Files(files) => files.iter().enumerate().try_for_each(|(at, file)| {
                let text = String::from_utf8_lossy(&file.text);
                let mut json = Vec::with_capacity(text.len() + 64);
                let path = &file.path;
                lines::append(&mut json, &FileItem { path, text })?;
                take(at, Ok(Item::Json(&String::from_utf8(json)?)))
            }),
        }
    }

    /// How long they are.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Files(files) => files.iter().map(|file| file.text.len()).sum(),
            Self::Lines(_) | Self::Json(_) | Self::Csv(_) => self.text().len(),
        }
    }

    /// The text that offsets of items are in; empty for whole files.
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Lines(text) | Self::Json(text) => text,
            Self::Csv(csv) => &csv.text,
            Self::Files(_) => &[],
        }
    }
}

/// Takes an item, or what is wrong with it.
type Take<'a> = dyn FnMut(usize, Result<Item<'_>, Failure>) -> Result<(), Failure> + 'a;

/// Calls `take` with each line of JSON that is not empty.
pub(super) fn each_json(text: &[u8], take: &mut impl FnMut(Item<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    for line in lines::of(text) {
        let line = line.trim_ascii();
        if !line.is_empty() {
            let json = std::str::from_utf8(line).map_err(|_| Failure::fatal("a value is not UTF-8"))?;
            take(Item::Json(json))?;
        }
    }
    Ok(())
}

impl CsvText {
    fn reader<'a>(&self, text: &'a [u8]) -> csv::Reader<&'a [u8]> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            // Compared with the header here, for a message that says which record.
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(text)
    }

    fn each(&self, take: &mut Take<'_>) -> Result<(), Failure> {
        let mut record = csv::ByteRecord::new();
        self.reader(self.header.as_bytes()).read_byte_record(&mut record)?;
        let mut names = Vec::with_capacity(record.len());
        for name in &record {
            let mut json = Vec::new();
            lines::append(&mut json, &*String::from_utf8_lossy(name))?;
            names.push(json);
        }
        let mut reader = self.reader(&self.text);
        let mut json = Vec::new();
        let mut number = 0;
        while reader.read_byte_record(&mut record)? {
            number += 1;
            let at = record
                .position()
                .and_then(|at| usize::try_from(at.byte()).ok())
                .unwrap_or(0);
            if record.len() != names.len() {
                let (has, wanted) = (record.len(), names.len());
                let reason = format!("record {number} of the chunk has {has} fields, its header {wanted}");
                return take(at, Err(Failure::fatal(reason)));
            }
            json.clear();
            for (at, (name, field)) in names.iter().zip(&record).enumerate() {
                json.push(if at == 0 { b'{' } else { b',' });
                json.extend_from_slice(name);
                json.push(b':');
                lines::append(&mut json, &*String::from_utf8_lossy(field))?;
            }
            json.push(b'}');
            take(at, Ok(Item::Json(std::str::from_utf8(&json)?)))?;
        }
        Ok(())
    }
}
