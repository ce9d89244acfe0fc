//! What a consumer needs: to claim and settle, to be the maintainer, to ingest, to run jobs, to tell how it is; and to
//! enqueue, since a handler may add tasks.

use super::grant::{Grant, Reach, channels, functions, on};

/// Its selectors, the busiest first: Redis tries them in this order.
pub(super) const GRANTS: &[Grant] = &[
    functions(
        "claim try complete fail release progress enqueue heartbeat survey fleet promote dead reclaim leave unpark \
         pass_on sweep peek ingest inspect overview job_settle job_tend job_backup job_reducing",
    ),
    // Settings among them, which no other selector names.
    on(
        Reach::Read,
        "hget hmget hlen hexists hgetall hstrlen hkeys hscan hrandfield zrange zrevrange zrangebyscore \
         zscore zcard zcount llen lrange lindex get",
        "*",
    ),
    on(
        Reach::Write,
        "hset hdel",
        "tasks meta running:* session:* state stats results waiters minutes vitals job:*",
    ),
    on(
        Reach::Write,
        "zadd zrem zremrangebyrank",
        "pending parked scheduled done failed expiring consumers jobs jobs:due job:*",
    ),
    on(Reach::Both, "hincrby zpopmin", "stats parked state"),
    channels("spublish ssubscribe sunsubscribe", "wake:*"),
    channels("spublish", "done:* finished"),
    // Whole keys, and the ends of lists: only of these.
    // `max_bytes`.
    on(Reach::Read, "memory|usage", "tasks"),
    on(Reach::Write, "del", "session:* notices:*"),
    on(Reach::Both, "blmove", "inbox inbox:ingesting"),
    on(
        Reach::Write,
        "lpush ltrim",
        "inbox inbox:ingesting rejected notices:* job:*:runs",
    ),
    on(Reach::Both, "rpush lpop", "job:*:again"),
    on(Reach::Write, "unlink", "job:*"),
    on(Reach::Write, "set", "fleet producer:* :consumer:*"),
    on(Reach::Write, "del", ":consumer:*"),
    on(Reach::Write, "sadd", ":queues"),
];
