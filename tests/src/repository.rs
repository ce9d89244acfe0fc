//! Files of this repository that tests read: manifests, rules, documents.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where a file of the repository is.
#[must_use]
pub fn repository_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// What a file of the repository says.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn repository_text(name: &str) -> String {
    let path = repository_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The documents of a YAML file of the repository, what they merge (`<<`) in its place.
///
/// # Panics
/// When it cannot be read, or is none.
#[must_use]
pub fn repository_yaml(name: &str) -> Vec<serde_json::Value> {
    let text = repository_text(name);
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            let read = || {
                let mut value = serde_norway::Value::deserialize(document)?;
                value.apply_merge()?;
                Ok::<_, serde_norway::Error>(value)
            };
            let value = read().unwrap_or_else(|e| panic!("{name}: {e}"));
            serde_json::to_value(value).unwrap_or_else(|e| panic!("{name}: {e}"))
        })
        .collect()
}
