//! The managed Redis from outside: one server per directory whatever happens, and nothing lost or left behind.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::TypedCommands;
use rustix::process::{Pid, kill_process};
use workyard_shared::managed::{Error, ManagedRedis, Status, Stopped};
use workyard_tests::{SERVER_VARIABLE, Signal, workspace_binary};

const SHORT: Duration = Duration::from_millis(300);

/// A managed Redis in a temporary directory, stopped at the end.
struct Sandbox {
    redis: ManagedRedis,
    dir: PathBuf,
    _temp: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self::below("data")
    }

    fn below(name: &str) -> Self {
        let temp = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        // Real paths, as the server's are compared with them.
        let dir = fs::canonicalize(temp.path())
            .unwrap_or_else(|e| panic!("{e}"))
            .join(name);
        Self {
            redis: on(&dir),
            dir,
            _temp: temp,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// How many processes work in the directory; None where there is no /proc to tell.
    fn processes(&self) -> Option<usize> {
        let all = fs::read_dir("/proc").ok()?.flatten();
        Some(
            all.filter(|p| fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd == self.dir))
                .count(),
        )
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = self.redis.clone().with_limit(Duration::from_secs(10)).stop() {
            eprintln!("a server may be left in {}: {error}", self.dir.display());
        }
    }
}

/// On the server that this run of the tests is about.
fn on(dir: &Path) -> ManagedRedis {
    let redis = ManagedRedis::new(dir).with_limit(Duration::from_secs(30));
    match std::env::var_os(SERVER_VARIABLE).filter(|path| !path.is_empty()) {
        Some(binary) => redis.with_server(binary),
        None => redis,
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap_or_else(|| panic!("no pid")), signal).unwrap_or_else(|e| panic!("{e}"));
}

fn connect(url: &str) -> redis::Connection {
    let client = redis::Client::open(url).unwrap_or_else(|e| panic!("{url}: {e}"));
    client.get_connection().unwrap_or_else(|e| panic!("{url}: {e}"))
}

#[test]
fn starters_at_the_same_time_get_one_server_that_outlives_them() {
    let sandbox = Sandbox::new();
    let processes: Vec<_> = (0..3)
        .map(|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_managed-starter"));
            command
                .arg(&sandbox.dir)
                .args(std::env::var_os(SERVER_VARIABLE).filter(|path| !path.is_empty()));
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let redis = sandbox.redis.clone();
            std::thread::spawn(move || redis.start_or_join().unwrap())
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let joined: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(joined.iter().filter(|one| one.started).count() <= 1);
    assert!(
        joined.iter().all(|one| one.server.pid == joined[0].server.pid),
        "{joined:?}"
    );
    assert!(sandbox.processes().is_none_or(|count| count == 1));
    let late = sandbox.redis.ensure().unwrap();
    assert!(!late.started && late.server.pid == joined[0].server.pid);
}

#[test]
fn what_was_written_survives_kill9_of_the_server() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    assert!(first.started);
    connect(&first.server.url).set("kept", "yes").unwrap();
    signal(first.server.pid, Signal::KILL);
    let second = sandbox.redis.ensure().unwrap();
    assert!(second.started && second.server.pid != first.server.pid);
    assert_eq!(connect(&second.server.url).get("kept").unwrap().as_deref(), Some("yes"));
}

#[test]
fn an_everyday_stop_keeps_the_data_and_leaves_no_process() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    connect(&first.server.url).set("kept", "yes").unwrap();
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::Stopped);
    assert!(sandbox.processes().is_none_or(|count| count == 0));
    assert_eq!(sandbox.redis.status().unwrap(), Status::NotRunning);
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::NotRunning);
    let second = sandbox.redis.start_or_join().unwrap();
    assert_eq!(connect(&second.server.url).get("kept").unwrap().as_deref(), Some("yes"));
}

#[test]
fn stale_files_of_a_killed_server_mislead_nobody() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    signal(first.server.pid, Signal::KILL);
    // The pid belongs to a stranger by now, who even works in this directory.
    let mut stranger = Command::new("sleep")
        .arg("60")
        .current_dir(&sandbox.dir)
        .spawn()
        .unwrap();
    fs::write(sandbox.file("redis.pid"), stranger.id().to_string()).unwrap();
    assert!(matches!(
        sandbox.redis.status(),
        Ok(Status::NotRunning | Status::Unresponsive(_))
    ));
    assert!(sandbox.redis.start_or_join().unwrap().started);
    fs::write(sandbox.file("redis.pid"), stranger.id().to_string()).unwrap();
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::Stopped);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    fs::write(sandbox.file("server.json"), "{ half a reco").unwrap();
    assert!(sandbox.redis.start_or_join().unwrap().started);
}

#[test]
fn a_server_whose_starter_died_before_noting_it_is_joined() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    let text = fs::read_to_string(sandbox.file("server.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["server"] = serde_json::Value::Null;
    fs::write(sandbox.file("server.json"), record.to_string()).unwrap();
    let second = sandbox.redis.start_or_join().unwrap();
    assert!(!second.started && second.server.pid == first.server.pid);
    let text = fs::read_to_string(sandbox.file("server.json")).unwrap();
    assert!(text.contains(&format!("\"pid\": {}", first.server.pid)), "{text}");
    fs::remove_file(sandbox.file("server.json")).unwrap();
    assert_eq!(sandbox.redis.start_or_join().unwrap().server.pid, first.server.pid);
}

#[test]
fn a_frozen_server_is_never_doubled_and_is_joined_when_it_goes_on() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    signal(first.server.pid, Signal::STOP);
    let hurried = sandbox.redis.clone().with_limit(SHORT);
    let refused = hurried.start_or_join();
    let not_stopped = hurried.stop();
    signal(first.server.pid, Signal::CONT);
    assert!(
        matches!(refused, Err(Error::Unresponsive { pid: Some(pid), .. }) if pid == first.server.pid),
        "{refused:?}"
    );
    assert!(matches!(not_stopped, Err(Error::NotStopped { .. })), "{not_stopped:?}");
    // It obeys the stop that it could not hear; what matters is that there was never a second one.
    assert!(sandbox.processes().is_none_or(|count| count <= 1));
    sandbox.redis.start_or_join().unwrap();
}

#[test]
fn a_server_that_lost_its_socket_is_not_doubled_and_can_be_stopped() {
    let sandbox = Sandbox::new();
    let first = sandbox.redis.start_or_join().unwrap();
    fs::remove_file(sandbox.file("redis.sock")).unwrap();
    let refused = sandbox.redis.clone().with_limit(SHORT).start_or_join();
    assert!(matches!(refused, Err(Error::Unresponsive { pid: Some(pid), .. }) if pid == first.server.pid));
    assert!(matches!(sandbox.redis.status(), Ok(Status::Unresponsive(_))));
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::Stopped);
    assert!(sandbox.redis.start_or_join().unwrap().started);
}

#[test]
fn a_long_path_gets_a_loopback_port_that_asks_for_a_password() {
    let sandbox = Sandbox::below(&"deep/".repeat(25));
    let first = sandbox.redis.start_or_join().unwrap();
    let (_, address) = first.server.url.split_once('@').unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{}", first.server.url);
    connect(&first.server.url).set("kept", "yes").unwrap();
    let stranger = redis::Client::open(format!("redis://{address}")).unwrap();
    assert!(
        stranger.get_connection().and_then(|mut c| c.get("kept")).is_err(),
        "let in without a password"
    );
    assert_eq!(sandbox.redis.start_or_join().unwrap().server.pid, first.server.pid);
    signal(first.server.pid, Signal::KILL);
    let second = sandbox.redis.ensure().unwrap();
    assert_ne!(second.server.url, first.server.url);
    assert_eq!(connect(&second.server.url).get("kept").unwrap().as_deref(), Some("yes"));
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::Stopped);
}

#[test]
fn other_users_are_kept_out_and_an_open_directory_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.redis.start_or_join().unwrap();
    assert_eq!(fs::metadata(&sandbox.dir).unwrap().mode() & 0o777, 0o700);
    for file in ["server.json", "redis.conf", "server.lock"] {
        assert_eq!(fs::metadata(sandbox.file(file)).unwrap().mode() & 0o077, 0, "{file}");
    }
    let open = sandbox.dir.with_file_name("open");
    fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = on(&open).start_or_join().unwrap_err();
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "something was written into it");
}

#[test]
fn a_server_that_is_too_old_or_missing_is_refused_with_the_way_out() {
    let sandbox = Sandbox::new();
    let old = sandbox.dir.with_file_name("redis-server");
    // Written by another process: see the unit tests of the finder.
    let script = r#"printf '#!/bin/sh\necho "Redis server v=6.0.16 sha=0"\n' >"$0" && chmod 755 "$0""#;
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .arg(&old)
            .status()
            .unwrap()
            .success()
    );
    let refused = ManagedRedis::new(&sandbox.dir)
        .with_server(&old)
        .start_or_join()
        .unwrap_err();
    assert!(
        matches!(&refused, Error::TooOld { version, .. } if version == "6.0.16"),
        "{refused}"
    );
    assert!(refused.to_string().contains("Redis 7.0 or later"), "{refused}");
    let missing = ManagedRedis::new(&sandbox.dir)
        .with_server("/no/such/server")
        .start_or_join();
    assert!(matches!(missing, Err(Error::NotAServer { .. })), "{missing:?}");
    assert_eq!(sandbox.redis.status().unwrap(), Status::NotRunning);
}

#[test]
fn a_server_that_cannot_read_its_data_says_so_at_once() {
    let sandbox = Sandbox::new();
    sandbox.redis.start_or_join().unwrap();
    sandbox.redis.stop().unwrap();
    fs::write(sandbox.file("appendonlydir/appendonly.aof.manifest"), "rubbish\n").unwrap();
    let begun = Instant::now();
    let refused = sandbox.redis.start_or_join().unwrap_err();
    assert!(
        matches!(&refused, Error::NotStarted { log, .. } if log.contains("AOF")),
        "{refused}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "it waited for a server that was gone"
    );
}

#[test]
fn looking_and_stopping_create_nothing() -> io::Result<()> {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.redis.status().unwrap(), Status::NotRunning);
    assert_eq!(sandbox.redis.stop().unwrap(), Stopped::NotRunning);
    assert!(!fs::exists(&sandbox.dir)?);
    Ok(())
}

#[test]
fn a_daemon_that_cannot_start_leaves_no_server_behind() -> io::Result<()> {
    let sandbox = Sandbox::new();
    let keys = sandbox.dir.with_extension("keys");
    fs::write(&keys, "no ring")?;
    let refused = |more: &[&str]| {
        workspace_binary("workyard-consumer")
            .env("WORKYARD_REDIS_DIR", &sandbox.dir)
            // With what it needs beside, so that nothing else is wrong.
            .args(["--redis-url", "managed", "--jobs-read", "/tmp"])
            .args(more)
            .output()
    };
    for (bad, why) in [
        (["--keys", keys.to_str().unwrap_or_default()], "key ring"),
        (["--prefix", "no:prefix"], "prefix \"no:prefix\""),
        (["--queue", "no queue"], "queue \"no queue\""),
    ] {
        let output = refused(&bad)?;
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{bad:?}: {said}");
        assert_eq!(sandbox.redis.status().unwrap(), Status::NotRunning, "{bad:?}");
        assert!(!fs::exists(&sandbox.dir)?, "{bad:?}");
    }
    Ok(())
}

#[test]
fn a_place_or_a_server_that_cannot_be_used_is_bad_use() -> io::Result<()> {
    let sandbox = Sandbox::new();
    let file = sandbox.dir.with_extension("file");
    fs::write(&file, "no directory")?;
    let file = file.to_str().unwrap_or_default();
    let dir = sandbox.dir.to_str().unwrap_or_default();
    for (dir, server, why) in [
        (file, None, file),
        (dir, Some("/bin/true"), "/bin/true is no usable Redis"),
    ] {
        let mut start = workspace_binary("workyard");
        start.args(["redis", "start"]).env("WORKYARD_REDIS_DIR", dir);
        let output = start
            .envs(server.map(|server| ("WORKYARD_REDIS_SERVER", server)))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(sandbox.redis.status().unwrap(), Status::NotRunning);
    }
    fs::remove_file(file)
}
