//! What a key does to a queue, a task or a job.
//!
//! Invariant: an act names what it acts on by id, taken when the key was pressed; what the screen shows by then is no
//! matter. It ends in one sentence, well or not.

use workyard_producer::{CancelAnswer, Client, Error, Filter, JobId, QueueName};

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Pause(QueueName),
    Resume(QueueName),
    CancelTask(QueueName, String),
    RetryTask(QueueName, String),
    RetryAll(QueueName),
    CancelJob(QueueName, JobId),
    RetryJob(QueueName, JobId),
}

impl Act {
    /// What is asked before it is done; `None`: it is undone as easily.
    pub(super) fn question(&self) -> Option<String> {
        match self {
            Self::Pause(_) | Self::Resume(_) | Self::RetryTask(..) | Self::RetryJob(..) => None,
            Self::CancelTask(_, id) => Some(format!("Cancel task {id}?")),
            Self::CancelJob(_, id) => Some(format!("Cancel job {id} and all of its tasks?")),
            Self::RetryAll(queue) => Some(format!("Retry all dead letters of queue {queue}?")),
        }
    }

    /// Does it, and says what came of it.
    pub(super) async fn run(&self, client: &Client) -> String {
        self.done(client)
            .await
            .unwrap_or_else(|error| format!("error: {error}"))
    }

    async fn done(&self, client: &Client) -> Result<String, Error> {
        Ok(match self {
            Self::Pause(queue) => {
                client.pause(queue).await?;
                format!("queue {queue} is paused: what runs goes on")
            }
            Self::Resume(queue) => {
                client.resume(queue).await?;
                format!("queue {queue} is resumed")
            }
            Self::CancelTask(queue, id) => match client.cancel(queue, id).await? {
                CancelAnswer::Cancelled => format!("task {id} is cancelled"),
                CancelAnswer::Finished => format!("task {id} has ended already"),
                CancelAnswer::Unknown => format!("task {id} is not here any more"),
            },
            Self::RetryTask(queue, id) => {
                let again = client.retry(queue, std::slice::from_ref(id)).await?;
                if again.contains(&true) {
                    format!("task {id} is pending again")
                } else {
                    format!("task {id} is no dead letter any more")
                }
            }
            Self::RetryAll(queue) => match client.retry_all(queue, &Filter::default()).await? {
                1 => "1 task is pending again".to_owned(),
                n => format!("{n} tasks are pending again"),
            },
            Self::CancelJob(queue, id) => {
                if client.job(queue, id).cancel().await? {
                    format!("job {id} is cancelled")
                } else {
                    format!("job {id} has ended already")
                }
            }
            Self::RetryJob(queue, id) => {
                client.job(queue, id).retry().await?;
                format!("job {id} goes on with what is missing")
            }
        })
    }
}
