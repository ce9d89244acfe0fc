//! What a test saw of a program, and that no secret is in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use workyard_tests::{Daemon, Signal, TestServer, Yard, get, wait_until, workspace_binary};

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The right password and a wrong one, and what every other secret begins with: whatever shows any is found by this.
pub(crate) const MARK: &str = "Xyzzy-4711";

pub(crate) const FILE: &str = "http = \"127.0.0.1:0\"\nlease = \"1s\"\n[[queues]]\nname = \"q\"\n\
    [handlers.env]\ntype = \"command\"\nargv = [\"env\"]\noutput = \"text\"\n";

/// All that was seen, with the name of where.
pub(crate) struct Seen {
    places: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            secrets: vec!["Xyzzy".to_owned()],
        }
    }
}

impl Seen {
    /// Nothing may show this either.
    pub(crate) fn hides(&mut self, secret: impl Into<String>) {
        self.secrets.push(secret.into());
    }

    pub(crate) fn add(&mut self, place: &str, text: impl Into<String>) {
        self.places.push((place.to_owned(), text.into()));
    }

    /// What `ps` shows of a process, and whose it is.
    pub(crate) fn arguments(&mut self, place: &str, pid: u32) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!line.is_empty());
        self.add(place, String::from_utf8_lossy(&line).into_owned());
    }

    /// What a daemon shows by HTTP.
    pub(crate) async fn pages(&mut self, address: SocketAddr) {
        for page in ["/healthz", "/readyz", "/metrics"] {
            self.add(page, get(address, page).await.1);
        }
    }

    /// Stops a daemon, and reads what it has logged.
    pub(crate) async fn end_of(&mut self, daemon: &Daemon) {
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
        self.add("the log of the daemon", daemon.log());
    }

    /// All keys of Redis, as they are written down.
    pub(crate) async fn keys(&mut self, yard: &Yard) {
        let mut redis = yard.server.connection().await;
        // Compressed, a text would not be found in it.
        let plain = ["SET", "rdbcompression", "no"];
        let () = redis::cmd("CONFIG").arg(&plain).query_async(&mut redis).await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
        assert!(keys.iter().any(|key| key.starts_with("workyard:consumer:")), "{keys:?}");
        for key in keys {
            // One that went meanwhile holds nothing.
            let bytes: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
            if let Some(bytes) = bytes {
                self.add(&key, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }

    pub(crate) fn holds_no_secret(&self) {
        let mut leaks = Vec::new();
        for (place, text) in &self.places {
            assert!(!text.is_empty(), "nothing was seen of {place}");
            for secret in &self.secrets {
                let lines = text.lines().filter(|line| line.contains(secret.as_str()));
                leaks.extend(lines.map(|line| format!("{place}: {line}")));
            }
        }
        assert!(leaks.is_empty(), "secrets show:\n{}", leaks.join("\n"));
    }

    /// All that was seen there.
    pub(crate) fn of(&self, place: &str) -> String {
        let here = self.places.iter().filter(|(name, _)| name == place);
        here.map(|(_, text)| text.as_str()).collect()
    }
}
/// A server whose user `worker` has the marked password, and nobody else may do anything.
pub(crate) async fn marked() -> Yard {
    let yard = Yard::on(TestServer::start().await);
    let mut redis = yard.server.connection().await;
    let user = ["SETUSER", "worker", "on", &format!(">{MARK}"), "~*", "&*", "+@all"].map(str::to_owned);
    let () = redis::cmd("ACL").arg(&user).query_async(&mut redis).await.unwrap();
    yard
}

pub(crate) fn plain_url(yard: &Yard) -> String {
    yard.server.url_with("")
}

pub(crate) fn file(yard: &Yard, name: &str, text: &str) -> PathBuf {
    let path = yard.server.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) async fn becomes_ready(address: SocketAddr) {
    wait_until(SOON, || async { get(address, "/readyz").await.0 == 200 }).await;
}

/// A command of `workyard` in the folder of the server, and its exit code in front of what it said.
pub(crate) fn workyard(yard: &Yard, url: &str, environment: &[(String, String)], args: &[&str]) -> String {
    let mut command = workspace_binary("workyard");
    command.args(args).args(["-q", "q", "-vv", "--patience", "1s"]);
    command.envs(environment.iter().cloned());
    command.current_dir(yard.server.dir()).env("WORKYARD_REDIS_URL", url);
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    format!("exit code {:?}\n{said}", output.status.code())
}
