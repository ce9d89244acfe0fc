//! The limit: the bare commands that store and take a task, in the best pipeline this client has.

use workyard_shared::name::TaskId;

use crate::figures::{Figure, figure, micros};
use crate::server::Server;

/// Tasks in one call, as in the bulk enqueue.
const CHUNK: usize = 500;

/// The floor: the bare commands that store and take a task, without functions, counters, fences or leases, in
/// variadic calls of the same size. What the protocol adds is the ratio to this.
pub(crate) async fn bare(server: &Server, count: usize) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    let record = format!("d1700000000000 noop\n\n\"{}\"", "x".repeat(98));
    let cpu = server.cpu(&link).await?;
    for first in (0..count).step_by(CHUNK) {
        let (mut hset, mut zadd) = (redis::cmd("HSET"), redis::cmd("ZADD"));
        hset.arg("tasks");
        zadd.arg("pending");
        for n in first..(first + CHUNK).min(count) {
            let id = TaskId::fresh().to_string();
            hset.arg(&id).arg(&record);
            zadd.arg(n).arg(&id);
        }
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(hset).add_command(zadd);
        link.pipeline(&pipeline).await?;
    }
    loop {
        let mut pop = redis::cmd("ZPOPMIN");
        pop.arg("pending").arg(CHUNK);
        let ids = popped(link.call(&pop).await?);
        if ids.is_empty() {
            break;
        }
        let (mut get, mut del) = (redis::cmd("HMGET"), redis::cmd("HDEL"));
        get.arg("tasks").arg(&ids);
        del.arg("tasks").arg(&ids);
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(get).add_command(del);
        link.pipeline(&pipeline).await?;
    }
    let spent = micros(server.cpu(&link).await? - cpu, count);
    let note = "HSET, ZADD, ZPOPMIN, HMGET, HDEL: no functions, fences, leases or counters";
    Ok(vec![figure("Redis CPU, bare commands", spent, "us/task", note)])
}

/// The members of a ZPOPMIN answer, which comes as pairs.
fn popped(answer: redis::Value) -> Vec<Vec<u8>> {
    let redis::Value::Array(pairs) = answer else {
        return Vec::new();
    };
    pairs
        .into_iter()
        .filter_map(|pair| match pair {
            redis::Value::Array(pair) => pair.into_iter().next(),
            other => Some(other),
        })
        .filter_map(|id| match id {
            redis::Value::BulkString(bytes) => Some(bytes),
            _ => None,
        })
        .collect()
}
