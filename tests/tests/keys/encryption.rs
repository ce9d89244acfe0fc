//! Payloads and results that Redis cannot read: through real programs, with each sort of handler, and against whoever can
//! write to Redis.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::{Value, json};
use workyard_consumer::{Context, Failure, Protection, Registry};
use workyard_producer::{Client, ClientConfig, TaskView, task};
use workyard_shared::crypto::{Binding, KeyRing, Part, is_sealed, key_of};
use workyard_tests::{Signal, Yard, queue_name, wait_until};

use crate::stand::{
    FILE, MARK, SOON, cli, consumer, done, echo_server, everything, holds, overwrite, path, push, record, refused, stop,
};

#[tokio::test(flavor = "multi_thread")]
async fn redis_never_sees_what_is_sealed_and_every_sort_of_handler_does() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring"]);
    let file = FILE.replace("ADDRESS", &echo_server().await);
    let daemon = consumer(
        &yard,
        &format!("{file}\n[keys]\nfile = \"ring\"\nrequire_sealed = true\n"),
        &[],
    );
    wait_until(SOON, || async { yard.overview().await.consumers > 0 }).await;
    let payload = json!({ "secret": MARK }).to_string();
    for kind in ["command", "argument", "worker", "http", "builtin"] {
        let shown = done(
            &yard,
            &[
                "enqueue", kind, &payload, "--wait", "20s", "--keys", "ring", "--id", kind,
            ],
        );
        assert!(shown.contains(MARK), "{kind}: {shown}");
        let stored = yard.result(kind).await;
        assert!(
            is_sealed(stored.as_bytes()) && !stored.contains(MARK),
            "{kind}: {stored}"
        );
    }
    // With the keys all looks as if nothing had been sealed, without them each says so and with which key.
    let key = key_of(yard.result("command").await.as_bytes()).unwrap();
    for args in [
        &["task", "command"][..],
        &["wait", "command"],
        &["results"],
        &["list", "--json"],
        &["task", "command", "--result"],
    ] {
        let with = [args, &["--keys", "ring"]].concat();
        assert!(done(&yard, &with).contains(MARK), "{args:?}");
        let (code, stdout, stderr) = cli(&yard, args);
        let said = format!("{stdout}{stderr}");
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("sealed") && said.contains(key.as_str()) && !said.contains(MARK),
            "{said}"
        );
    }
    // Also while it waits, fails, and lies among the dead.
    stop(&daemon).await;
    let waiting = done(&yard, &["enqueue", "command", &payload, "--keys", "ring"]);
    assert!(done(&yard, &["task", &waiting, "--keys", "ring"]).contains(MARK));
    assert!(!done(&yard, &["task", &waiting]).contains(MARK));
    let lines = format!("{{\"kind\":\"k\",\"payload\":{payload}}}\n").repeat(3);
    std::fs::write(path(&yard, "tasks.jsonl"), lines).unwrap();
    done(&yard, &["enqueue", "--from-file", "tasks.jsonl", "--keys", "ring"]);
    assert!(!holds(&everything(&yard).await, MARK));
    assert!(!daemon.log().contains(MARK), "{}", daemon.log());
    assert!(
        holds(&everything(&yard).await, "workyard.sealed"),
        "it looks where payloads are"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_exchanged_while_tasks_go_on() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring", "--id", "old"]);
    let daemon = consumer(&yard, FILE, &["--keys", "ring"]);
    wait_until(SOON, || async { yard.overview().await.consumers > 0 }).await;
    let run = |id: &str| {
        done(
            &yard,
            &["enqueue", "builtin", "7", "--wait", "20s", "--keys", "ring", "--id", id],
        )
    };
    let key = |sealed: String| key_of(sealed.as_bytes()).unwrap().to_string();
    assert_eq!(run("a"), "7");
    // One that waits for long was sealed with the old key.
    done(
        &yard,
        &[
            "enqueue", "builtin", "8", "--delay", "1h", "--keys", "ring", "--id", "late",
        ],
    );
    let reload = |times: usize| {
        daemon.signal(Signal::HUP);
        let log = || daemon.log().matches("the new configuration holds").count();
        wait_until(SOON, move || async move { log() == times })
    };
    // First everybody has the new key, then it is used, then the old one goes.
    done(&yard, &["keys", "new", "ring", "--id", "new"]);
    reload(1).await;
    assert_eq!(run("b"), "7");
    assert_eq!(key(yard.result("b").await), "old");
    done(&yard, &["keys", "use", "ring", "new"]);
    assert_eq!(run("c"), "7");
    reload(2).await;
    assert_eq!(run("d"), "7");
    assert_eq!(key(yard.result("d").await), "new");
    assert_eq!(
        done(&yard, &["wait", "a", "--keys", "ring"]),
        "7",
        "what the old key sealed opens"
    );
    done(&yard, &["keys", "remove", "ring", "old"]);
    reload(3).await;
    assert_eq!(run("e"), "7");
    let (code, stdout, stderr) = cli(&yard, &["wait", "a", "--keys", "ring"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("sealed with key old, which is not in the key ring"),
        "{stderr}"
    );
    // Its key is gone: no attempt can help.
    let mut redis = yard.server.connection().await;
    let scheduled = yard.queue.keys().named("scheduled");
    let () = redis::cmd("ZADD")
        .arg(&scheduled)
        .arg(1)
        .arg("late")
        .query_async(&mut redis)
        .await
        .unwrap();
    refused(&yard, "late", "sealed with key old").await;
    // A ring that cannot be used is refused, and the one that was read goes on.
    std::fs::set_permissions(path(&yard, "ring"), std::fs::Permissions::from_mode(0o644)).unwrap();
    daemon.signal(Signal::HUP);
    wait_until(SOON, || async { daemon.log().contains("has mode 0644") }).await;
    std::fs::set_permissions(path(&yard, "ring"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(run("f"), "7");
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertext_that_was_moved_or_changed_is_refused_at_once_and_no_handler_sees_it() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring", "--id", "k1"]);
    done(&yard, &["keys", "new", "other", "--id", "k2"]);
    let touch = FILE.replace("argv = [\"cat\"]", "argv = [\"touch\", \"ran\"]");
    for id in ["good", "moved", "kind", "changed", "result", "form"] {
        let payload = format!("\"{id}\"");
        done(&yard, &["enqueue", "command", &payload, "--keys", "ring", "--id", id]);
    }
    done(
        &yard,
        &["enqueue", "command", "1", "--keys", "other", "--id", "unknown"],
    );
    done(&yard, &["enqueue", "command", "1", "--id", "plain"]);
    let good = record(&yard, "good").await;
    let own = record(&yard, "moved").await;
    overwrite(&yard, "moved", |text| text.replace(&own, &good)).await;
    overwrite(&yard, "kind", |text| text.replacen(" command\n", " builtin\n", 1)).await;
    overwrite(&yard, "changed", |text| {
        let place = text.find("\"data\":\"").unwrap() + 50;
        let other = if &text[place..=place] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &text[..place], &text[place + 1..])
    })
    .await;
    overwrite(&yard, "form", |text| text.replace("\"data\"", "\"date\"")).await;
    // The ciphertext of a result, put into the payload of the same task.
    let ring = KeyRing::read(&path(&yard, "ring")).unwrap();
    let task = Binding {
        queue: "q",
        kind: "command",
        id: "result",
    };
    let sealed = ring.seal(Part::Result, task, b"1").unwrap();
    let own = record(&yard, "result").await;
    overwrite(&yard, "result", |text| {
        text.replace(&own, std::str::from_utf8(&sealed).unwrap())
    })
    .await;
    done(&yard, &["cancel", "good"]);

    let keys = "[keys]\nfile = \"ring\"\nrequire_sealed = true\n";
    let daemon = consumer(&yard, &format!("{touch}\n{keys}"), &[]);
    for (id, reason) in [
        ("moved", "sealed with key k1, but it does not open"),
        ("kind", "sealed with key k1, but it does not open"),
        ("changed", "sealed with key k1, but it does not open"),
        ("result", "sealed with key k1, but it does not open"),
        ("form", "is not in that form"),
        ("unknown", "sealed with key k2, which is not in the key ring"),
        ("plain", "its payload is not sealed"),
    ] {
        refused(&yard, id, reason).await;
    }
    assert!(!path(&yard, "ran").exists(), "a handler ran");
    stop(&daemon).await;
    // A consumer without keys does not hand ciphertext to its handlers.
    done(&yard, &["enqueue", "command", "1", "--keys", "ring", "--id", "keyless"]);
    let daemon = consumer(&yard, &touch, &[]);
    refused(&yard, "keyless", "sealed with key k1, and no key ring was given here").await;
    assert!(!path(&yard, "ran").exists(), "a handler ran");
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_item_of_the_inbox_needs_an_id() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring"]);
    let ring = KeyRing::read(&path(&yard, "ring")).unwrap();
    let task = Binding {
        queue: "q",
        kind: "builtin",
        id: "mine",
    };
    let sealed = ring.seal(Part::Payload, task, b"[7]").unwrap();
    let sealed: Value = serde_json::from_slice(&sealed).unwrap();
    for item in [
        json!({ "kind": "builtin", "payload": sealed }),
        json!({ "kind": "builtin", "payload": sealed, "id": "mine" }),
    ] {
        // `Value` sorts its fields: as text, in the order of the form.
        let ordered = format!(
            "{{\"workyard.sealed\":1,\"key\":{},\"data\":{}}}",
            sealed["key"], sealed["data"]
        );
        let item = item.to_string().replace(&sealed.to_string(), &ordered);
        push(&yard, &item).await;
    }
    let daemon = consumer(&yard, FILE, &["--keys", "ring"]);
    yard.ended("mine").await;
    assert_eq!(done(&yard, &["wait", "mine", "--keys", "ring"]), "[7]");
    let rejected = done(&yard, &["rejected"]);
    assert!(rejected.contains("bound to the task's id"), "{rejected}");
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_seal_and_open_by_themselves() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring"]);
    let ring = Arc::new(KeyRing::read(&path(&yard, "ring")).unwrap());
    let mut registry = Registry::new();
    registry
        .register("first", |ctx: Context, text: String| async move {
            assert!(ctx.is_sealed());
            let next = task("second").payload(&format!("{text}!")).id("child").build();
            ctx.enqueue(next.map_err(|e| Failure::fatal(e.to_string()))?).await?;
            Ok::<String, Failure>(text)
        })
        .unwrap();
    registry
        .register("second", |_: Context, text: String| async move {
            Ok::<String, Failure>(text)
        })
        .unwrap();
    let mut config = yard.config();
    config.protection = Protection {
        keys: Some(Arc::clone(&ring)),
        require_sealed: true,
        ..Protection::default()
    };
    registry
        .register(
            "number",
            |_: Context, number: u32| async move { Ok::<u32, Failure>(number) },
        )
        .unwrap();
    let worker = yard.work(registry, config).await;
    let mut config = ClientConfig::from_url(&yard.server.producer_url()).unwrap();
    config.keys = Some(ring);
    let client = Client::new(config).unwrap();
    let queue = queue_name("q");
    let sent = task("first").payload(MARK).build().unwrap();
    let (receipt, ended) = client.enqueue_and_wait(&queue, sent, SOON).await.unwrap();
    assert_eq!(ended.unwrap().body, format!("{MARK:?}"));
    let child = client.wait(&queue, "child", SOON).await.unwrap();
    assert_eq!(
        child.body,
        format!("\"{MARK}!\""),
        "what a handler enqueues is sealed, too"
    );
    let view: TaskView = client.task(&queue, receipt.id.as_str()).await.unwrap();
    assert_eq!(view.result.unwrap().parse::<String>().unwrap(), MARK);
    // The text of a mismatch repeats the value: not of one that was sealed.
    let sent = task("number").payload(MARK).build().unwrap();
    let (receipt, ended) = client.enqueue_and_wait(&queue, sent, SOON).await.unwrap();
    assert_eq!(ended.unwrap().reason, "final");
    let meta = yard.buried(receipt.id.as_str(), SOON).await;
    assert!(
        meta.error.contains("does not fit") && !meta.error.contains(MARK),
        "{}",
        meta.error
    );
    assert!(!holds(&everything(&yard).await, MARK));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_cannot_be_used_ends_the_programs_before_they_begin() {
    let yard = Yard::start().await;
    let (code, id, note) = cli(&yard, &["keys", "new", "ring"]);
    assert_eq!((code, note.as_str()), (0, ""));
    assert_eq!(
        std::fs::metadata(path(&yard, "ring")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let second = cli(&yard, &["keys", "new", "ring"]);
    assert_eq!((second.0, second.1), (0, format!("{id}-2")));
    assert!(second.2.contains("workyard keys use"), "{}", second.2);
    let listed = done(&yard, &["keys", "list", "ring"]);
    assert_eq!(listed, format!("encrypt  {id}  current\nencrypt  {id}-2"));
    let text = std::fs::read_to_string(path(&yard, "ring")).unwrap();
    let secret = text.split_whitespace().find(|word| word.len() == 44).unwrap();
    assert!(!listed.contains(secret));
    std::fs::set_permissions(path(&yard, "ring"), std::fs::Permissions::from_mode(0o604)).unwrap();
    std::fs::write(path(&yard, "empty"), "# none\n").unwrap();
    std::fs::set_permissions(path(&yard, "empty"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for (ring, reason) in [
        ("ring", "has mode 0604"),
        ("none", "cannot read the keys from none"),
        ("empty", "holds no key"),
    ] {
        for args in [&["enqueue", "k", "1"][..], &["stats"]] {
            let (code, _, stderr) = cli(&yard, &[args, &["--keys", ring]].concat());
            assert!(code == 2 && stderr.contains(reason), "{code} {stderr}");
        }
        for flags in [&["--keys", ring][..], &["--keys", ring, "--check"]] {
            let daemon = consumer(&yard, FILE, flags);
            assert_eq!(daemon.wait_exit(SOON).await.code(), Some(2), "{}", daemon.log());
            assert!(
                daemon.log().contains(reason) && !daemon.log().contains(secret),
                "{}",
                daemon.log()
            );
        }
    }
    assert_eq!(cli(&yard, &["keys", "new", "ring"]).0, 2, "nor does it get another key");
    let without = format!("{FILE}\n[keys]\nrequire_sealed = true\n");
    let daemon = consumer(&yard, &without, &[]);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(2));
    assert!(
        daemon.log().contains("no key ring with an encrypt key"),
        "{}",
        daemon.log()
    );
    assert_eq!(yard.overview().await.pending, 0, "nothing was enqueued");
}
