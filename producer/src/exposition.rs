//! The whole installation as Prometheus reads it, without a daemon.
//!
//! Invariant: reads only, in a few round trips, however many queues there are.

use workyard_shared::metrics::{Exposition, queues};
use workyard_shared::name::QueueName;

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Everything that Redis says of itself, of these queues and of their consumers.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn metrics(&self, names: &[QueueName]) -> Result<Exposition, Error> {
        self.patiently(|| async {
            let (broker, mut out) = (&self.inner.broker, Exposition::default());
            queues::read(&mut out, broker, names).await?;
            queues::read_circuits(&mut out, broker, names).await?;
            Ok(out)
        })
        .await
    }
}
