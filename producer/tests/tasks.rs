//! Waiting, results, lists and dead letters from the command line, on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::{Hands, Ran, Server, until};
use workyard_shared::broker::{FailVerdict, Grant};

#[tokio::test(flavor = "multi_thread")]
async fn wait_is_woken_and_its_code_says_how_the_task_ended() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let spawn = |args: &[&str]| {
        server
            .workyard(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };

    let waiting = spawn(&["enqueue", "sum", "[1, 2]", "--wait", "--retention", "0"]);
    let grant = hands.next().await;
    hands.complete(&grant, "{\"sum\": 3}").await;
    let ran = Ran::of(waiting.wait_with_output().unwrap()).ok();
    assert_eq!(ran.out, "{\"sum\": 3}\n", "kept for no time, and still delivered");

    server.run(&["enqueue", "sum", "--id", "w", "--max-attempts", "1"]).ok();
    let waiting = spawn(&["wait", "w", "--json"]);
    let mut redis = server.redis().await;
    until("the waiter asks to be told", async || {
        redis::cmd("HEXISTS")
            .arg("workyard:{default}:waiters")
            .arg("w")
            .query_async::<bool>(&mut redis.clone())
            .await
            .unwrap()
    })
    .await;
    let grant = hands.next().await;
    hands.fail(&grant, FailVerdict::Retry, "disk full").await;
    let ran = Ran::of(waiting.wait_with_output().unwrap()).fails(1, "disk full");
    assert_eq!(ran.json()["state"], "failed");
    // Waiting for what has ended answers at once.
    server
        .run(&["wait", "w"])
        .fails(1, "task w failed (attempts): disk full");

    server.run(&["enqueue", "sum", "--id", "slow"]).ok();
    server
        .run(&["wait", "slow", "--timeout", "500ms"])
        .fails(3, "did not end within 500ms");
    server
        .run(&["enqueue", "sum", "--wait", "500ms"])
        .fails(3, "did not end");
    server.run(&["cancel", "slow"]).ok();
    server.run(&["wait", "slow"]).fails(1, "was cancelled");
    server.run(&["wait", "never"]).fails(1, "no task never");
    redis::cmd("PING").query_async::<()>(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_ran_out_of_time_says_what_the_task_waits_for() {
    let server = Server::start(&[]).await;
    let wait = |id: &str, why: &str| {
        let ran = server.run(&["wait", id, "--timeout", "500ms"]).fails(3, why);
        assert!(ran.err.contains("the task goes on"), "{ran:?}");
        ran.err
    };
    server
        .run(&["enqueue", "sum", "--id", "a", "--wait", "500ms"])
        .fails(3, "no consumer serves queue default now");
    let mut hands = Hands::register(server.queue("default")).await;
    assert!(!wait("a", "").contains("no consumer"));
    server.run(&["pause"]).ok();
    wait("a", "queue default is paused");
    server.run(&["resume"]).ok();
    server.run(&["enqueue", "sum", "--id", "later", "--delay", "1h"]).ok();
    wait("later", "it is due 2");
    let grant = hands.next().await;
    let running = wait("a", "has held it since 2");
    assert!(running.contains(hands.id.as_str()), "{running}");
    hands.fail(&grant, FailVerdict::Retry, "no").await;
    wait("a", "it failed and is due 2");
    server.run(&["enqueue", "rare", "--id", "odd"]).ok();
    let grant = hands.next().await;
    hands.hand_back(&grant).await;
    wait("odd", "know no handler for kind rare handed it back once");
    let ran = server.run(&["wait", "later", "--timeout", "500ms", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert!(error["error"].as_str().unwrap().contains("; it is due 2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_error_stays_with_a_task_however_it_ends() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    for id in ["clean", "done", "stopped", "late"] {
        let mut args = vec!["enqueue", "sum", "--id", id, "--backoff-base", "0s"];
        if id == "late" {
            args.extend(["--expires-in", "5s"]);
        }
        server.run(&args).ok();
        let grant = hands.next().await;
        if id == "clean" {
            hands.complete(&grant, "1").await;
        } else {
            hands.fail(&grant, FailVerdict::Retry, "disk é full\ntwice").await;
        }
    }
    server.run(&["cancel", "stopped"]).ok();
    let waiting = server
        .workyard(&["wait", "done", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // `late` is left where it is until it expires.
    hands.queue.promote(1).await.unwrap();
    let grant = hands.next().await;
    assert_eq!(grant.id, "done");
    hands.complete(&grant, "{\"sum\": 3}").await;
    let told = Ran::of(waiting.wait_with_output().unwrap()).ok().json();
    until("late has expired", async || {
        hands.queue.sweep(10).await.unwrap().expired == 1
    })
    .await;
    for (id, state) in [("done", "completed"), ("stopped", "cancelled"), ("late", "expired")] {
        let view = server.run(&["task", id, "--json"]).ok().json();
        assert_eq!((&view["state"], &view["failures"]), (&state.into(), &1.into()));
        assert_eq!(view["error"], "disk é full\ntwice", "{id}");
        let table = server.run(&["task", id]).ok().out;
        assert!(table.contains("error       disk é full"), "{table}");
    }
    assert_eq!(
        (&told["error"], &told["result"]["sum"]),
        (&"disk é full\ntwice".into(), &3.into())
    );
    assert_eq!(server.run(&["wait", "done"]).ok().out, "{\"sum\": 3}\n");
    let clean = server.run(&["task", "clean", "--json"]).ok().json();
    assert!(clean.get("error").is_none(), "{clean}");
}

/// Seven tasks, even and odd: t0 to t3 are dead letters, t4 is held, t5 and t6 are pending.
async fn seven_tasks(server: &Server) -> (Hands, Grant) {
    let mut hands = Hands::register(server.queue("default")).await;
    for n in 0..7 {
        server
            .run(&[
                "enqueue",
                if n % 2 == 0 { "even" } else { "odd" },
                "--id",
                &format!("t{n}"),
            ])
            .ok();
    }
    for _ in 0..4 {
        let grant = hands.next().await;
        let error = if grant.id == "t3" {
            "connection refused\u{1b}[31m"
        } else {
            "disk full"
        };
        hands.fail(&grant, FailVerdict::Final, error).await;
    }
    let held = hands.next().await;
    (hands, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let server = Server::start(&[]).await;
    let (hands, held) = seven_tasks(&server).await;
    let view = server.run(&["task", &held.id, "--json"]).ok().json();
    assert_eq!((&view["state"], &view["attempts"]), (&"running".into(), &1.into()));
    assert_eq!(view["consumer"], hands.id.as_str());
    assert!(view["started_at"].as_str().unwrap() >= view["created_at"].as_str().unwrap());

    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["list", "--limit", "2", "--json"];
        if let Some(cursor) = &cursor {
            args.extend(["--cursor", cursor]);
        }
        let page = server.run(&args).ok().json();
        ids.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(
        ids,
        ["t4", "t5", "t6", "t3", "t2", "t1", "t0"],
        "running, pending, then dead letters newest first"
    );
    let list = server
        .run(&["list", "--state", "failed", "--error", "refused"])
        .ok()
        .out;
    assert!(
        list.contains("t3") && !list.contains("t2") && !list.contains('\u{1b}'),
        "{list}"
    );
    assert!(!server.run(&["list", "--offset", "6"]).ok().out.contains("t1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_retried_by_the_same_filters_and_others_are_told_apart() {
    let server = Server::start(&[]).await;
    let (_hands, held) = seven_tasks(&server).await;
    server
        .run(&["retry", "--all", "--state", "pending"])
        .fails(2, "only failed tasks");
    assert_eq!(
        server
            .run(&["retry", "--all", "--kind", "odd", "--error", "disk", "--json"])
            .ok()
            .json()["retried"],
        1
    );
    server.run(&["retry", "t0", "t5"]).fails(1, "");
    assert_eq!(
        server.run(&["list", "--state", "failed", "--json"]).ok().json()["tasks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    server.run(&["delete", "t2"]).ok();
    server.run(&["task", "t2"]).fails(1, "no task t2");
    server.run(&["delete", &held.id]).fails(1, "");
    server.run(&["cancel", &held.id, "t5"]).ok();
    assert_eq!(
        server.run(&["purge", "pending", "--yes", "--json"]).ok().json()["removed"],
        3
    );
}

/// With one step of a job among them, which is the job's to cancel.
#[tokio::test(flavor = "multi_thread")]
async fn many_are_cancelled_and_deleted_by_filters_when_it_is_said_twice_and_the_audit_has_one_entry_for_them() {
    let server = Server::start(&[]).await;
    let mut lines = String::new();
    for n in 0..1300 {
        let kind = if n % 2 == 0 { "letter" } else { "other" };
        let delay = if n % 4 == 0 { ",\"delay\":3600000" } else { "" };
        lines += &format!("{{\"kind\":\"{kind}\",\"id\":\"n{n}\"{delay}}}\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tasks.jsonl");
    std::fs::write(&file, lines).unwrap();
    server.run(&["enqueue", "--from-file", file.to_str().unwrap()]).ok();
    let items = folder.path().join("items");
    std::fs::write(&items, "[1]").unwrap();
    let job = ["map-reduce", "--map", "sum", "--reduce", "sum", "--detach", "--items"];
    server.run(&[&job[..], &[items.to_str().unwrap()]].concat()).ok();

    let letters = ["cancel", "--all", "--kind", "letter"];
    server.run(&letters).fails(2, "would cancel 650 tasks");
    server
        .run(&["cancel", "--all", "--state", "failed", "--yes"])
        .fails(2, "only others can be cancelled");
    server
        .run(&["delete", "--all", "--state", "pending", "--yes"])
        .fails(2, "cancel such tasks first");
    server.run(&["cancel", "--all", "n1"]).fails(2, "");
    let done = |args: &[&str], what: &str| server.run(&[args, &["--yes", "--json"]].concat()).ok().json()[what].clone();
    assert_eq!(done(&letters, "cancelled"), 650);
    assert_eq!(done(&letters, "cancelled"), 0);
    let stats = server.run(&["stats", "--json"]).ok().json()[0].clone();
    assert_eq!(
        (&stats["pending"], &stats["scheduled"]),
        (&651.into(), &0.into()),
        "650 others, and the step"
    );
    let audit = server.run(&["audit", "--json"]).ok().json();
    let acts: Vec<_> = audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "cancel")
        .collect();
    assert_eq!(acts.len(), 1, "{audit}");
    assert_eq!(
        (&acts[0]["count"], &acts[0]["detail"]),
        (&650.into(), &"all kind=letter".into())
    );

    assert_eq!(
        done(
            &["delete", "--all", "--kind", "letter", "--state", "cancelled"],
            "deleted"
        ),
        650
    );
    assert_eq!(done(&["delete", "--all"], "deleted"), 0);
    assert_eq!(done(&["cancel", "--all"], "cancelled"), 650);
    assert_eq!(
        server.run(&["stats", "--json"]).ok().json()[0]["pending"],
        1,
        "the step of the job"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_followed_as_they_happen_and_remembered() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let mut following = server
        .workyard(&["results", "--follow", "--limit", "4", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut redis = server.redis().await;
    until("somebody follows", async || {
        redis::cmd("HEXISTS")
            .arg("workyard:{default}:state")
            .arg("follow")
            .query_async::<bool>(&mut redis.clone())
            .await
            .unwrap()
    })
    .await;
    for (id, options) in [("a", "1h"), ("b", "0"), ("c", "1h"), ("d", "1h")] {
        server.run(&["enqueue", "k", "--id", id, "--retention", options]).ok();
    }
    for result in ["[1,\n2]", "2"] {
        let grant = hands.next().await;
        hands.complete(&grant, result).await;
    }
    let grant = hands.next().await;
    hands.fail(&grant, FailVerdict::Final, "boom").await;
    server.run(&["cancel", "d"]).ok();
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let ends: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let told: Vec<_> = ends
        .iter()
        .map(|end| (end["id"].as_str().unwrap(), end["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", "completed"),
            ("b", "completed"),
            ("c", "failed"),
            ("d", "cancelled")
        ]
    );
    assert_eq!(
        (&ends[0]["result"], &ends[2]["error"]),
        (&serde_json::json!([1, 2]), &"boom".into())
    );
    assert!(following.wait().unwrap().success());

    let recent = server.run(&["results", "--json"]).ok().json();
    let ids: Vec<&str> = recent
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["d", "c", "a"]);
    redis::cmd("PING").query_async::<()>(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_of_the_default_queue_says_which_others_there_are() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "send", "-q", "emails"]).ok();
    for words in [&["list"][..], &["job", "list"]] {
        let listed = server.run(words).ok();
        assert!(
            listed
                .err
                .contains("this is queue default; --queue names another: emails"),
            "{listed:?}"
        );
        let named = server.run(&[words, &["-q", "emails"]].concat()).ok();
        assert!(!named.err.contains("--queue names another"), "{named:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_pass_over_nothing_and_show_nothing_twice_when_tasks_go_between_them() {
    // Some due at the same time; then all, so that only their ids tell them apart.
    for at_once in [7, 60] {
        let server = Server::start(&[]).await;
        let lines: String = (0..60)
            .map(|n| {
                let at = 4_000_000_000_000_u64 + n / at_once;
                format!("{{\"kind\":\"k\",\"id\":\"t{n:02}\",\"not_before\":{at}}}\n")
            })
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        server
            .run(&["enqueue", "--from-file", file.path().to_str().unwrap()])
            .ok();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut args = vec!["list", "--state", "scheduled", "--limit", "10", "--json"];
            if let Some(cursor) = &cursor {
                args.extend(["--cursor", cursor]);
            }
            let page = server.run(&args).ok().json();
            let ids: Vec<&str> = page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap())
                .collect();
            seen.extend(ids.iter().map(|id| (*id).to_owned()));
            // Of every second page the last one, too, which the cursor names; of the others that alone.
            let gone = match ids.len() {
                0 => &[][..],
                _ if seen.len() % 20 == 0 => &ids[..],
                _ => &ids[ids.len() - 1..],
            };
            if !gone.is_empty() {
                server.run(&[&["cancel"], gone].concat()).ok();
            }
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        let all: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
        assert_eq!(seen, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_listed_beside_the_others() {
    let server = Server::start(&[]).await;
    let redis = server.redis().await;
    let damage = async |key: &str, text: &str| {
        let mut write = redis::cmd("HSET");
        write.arg(format!("workyard:{{default}}:{key}")).arg("b").arg(text);
        write.exec_async(&mut redis.clone()).await.unwrap();
    };
    for id in ["a", "b", "c"] {
        server.run(&["enqueue", "k", "--id", id]).ok();
    }
    damage("tasks", "of a newer release").await;
    let list = server.run(&["list", "--json"]).ok().json();
    let ids: Vec<_> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["id"])
        .collect();
    assert_eq!(ids, ["a", "b", "c"], "{list}");
    assert!(
        list["tasks"][1]["error"]
            .as_str()
            .unwrap()
            .contains("this version cannot read"),
        "{list}"
    );
    assert!(server.run(&["list"]).ok().out.contains("`workyard cancel b` ends it"));
    server.run(&["cancel", "b"]).ok();
    damage("results", "cancelled by a newer release").await;
    let list = server.run(&["list", "--state", "cancelled", "--json"]).ok().json();
    assert!(
        list["tasks"][0]["error"]
            .as_str()
            .unwrap()
            .contains("workyard delete b"),
        "{list}"
    );
    server.run(&["delete", "b"]).ok();
    assert_eq!(
        server.run(&["list", "--json"]).ok().json()["tasks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
