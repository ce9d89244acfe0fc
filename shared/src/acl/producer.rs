//! What a producer needs: to add tasks and jobs, to wait for their ends, to look at them.
//!
//! It cannot claim: the function is not among its own, and even inside another one it could not write what a claim
//! writes, `running:*` and `session:*`. It reads settings, and cannot change them.

use super::grant::{Grant, Reach, channels, functions, on, plain};

/// Its selectors, the busiest first: Redis tries them in this order.
pub(super) const GRANTS: &[Grant] = &[
    functions("enqueue wait follow inspect overview peek job_submit job_wait"),
    on(
        Reach::Read,
        "hget hmget hlen hexists hgetall hvals hscan hrandfield zrange zrevrange zscore zcard zcount \
         zrank llen lrange lindex get",
        "*",
    ),
    // `max_bytes`.
    on(Reach::Read, "memory|usage", "tasks"),
    on(Reach::Write, "hset", "tasks state stats minutes waiters meta job:*"),
    on(Reach::Write, "zadd", "pending scheduled expiring failed jobs jobs:due"),
    on(Reach::Both, "hincrby zpopmin", "stats parked state"),
    channels("spublish", "wake:* done:* finished"),
    channels("ssubscribe", "done:* finished"),
    on(Reach::Write, "set", "producer:*"),
    // A full queue that sheds: the least urgent go from pending to the dead letters.
    on(Reach::Write, "zrem", "pending"),
    // Who waited has been told; a counter of one kind too many is counted with others.
    on(Reach::Write, "hdel", "waiters stats"),
    // A job without chunks ends as it is submitted.
    on(
        Reach::Write,
        "unlink",
        "job:*:chunks job:*:data job:*:tree job:*:runs job:*:again",
    ),
    // A plain push, without any function.
    on(Reach::Write, "rpush", "inbox"),
    on(Reach::Write, "sadd", ":queues"),
    on(Reach::Read, "smembers get", ":queues :consumer:*"),
    // `--durability`; COMMAND INFO tells whether there is WAITAOF.
    plain("wait command|info"),
];
