//! Tasks that nobody can make up: a queue or a kind that takes signed tasks only, and whoever can write to Redis.

use std::sync::Arc;

use serde_json::json;
use workyard_producer::{Client, ClientConfig, KeyRing, task};
use workyard_tests::{Yard, get, http_of, queue_name, wait_until};

use crate::stand::{SOON, cli, consumer, done, overwrite, path, push, record, refused, stop};

/// A queue that takes signed tasks only; its command leaves a trace.
const SIGNED: &str = r#"
[[queues]]
name = "q"
signed = true

[handlers.touch]
type = "command"
argv = ["sh", "-c", "read id; touch ran-$id; echo $id"]

[handlers.other]
type = "command"
argv = ["touch", "ran-other"]

[keys]
file = "consumer.keys"
"#;

/// The same by kind.
const BY_KIND: &str = r#"
[[queues]]
name = "q"

[handlers.touch]
type = "command"
signed = true
argv = ["sh", "-c", "read id; touch ran-$id; echo $id"]

[handlers.free]
type = "builtin"
function = "echo"

[jobs]
read = ["."]

[keys]
file = "consumer.keys"
"#;

/// A ring that signs, and one with its public half.
fn make_rings(yard: &Yard) {
    done(yard, &["keys", "new", "signer.keys", "--use", "sign", "--id", "s1"]);
    done(yard, &["keys", "new", "stranger.keys", "--use", "sign", "--id", "s1"]);
    done(yard, &["keys", "new", "unknown.keys", "--use", "sign", "--id", "s9"]);
    // As somebody with `umask 077` gets it from `keys public signer.keys > consumer.keys`.
    done(yard, &["keys", "new", "consumer.keys", "--id", "e1"]);
    let public = done(yard, &["keys", "public", "signer.keys"]);
    assert!(public.starts_with("verify s1 "), "{public}");
    let ring = std::fs::read_to_string(path(yard, "consumer.keys")).unwrap();
    std::fs::write(path(yard, "consumer.keys"), format!("{ring}{public}\n")).unwrap();
}

fn ran(yard: &Yard) -> Vec<String> {
    let names = std::fs::read_dir(yard.server.dir()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("ran-")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_queue_runs_what_was_signed_and_starts_no_process_for_anything_else() {
    let yard = Yard::start().await;
    make_rings(&yard);
    let add = |id: &str, ring: &[&str]| {
        let number = id.len().to_string();
        done(
            &yard,
            &[&["enqueue", "touch", &number, "--id", id, "--header", "tenant=7"], ring].concat(),
        );
    };
    add("unsigned", &[]);
    add("stranger", &["--keys", "stranger.keys"]);
    add("unknown-key", &["--keys", "unknown.keys"]);
    for id in ["payload", "kind", "header", "stolen", "cut", "again"] {
        add(id, &["--keys", "signer.keys"]);
    }
    // What somebody with write access to Redis can do with tasks that were signed.
    overwrite(&yard, "payload", |text| text.replace("\n7", "\n666")).await;
    overwrite(&yard, "kind", |text| text.replacen(" touch", " other", 1)).await;
    overwrite(&yard, "header", |text| {
        text.replace("\"tenant\":\"7\"", "\"tenant\":\"8\"")
    })
    .await;
    overwrite(&yard, "cut", |text| text.replace("\"signature\"", "\"unsignature\"")).await;
    let mut redis = yard.server.connection().await;
    let key = yard.queue.keys().named("tasks");
    let whole: String = redis::cmd("HGET")
        .arg(&key)
        .arg("again")
        .query_async(&mut redis)
        .await
        .unwrap();
    overwrite(&yard, "stolen", |_| whole).await;

    let daemon = consumer(&yard, SIGNED, &["--http", "127.0.0.1:0"]);
    for (id, reason) in [
        ("unsigned", "it has no signature"),
        ("stranger", "its signature with key s1 is wrong"),
        ("unknown-key", "signed with key s9, which is not in the key ring"),
        ("payload", "its signature with key s1 is wrong"),
        ("kind", "its signature with key s1 is wrong"),
        ("header", "its signature with key s1 is wrong"),
        ("stolen", "its signature with key s1 is wrong"),
        ("cut", "it has no signature"),
    ] {
        refused(&yard, id, reason).await;
    }
    assert_eq!(done(&yard, &["wait", "again"]), "5");
    assert_eq!(ran(&yard), ["ran-5"], "only the task that was as it was signed");
    // A dead letter that is tried again is what it was.
    done(&yard, &["retry", "unsigned"]);
    refused(&yard, "unsigned", "it has no signature").await;
    // No step of a job is signed.
    std::fs::write(path(&yard, "items"), "[1]").unwrap();
    let job = ["map-reduce", "--map", "touch", "--reduce", "touch", "--items", "items"];
    let (code, _, stderr) = cli(&yard, &[&job[..], &["--keys", "signer.keys"]].concat());
    assert!(
        code == 1 && stderr.contains("takes signed tasks only"),
        "{code} {stderr}"
    );
    assert_eq!(ran(&yard), ["ran-5"]);
    // Eight tasks, one of them twice, and the step.
    let (_, page) = get(http_of(&daemon).await, "/metrics").await;
    let counted = "workyard_consumer_refused_tasks_total{queue=\"q\"} 10\n";
    assert!(page.contains(counted), "{page}");
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_can_be_signed_and_others_of_its_queue_not() {
    let yard = Yard::start().await;
    make_rings(&yard);
    let daemon = consumer(&yard, BY_KIND, &[]);
    wait_until(SOON, || async { yard.overview().await.consumers > 0 }).await;
    assert_eq!(done(&yard, &["enqueue", "free", "1", "--wait", "20s"]), "1");
    done(&yard, &["enqueue", "touch", "1", "--id", "unsigned"]);
    refused(&yard, "unsigned", "it has no signature").await;
    let signed = ["enqueue", "touch", "2", "--wait", "20s", "--keys", "signer.keys"];
    assert_eq!(done(&yard, &signed), "2");
    // Sealed and signed: the signature is over what is stored.
    let ring = std::fs::read_to_string(path(&yard, "signer.keys")).unwrap();
    let both = ring
        + &std::fs::read_to_string(path(&yard, "consumer.keys"))
            .unwrap()
            .replace("verify", "# verify");
    std::fs::write(path(&yard, "signer.keys"), both).unwrap();
    let id = done(
        &yard,
        &["enqueue", "touch", "3", "--keys", "signer.keys", "--delay", "1h"],
    );
    assert!(record(&yard, &id).await.starts_with("{\"workyard.sealed\":1"));
    let sealed = ["enqueue", "touch", "3", "--wait", "20s", "--keys", "signer.keys"];
    assert_eq!(done(&yard, &sealed), "3");
    assert_eq!(ran(&yard), ["ran-2", "ran-3"]);
    // Its function is none for jobs, whatever else is.
    std::fs::write(path(&yard, "items"), "[1]").unwrap();
    let job = ["map-reduce", "--map", "sum", "--reduce", "sum", "--items", "items"];
    assert_eq!(done(&yard, &job), "1");
    let job = [
        "map-reduce",
        "--map",
        "touch",
        "--reduce",
        "sum",
        "--items",
        "items",
        "--detach",
    ];
    let job = done(&yard, &job);
    wait_until(SOON, || async {
        daemon.log().contains("no handler for kind \"touch\"")
    })
    .await;
    done(&yard, &["job", "cancel", &job]);
    assert_eq!(ran(&yard), ["ran-2", "ran-3"]);
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_item_of_the_inbox_keeps_its_signature_and_needs_an_id() {
    let yard = Yard::start().await;
    make_rings(&yard);
    let ring = KeyRing::read(&path(&yard, "signer.keys")).unwrap();
    let task = workyard_shared::crypto::Binding {
        queue: "q",
        kind: "touch",
        id: "mine",
    };
    let signature = ring
        .sign(task, &[("b".into(), "2".into()), ("a".into(), "1".into())].into(), b"9")
        .unwrap();
    let signature: serde_json::Value = serde_json::from_str(&signature).unwrap();
    for id in [json!(null), json!("mine")] {
        let headers = json!({ "b": "2", "a": "1" });
        let item = json!({ "kind": "touch", "payload": 9, "id": id, "headers": headers, "signature": signature });
        push(&yard, &item.to_string()).await;
    }
    let daemon = consumer(&yard, SIGNED, &[]);
    assert_eq!(yard.result("mine").await, "9");
    let rejected = done(&yard, &["rejected"]);
    assert!(rejected.contains("a signature is bound to the task's id"), "{rejected}");
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_signatures_needs_keys_and_the_library_signs() {
    let yard = Yard::start().await;
    make_rings(&yard);
    let keyless = SIGNED.replace("[keys]\nfile = \"consumer.keys\"", "");
    let daemon = consumer(&yard, &keyless, &[]);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(2), "{}", daemon.log());
    assert!(
        daemon.log().contains("no key ring with a verify or sign key"),
        "{}",
        daemon.log()
    );
    // Also where a flag names the queue.
    let daemon = consumer(&yard, SIGNED, &["--queue", "q"]);
    let mut config = ClientConfig::from_url(&yard.server.producer_url()).unwrap();
    config.keys = Some(Arc::new(KeyRing::read(&path(&yard, "signer.keys")).unwrap()));
    let (signer, queue) = (Client::new(config).unwrap(), queue_name("q"));
    let sent = |n: u32| task("touch").payload(&n).header("a", "1").build().unwrap();
    let (_, ended) = signer.enqueue_and_wait(&queue, sent(1), SOON).await.unwrap();
    assert_eq!(ended.unwrap().body, "1");
    let receipts = signer.enqueue_many(&queue, vec![sent(2), sent(3)]).await.unwrap();
    for (receipt, result) in receipts.iter().zip(["2", "3"]) {
        assert_eq!(
            signer.wait(&queue, receipt.id.as_str(), SOON).await.unwrap().body,
            result
        );
    }
    let plain = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let receipt = plain.enqueue(&queue, sent(4)).await.unwrap();
    refused(&yard, receipt.id.as_str(), "it has no signature").await;
    assert_eq!(ran(&yard), ["ran-1", "ran-2", "ran-3"]);
    stop(&daemon).await;
}
