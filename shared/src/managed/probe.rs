//! Asking a server whether it is there: a few commands over a plain blocking socket.
//!
//! Invariant: a call ends within a few seconds whatever is at the other end, a stopped server included.
//!
//! It does not replace a client: just PING, INFO and SHUTDOWN, so that this module can be used before there is a
//! runtime. It reads no more of the protocol than those three need.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::dir::DataDir;
use super::endpoint::Endpoint;

/// A healthy server answers within a millisecond; one that swaps or forks a big heap may take a good part of this.
const IO_LIMIT: Duration = Duration::from_secs(2);
/// INFO server is about 1 KiB; anything larger is no such answer.
const LONGEST_ANSWER: usize = 64 << 10;

/// What a running server says of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The address for Redis clients: a unix socket, or a loopback port with a password.
    pub url: String,
    /// The process.
    pub pid: u32,
    /// Kind and version, such as `redis 7.0.15` or `valkey 9.1.2`.
    pub version: String,
    /// When it started, by its own clock, to the second.
    pub started: Option<DateTime<Utc>>,
}

/// By hand, as the URL may contain the password.
impl fmt::Debug for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerInfo")
            .field("pid", &self.pid)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The state of what is at an endpoint.
#[derive(Debug)]
pub(super) enum Answer {
    /// It works.
    Ready(ServerInfo),
    /// It is there and loads its data.
    Loading,
    /// Nothing useful is there; the text says what happened.
    Silent(String),
}

/// Asks the server of `dir` how it is.
pub(super) fn ask(dir: &DataDir, endpoint: &Endpoint) -> Answer {
    let asked = Line::open(dir, endpoint).and_then(|mut line| {
        line.call(&["PING"])?;
        line.call(&["INFO", "server"])
    });
    match asked.map(|text| info(&text, endpoint.url(dir))) {
        Ok(Some(info)) => Answer::Ready(info),
        Ok(None) => Answer::Silent("what answers there is no Redis".to_owned()),
        Err(error) if error.to_string().starts_with("LOADING") => Answer::Loading,
        Err(error) => Answer::Silent(error.to_string()),
    }
}

/// Tells the server of `dir` to write everything down and end. Ok means that it agreed, not that it is gone.
pub(super) fn shutdown(dir: &DataDir, endpoint: &Endpoint) -> io::Result<()> {
    match Line::open(dir, endpoint)?.call(&["SHUTDOWN"]) {
        // It closes the connection instead of an answer; an answer is a refusal.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(answer) => Err(io::Error::other(format!("SHUTDOWN was answered: {answer}"))),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One connection.
struct Line {
    stream: BufReader<Box<dyn Stream>>,
}

impl Line {
    fn open(dir: &DataDir, endpoint: &Endpoint) -> io::Result<Self> {
        let (stream, password): (Box<dyn Stream>, _) = match endpoint {
            Endpoint::Socket => {
                let stream = UnixStream::connect(dir.socket())?;
                stream.set_read_timeout(Some(IO_LIMIT))?;
                stream.set_write_timeout(Some(IO_LIMIT))?;
                (Box::new(stream), None)
            }
            Endpoint::Loopback { port, password } => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                let stream = TcpStream::connect_timeout(&address, IO_LIMIT)?;
                stream.set_read_timeout(Some(IO_LIMIT))?;
                stream.set_write_timeout(Some(IO_LIMIT))?;
                (Box::new(stream), Some(password))
            }
        };
        let mut line = Self {
            stream: BufReader::new(stream),
        };
        if let Some(password) = password {
            // A stranger who got the port after our server ended does not know the password and answers an error.
            line.call(&["AUTH", password])?;
        }
        Ok(line)
    }

    /// Sends one command and reads its answer; an error answer becomes an error with its text.
    fn call(&mut self, command: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", command.len());
        for part in command {
            request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let head = self.read_line()?;
        match head.split_at_checked(1) {
            Some(("+", text)) => Ok(text.to_owned()),
            Some(("-", text)) => Err(io::Error::other(text.to_owned())),
            Some(("$", length)) => self.read_bulk(length),
            Some(_) | None => Err(io::Error::other("what answers there is no Redis")),
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream)
            .take(LONGEST_ANSWER as u64)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn read_bulk(&mut self, length: &str) -> io::Result<String> {
        let length = length.parse().ok().filter(|length| *length <= LONGEST_ANSWER);
        let mut text = vec![0; length.ok_or_else(|| io::Error::other("an answer of impossible length"))?];
        self.stream.read_exact(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Reads the answer of `INFO server`.
fn info(text: &str, url: String) -> Option<ServerInfo> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    };
    let version = match field("valkey_version") {
        Some(version) => format!("valkey {version}"),
        None => format!("redis {}", field("redis_version")?),
    };
    // Redis reports its own time in microseconds; no clock of ours is asked.
    let started = || {
        let now: i64 = field("server_time_usec")?.parse().ok()?;
        let uptime: i64 = field("uptime_in_seconds")?.parse().ok()?;
        DateTime::from_timestamp(now / 1_000_000 - uptime, 0)
    };
    Some(ServerInfo {
        url,
        pid: field("process_id")?.parse().ok()?,
        version,
        started: started(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: &str = "# Server\r\nredis_version:7.0.15\r\nprocess_id:42\r\nserver_time_usec:1700000010500000\r\n\
                         uptime_in_seconds:10\r\n";

    #[test]
    fn redis_and_valkey_describe_themselves() {
        let redis = info(REDIS, "unix:///x".to_owned()).unwrap();
        assert_eq!((redis.pid, redis.version.as_str()), (42, "redis 7.0.15"));
        assert_eq!(redis.started.unwrap().timestamp(), 1_700_000_000);
        let valkey = info(&format!("{REDIS}valkey_version:9.1.2\r\n"), String::new()).unwrap();
        assert_eq!(valkey.version, "valkey 9.1.2");
        assert!(info("# Server\r\n", String::new()).is_none());
    }

    #[test]
    fn silence_is_reported_with_its_reason() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("data")).unwrap();
        let Answer::Silent(reason) = ask(&dir, &Endpoint::Socket) else {
            panic!("somebody is there")
        };
        assert!(reason.contains("No such file"), "{reason}");
    }
}
