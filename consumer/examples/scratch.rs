//! scratch
use std::time::{Duration, Instant};
use workyard_consumer::*;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::*;
use workyard_shared::envelope::NewTask;
use workyard_shared::submit::Submitter;
use workyard_shared::link::Link;
use workyard_shared::broker::Broker;
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_env_filter(std::env::var("RUST_LOG").unwrap_or("info".into())).init();
    let n: usize = std::env::args().nth(1).map(|s| s.parse().unwrap()).unwrap_or(100_000);
    let conc: usize = std::env::args().nth(2).map(|s| s.parse().unwrap()).unwrap_or(100);
    let url = std::env::var("URL").unwrap_or("redis://127.0.0.1:17999/".into());
    let link = LinkConfig::from_url(&url).unwrap();
    let q = QueueName::new("bench").unwrap();
    let broker = Broker::new(Link::new(link.clone(), None).unwrap(), Prefix::default());
    let lanes: Vec<_> = (0..2).map(|_| Submitter::start(broker.queue(&q))).collect();
    let t = Instant::now();
    let mut hs = vec![];
    for l in lanes {
        hs.push(tokio::spawn(async move {
            let mut left = n / 2;
            while left > 0 {
                let k = left.min(500);
                left -= k;
                let mut payload = vec![b'"']; payload.extend(std::iter::repeat_n(b'x', 98)); payload.push(b'"');
                let payload = bytes::Bytes::from(payload);
                let tasks: Vec<_> = (0..k).map(|_| {
                    let mut t = NewTask::new(Kind::new("noop").unwrap(), payload.clone()).unwrap();
                    t.options.retention = Some(Duration::ZERO);
                    (TaskId::fresh(), t)
                }).collect();
                l.submit(tasks, true, None, Duration::from_secs(5)).await.unwrap();
            }
        }));
    }
    for h in hs { h.await.unwrap(); }
    let e = t.elapsed();
    println!("enqueued {n} in {e:?} = {:.0}/s", n as f64 / e.as_secs_f64());
    let mut reg = Registry::new();
    reg.register("noop", |_c: Context, _p: serde_json::Value| async move { Ok::<(), Failure>(()) }).unwrap();
    let mut config = WorkerConfig::new(link, q);
    config.concurrency = conc;
    let t = Instant::now();
    Worker::new(config, reg).unwrap().join().await.unwrap();
    let e = t.elapsed();
    println!("drained {n} in {e:?} = {:.0}/s", n as f64 / e.as_secs_f64());
}
