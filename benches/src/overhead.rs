//! What balancing costs: the drain rate of no-op tasks under each policy, by two equal daemons that stay the same
//! throughout, one policy right after the other.

use std::time::{Duration, Instant};

use workyard_shared::balance::Policy;
use workyard_shared::settings::Setting;

use crate::daemon::Daemon;
use crate::drain::{Load, await_rest, fill};
use crate::figures::{Figure, figure, per_second};
use crate::measure::queue;
use crate::server::Server;

const LOOK: Duration = Duration::from_millis(5);
/// Until everybody has heard of a policy and stands in its new place: three beats.
const HEARD: Duration = Duration::from_secs(3);

/// Two drains of the load under pull and two under adaptive, in the order pull, adaptive, adaptive, pull, so that what
/// slows down or warms up during the run counts for both.
pub(crate) async fn adaptive(server: &Server, load: &Load<'_>) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    link.ensure_library().await?;
    let queue = queue(&link)?;
    let _daemons = [
        Daemon::start(load.consumer, &load.url, load.concurrency, "")?,
        Daemon::start(load.consumer, &load.url, load.concurrency, "")?,
    ];
    let mut spans = [Duration::ZERO; 2];
    for (n, policy) in [
        (0, Policy::Pull),
        (1, Policy::Adaptive),
        (1, Policy::Adaptive),
        (0, Policy::Pull),
    ] {
        queue.set(&[Setting::Balance(policy)]).await?;
        queue.set_paused(true).await?;
        fill(load).await?;
        tokio::time::sleep(HEARD).await;
        while queue.overview().await?.parked < 2 {
            tokio::time::sleep(LOOK).await;
        }
        let begun = Instant::now();
        queue.set_paused(false).await?;
        await_rest(&link, &queue, load).await?;
        spans[n] += begun.elapsed();
    }
    let note = format!("two equal daemons, twice {} no-op tasks each", load.tasks);
    let [pull, adaptive] = spans.map(|span| per_second(2 * load.tasks, span));
    Ok(vec![
        figure("drain, pull", pull, "/s", note.clone()),
        figure("drain, adaptive", adaptive, "/s", note),
        figure("adaptive over pull", adaptive / pull, "times", "of the same round"),
    ])
}
