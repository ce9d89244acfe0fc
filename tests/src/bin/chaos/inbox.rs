//! Plain pushes to a queue's inbox, as any Redis client can send them.

use std::time::Duration;

use workyard_shared::broker::Queue;

/// The inbox of a queue.
pub(crate) struct Inbox {
    queue: Queue,
    key: String,
}

impl Inbox {
    pub(crate) fn new(queue: Queue) -> Self {
        let key = queue.keys().named("inbox");
        Self { queue, key }
    }

    /// Pushes tasks under these ids; false if they have to be pushed again, which their ids make harmless.
    pub(crate) async fn push(&self, ids: &[String]) -> anyhow::Result<bool> {
        let mut cmd = redis::cmd("RPUSH");
        cmd.arg(&self.key);
        for id in ids {
            cmd.arg(format!(
                r#"{{"kind":"work","id":"{id}","payload":{{"ms":1,"plan":"ok"}}}}"#
            ));
        }
        match self.queue.link().call(&cmd).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_temporary() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
