//! As whom a link logs in, and to which database.

use super::config::LinkConfig;

impl LinkConfig {
    /// The user of Redis.
    #[must_use]
    pub fn user(&self) -> &str {
        self.info().redis_settings().username().unwrap_or("default")
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.info().redis_settings().db()
    }
}
