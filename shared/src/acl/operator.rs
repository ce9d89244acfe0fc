//! What an operator needs: to look at everything, to change settings, to cancel, retry, delete and purge, and to load
//! the functions. It adds no tasks and runs none.

use super::grant::{Grant, Reach, channels, functions, on, plain};

/// Its selectors, the busiest first: Redis tries them in this order.
pub(super) const GRANTS: &[Grant] = &[
    functions(
        "inspect overview peek wait follow survey set cancel retry delete purge retire job_wait job_cancel job_retry \
         job_delete",
    ),
    on(
        Reach::Read,
        "hget hmget hlen hexists hgetall hvals hkeys hscan hrandfield zrange zrevrange zscore zcard \
         zcount zrank llen lrange lindex get xlen xrange xrevrange",
        "*",
    ),
    // `max_bytes`: whether what is in an inbox waits for room.
    on(Reach::Read, "memory|usage", "tasks"),
    on(
        Reach::Write,
        "hset",
        "cfg state stats minutes results waiters tasks job:*",
    ),
    on(Reach::Write, "hdel", "tasks meta results waiters running:* job:* stats"),
    on(Reach::Write, "zadd", "pending done jobs:due"),
    on(
        Reach::Write,
        "zrem",
        "pending scheduled failed done expiring jobs jobs:due job:*",
    ),
    // Nobody else writes what operators did.
    on(Reach::Write, "xadd xdel persist expire", "audit"),
    // A queue that is removed.
    on(
        Reach::Write,
        "unlink",
        "cfg state tasks meta pending scheduled failed results done waiters parked consumers stats minutes expiring inbox \
         inbox:ingesting rejected vitals fleet jobs jobs:due",
    ),
    on(Reach::Both, "hincrby zpopmin", "stats parked"),
    channels("spublish", "wake:* done:* finished"),
    channels("ssubscribe", "done:* finished"),
    // Raw items that are purged before they are tasks.
    on(Reach::Write, "ltrim", "inbox inbox:ingesting"),
    // What a holder of a cancelled task is told.
    on(Reach::Write, "rpush ltrim pexpire", "notices:*"),
    on(Reach::Both, "rpush lpop pexpire", "job:*:again"),
    on(Reach::Read, "exists", "job:*"),
    on(Reach::Write, "unlink", "job:*"),
    on(Reach::Write, "sadd srem", ":queues"),
    on(Reach::Read, "smembers get", ":queues :consumer:*"),
    plain("function|load function|list"),
];
