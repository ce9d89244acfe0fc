//! What is logged.
//!
//! Invariant: a filter that is here can be used; a bare word that is no level is refused, since it would be a target
//! that nothing has: silence.

use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or levels by target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Checks a filter.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        let is_level = |word: &str| LEVELS.contains(&word.to_lowercase().as_str());
        let mut words = text.split(',').map(str::trim);
        if let Some(word) = words.find(|word| !word.contains('=') && !is_level(word)) {
            return Err(format!(
                "\"{word}\" must be error, warn, info, debug, trace, or target=level"
            ));
        }
        EnvFilter::try_new(&text).map_err(|e| format!("\"{text}\": {e}; try error, warn, info, debug or trace"))?;
        Ok(Self(text))
    }

    /// The filter.
    #[must_use]
    pub fn to_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl std::str::FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

impl std::fmt::Display for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
