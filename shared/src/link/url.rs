//! The forms that the URL of a Redis may have.

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::error::Error;

/// Reads `redis://[user:password@]host:port/db`, `rediss://...` or `unix:///path/to.sock`.
///
/// # Errors
/// [`Error::Invalid`] if it is none of these; the URL is not repeated, it may hold a password.
pub(super) fn parse(url: &str) -> Result<ConnectionInfo, Error> {
    url.into_connection_info().map_err(|e| {
        Error::Invalid(format!(
            "Redis URL must be like redis://user:password@host:6379/0 or unix:///path ({})",
            e.category()
        ))
    })
}
