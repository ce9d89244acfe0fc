//! The two programs take the URLs, from a flag and from the daemon's file, and work on queues of all masters.

use std::time::Duration;

use workyard_shared::acl::Role;
use workyard_tests::{Daemon, Signal, TestCluster, TestSentinel, role_of, workspace_binary};

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon on four queues by its file, tasks from the command line, and what is said of them all.
async fn tasks_go_through(url_of: impl Fn(Role) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let queues = ["a", "b", "c", "d"];
    let mut text = format!("redis_url = \"{}\"\n", url_of(Role::Consumer));
    for queue in queues {
        text += &format!("[[queues]]\nname = \"{queue}\"\n");
    }
    text += "[handlers.echo]\ntype = \"builtin\"\nfunction = \"echo\"\n";
    let file = dir.path().join("workyard.toml");
    std::fs::write(&file, text).unwrap();
    let daemon = Daemon::spawn(
        workspace_binary("workyard-consumer")
            .arg("--config")
            .arg(&file)
            .env_remove("WORKYARD_REDIS_URL"),
    );
    let cli = |args: &[&str]| {
        let output = workspace_binary("workyard")
            .args(["--redis-url", &url_of(role_of(args))])
            .args(args)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "workyard {args:?}: {error}\n{}",
            daemon.stderr()
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for queue in queues {
        let said = cli(&["enqueue", "echo", &format!("\"{queue}\""), "-q", queue, "--wait", "30s"]);
        assert_eq!(said, format!("\"{queue}\""));
    }
    let listed = cli(&["queues", "--json"]);
    for queue in queues {
        assert!(listed.contains(&format!("\"{queue}\"")), "{listed}");
    }
    // Its health key is in a slot of its own.
    let consumers = cli(&["consumers", "--json"]);
    assert!(consumers.contains("\"health\":{"), "{consumers}");
    cli(&["install"]);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success(), "{}", daemon.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_work_on_a_cluster() {
    let cluster = TestCluster::start(0, &[]).await;
    tasks_go_through(|role| cluster.role_url(role)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_work_behind_sentinel() {
    let set = TestSentinel::start(&[]).await;
    tasks_go_through(|role| set.role_url(role)).await;
}
