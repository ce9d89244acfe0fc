//! Errors of files and object stores.
//!
//! Invariant: what the operating system said decides where it said something, else the kind of the answer; what nobody
//! can name is worth another try.

use std::io;

/// What the error of a reduce says, and of who reads a result, where a spilled file is not as long as it was written: a
/// retry of the job does not make it again.
pub const SPILLED_DATA_DAMAGED: &str = "spilled data is damaged";

/// Why something could not be read or written, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such file, object or bucket.
    #[error("{url} is not there")]
    Missing {
        /// What was asked for.
        url: String,
    },
    /// Waiting and asking again may help: a network that fails, a disk that is full.
    #[error("{url} cannot be reached now: {detail}")]
    Temporary {
        /// What was asked for.
        url: String,
        /// What the system or the server said.
        detail: String,
    },
    /// It is shorter or longer than what was written there.
    #[error("{SPILLED_DATA_DAMAGED}: {} bytes instead of {} in {}", .found, .expected, .url)]
    Damaged {
        /// What was asked for.
        url: String,
        /// Bytes that are there.
        found: u64,
        /// Bytes that were written.
        expected: u64,
    },
    /// Asking again does not help: not permitted, not a file, not a URL.
    #[error("{url}: {detail}")]
    Final {
        /// What was asked for.
        url: String,
        /// What the system or the server said.
        detail: String,
    },
}

impl StoreError {
    /// What the crate object_store answered for `url`.
    pub(super) fn sorted(url: String, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let detail = error.to_string();
        match error {
            E::NotFound { .. } => Self::Missing { url },
            E::Generic { source, .. } => match io_cause(source.as_ref()) {
                Some(cause) => Self::refused(url, cause),
                None if refused_by_server(&detail) => Self::Final { url, detail },
                None => Self::Temporary { url, detail },
            },
            E::JoinError { .. } => Self::Temporary { url, detail },
            _ => Self::Final { url, detail },
        }
    }

    /// What the operating system answered for `url`.
    pub(super) fn refused(url: String, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let detail = error.to_string();
        match error.kind() {
            K::NotFound => Self::Missing { url },
            K::PermissionDenied
            | K::NotADirectory
            | K::IsADirectory
            | K::ReadOnlyFilesystem
            | K::InvalidInput
            | K::InvalidFilename => Self::Final { url, detail },
            _ => Self::Temporary { url, detail },
        }
    }
}

/// The error of the operating system below, if there is one with a code of its own.
fn io_cause<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    loop {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.raw_os_error().is_some()
        {
            return Some(io);
        }
        error = error.source()?;
    }
}

/// An answer 4xx, but for those that mean "later".
fn refused_by_server(detail: &str) -> bool {
    detail
        .split_once("status code: 4")
        .is_some_and(|(_, rest)| !rest.starts_with("08") && !rest.starts_with("29"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers_are_final_unless_they_mean_later() {
        for (text, is_final) in [
            ("non-2xx status code: 400 Bad Request", true),
            ("non-2xx status code: 408 Request Timeout", false),
            ("non-2xx status code: 429 Too Many Requests", false),
            ("non-2xx status code: 503 Slow Down", false),
            ("error sending request", false),
        ] {
            assert_eq!(refused_by_server(text), is_final, "{text}");
        }
    }
}
