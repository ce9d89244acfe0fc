//! claim: see `lua/claim.lua`.

use redis::{Cmd, Value};

use super::{Queue, reply};
use crate::balance::Rank;
use crate::error::Error;
use crate::limits::MAX_CLAIM_BYTES;
use crate::name::SessionId;
use crate::options::{DEFAULT_PRIORITY, DEFAULT_RETRY_PRIORITY_STEP};
use crate::record::{Meta, Record};

/// What a consumer asks for.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// Who asks.
    pub consumer: &'a SessionId,
    /// At most this many tasks.
    pub most: usize,
    /// The highest token received so far; a reply that was lost comes again.
    pub above: u64,
    /// Whether to be woken when there is less than asked for.
    pub park: bool,
    /// The rank when parked; `None`: the time of parking.
    pub rank: Option<Rank>,
    /// What the consumer promises to say of suspects.
    pub tries: Tries,
}

impl<'a> ClaimRequest<'a> {
    /// One that neither parks nor promises anything.
    #[must_use]
    pub fn new(consumer: &'a SessionId, most: usize, above: u64) -> Self {
        Self {
            consumer,
            most,
            above,
            park: false,
            rank: None,
            tries: Tries::Never,
        }
    }
}

/// Whether a consumer says which suspect it starts ([`Queue::try_suspect`]), so that its death condemns no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// It does not: all that it holds is charged.
    Never,
    /// It does.
    Always,
    /// It does, and its process holds nothing: if the claim brings one task, that is said of it by this.
    HoldsNothing,
}

/// One task handed out.
#[derive(Debug)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// The fencing token of this claim.
    pub token: u64,
    /// The stored task, or why this version cannot read it.
    pub record: Result<Record, Error>,
    /// Its counters and last error.
    pub meta: Meta,
}

/// Consumers that may die under a task: as in `lua/prelude.lua`.
const POISON_LIMIT: u32 = 3;

impl Grant {
    /// Its kind; empty if this version cannot read it.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.record.as_ref().map_or("", Record::kind)
    }

    /// Where it stands among tasks of its queue, lower first: priority, retries included, then the time of its enqueue.
    #[must_use]
    pub fn urgency(&self) -> (u64, u64) {
        let Ok(record) = &self.record else {
            return (u64::MAX, 0);
        };
        let options = record.options();
        let step = options.retry_priority_step.unwrap_or(DEFAULT_RETRY_PRIORITY_STEP);
        let raised = u64::from(step) * u64::from(self.meta.failures);
        let priority = u64::from(options.priority.unwrap_or(DEFAULT_PRIORITY)) + raised;
        (priority.min(255), record.created_ms)
    }

    /// Whether one more death of a consumer under it may make it poison: also if it was told to bear more, for others that
    /// run beside it were not.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.meta.crashes + 1 >= POISON_LIMIT
    }

    /// How often a consumer died under it since it is a suspect: what may have killed beside it, and took its time.
    #[must_use]
    pub fn survived(&self) -> u32 {
        (self.meta.crashes + 1).saturating_sub(POISON_LIMIT)
    }
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claimed {
    /// Tasks, maybe none; if fewer than asked for, no others were there and the consumer is parked.
    Tasks(Vec<Grant>),
    /// Fewer tasks than asked for, maybe none, although there are more: the byte limit, a reply that
    /// came again, or tasks that had expired. The consumer is not parked: claim again.
    More(Vec<Grant>),
    /// The queue is paused.
    Paused,
    /// The session lease is gone: register anew.
    Lost,
}

impl Queue {
    /// The command that claims.
    #[must_use]
    pub fn claim_cmd(&self, request: ClaimRequest<'_>) -> Cmd {
        let consumer = request.consumer;
        let (running, session) = (self.keys.running(consumer), self.keys.session(consumer));
        let mut cmd = self.fcall("claim", &[&running, &session]);
        cmd.arg(consumer.as_str()).arg(request.most).arg(request.above);
        cmd.arg(if request.park { "1" } else { "0" }).arg(MAX_CLAIM_BYTES);
        match request.rank {
            Some(rank) => cmd.arg(rank.base).arg(rank.grain),
            None => cmd.arg("").arg(1),
        };
        match request.tries {
            Tries::Never => {}
            Tries::Always => drop(cmd.arg(1)),
            Tries::HoldsNothing => drop(cmd.arg(2)),
        }
        cmd
    }

    /// Reads the answer to [`Self::claim_cmd`].
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is none.
    pub fn read_claim(value: Value) -> Result<Claimed, Error> {
        let mut items = reply::array(value)?.into_iter();
        let status = items.next().map(reply::string).transpose()?;
        match status.as_deref() {
            Some("lost") => return Ok(Claimed::Lost),
            Some("paused") => return Ok(Claimed::Paused),
            Some("ok" | "more") => {}
            other => return Err(Error::Protocol(format!("claim status {other:?}"))),
        }
        let token = items.next().as_ref().map(reply::count).transpose()?.unwrap_or_default();
        let mut grants = Vec::with_capacity(items.len() / 3);
        while let (Some(id), Some(record), Some(meta)) = (items.next(), items.next(), items.next()) {
            let (id, meta) = (reply::bytes(id)?, reply::bytes(meta)?);
            let record = reply::bytes(record)?;
            grants.push(Grant {
                token,
                // An id that no producer can have was put there by hand: it must not cost the others.
                record: match std::str::from_utf8(&id) {
                    Ok(_) => Record::parse(record),
                    Err(_) => Err(Error::Protocol("its id is not text".to_owned())),
                },
                id: String::from_utf8_lossy(&id).into_owned(),
                meta: if meta.is_empty() {
                    Meta::default()
                } else {
                    Meta::parse(&meta)
                },
            });
        }
        Ok(if status.as_deref() == Some("more") {
            Claimed::More(grants)
        } else {
            Claimed::Tasks(grants)
        })
    }

    /// Claims tasks in one call of its own.
    ///
    /// # Errors
    /// As [`Error`] sorts them; after [`Error::Unknown`] claim again with the same `above`.
    pub async fn claim(&self, request: ClaimRequest<'_>) -> Result<Claimed, Error> {
        Self::read_claim(self.link.call(&self.claim_cmd(request)).await?)
    }
}
