//! Starts or joins the managed Redis of a directory and ends: `managed-starter DIR [SERVER]`. The tests run several
//! at once, as processes of their own, since that is what must not make two servers.

use std::time::Duration;

use workyard_shared::managed::ManagedRedis;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, server) = match &arguments[..] {
        [dir] => (dir, None),
        [dir, server] => (dir, Some(server)),
        _ => anyhow::bail!("DIR [SERVER]"),
    };
    let redis = ManagedRedis::new(dir).with_limit(Duration::from_secs(30));
    let redis = match server {
        Some(server) => redis.with_server(server),
        None => redis,
    };
    redis.start_or_join()?;
    Ok(())
}
