//! What the server says of itself: memory, persistence, time in functions. Reads only.
//!
//! Invariant: what this user may not ask, or what this server does not say, is `None`, never a guess.

use redis::Value;

use super::Broker;
use crate::error::Error;
use crate::link::Link;

/// Figures of the server.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ServerFigures {
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// The limit in bytes, 0: none.
    pub memory_max: Option<u64>,
    /// Whether the last snapshot and the last write of the append-only file succeeded.
    pub persistence_ok: Option<bool>,
    /// Calls of functions since the server's start, everybody's.
    pub script_calls: Option<u64>,
    /// Microseconds in them.
    pub script_us: Option<u64>,
}

impl ServerFigures {
    fn read(info: &str) -> Self {
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        };
        let number = |name: &str| field(name).and_then(|text| text.parse().ok());
        let of_calls = |name: &str| -> Option<u64> {
            let stats = field("cmdstat_fcall")?;
            let value = stats
                .split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
            value.parse().ok()
        };
        let said: Vec<bool> = ["rdb_last_bgsave_status", "aof_last_write_status"]
            .into_iter()
            .filter_map(|name| field(name).map(|text| text == "ok"))
            .collect();
        Self {
            memory_used: number("used_memory"),
            memory_max: number("maxmemory"),
            persistence_ok: (!said.is_empty()).then(|| said.iter().all(|ok| *ok)),
            script_calls: of_calls("calls"),
            script_us: of_calls("usec"),
        }
    }
}

impl ServerFigures {
    /// Those of another server added. A limit that one of them does not have is none.
    fn and(self, other: &Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let limited = [self.memory_max, other.memory_max].iter().all(|max| *max != Some(0));
        Self {
            memory_used: sum(self.memory_used, other.memory_used),
            memory_max: sum(self.memory_max, other.memory_max).map(|max| if limited { max } else { 0 }),
            persistence_ok: self.persistence_ok.zip(other.persistence_ok).map(|(a, b)| a && b),
            script_calls: sum(self.script_calls, other.script_calls),
            script_us: sum(self.script_us, other.script_us),
        }
    }
}

impl Broker {
    /// Memory, persistence, and time in functions; of a cluster, of all its masters together.
    ///
    /// # Errors
    /// As [`Error`] sorts them. A user who may not ask gets figures without values.
    pub async fn server_figures(&self) -> Result<ServerFigures, Error> {
        let servers = self.link().servers().await?;
        let each = servers.iter().map(one_server).collect::<Vec<_>>();
        let figures = futures_util::future::try_join_all(each).await?;
        Ok(figures
            .into_iter()
            .reduce(|sum, next| sum.and(&next))
            .unwrap_or_default())
    }
}

async fn one_server(link: &Link) -> Result<ServerFigures, Error> {
    let mut text = String::new();
    // One section a call: all that Redis 6 would understand too.
    for section in ["memory", "persistence", "commandstats"] {
        let mut cmd = redis::cmd("INFO");
        cmd.arg(section);
        match link.call(&cmd).await {
            Ok(Value::VerbatimString { text: part, .. }) => text.push_str(&part),
            Ok(Value::BulkString(part)) => text.push_str(&String::from_utf8_lossy(&part)),
            Ok(_) | Err(Error::Denied(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ServerFigures::read(&text))
}

#[cfg(test)]
mod tests {
    use super::ServerFigures;

    #[test]
    fn info_is_read_and_what_is_not_said_stays_unknown() {
        let info = "# Memory\r\nused_memory:1024\r\nused_memory_human:1K\r\nmaxmemory:0\r\n# Persistence\r\n\
            rdb_last_bgsave_status:ok\r\naof_last_write_status:err\r\n# Commandstats\r\n\
            cmdstat_fcall:calls=7,usec=90,usec_per_call=12.8,rejected_calls=0,failed_calls=0\r\n";
        let read = ServerFigures::read(info);
        let expected = ServerFigures {
            memory_used: Some(1024),
            memory_max: Some(0),
            persistence_ok: Some(false),
            script_calls: Some(7),
            script_us: Some(90),
        };
        assert_eq!(read, expected);
        let both = ServerFigures {
            memory_used: Some(2048),
            script_calls: Some(14),
            script_us: Some(180),
            ..expected.clone()
        };
        assert_eq!(read.clone().and(&read), both);
        assert_eq!(expected.and(&ServerFigures::default()), ServerFigures::default());
        assert_eq!(ServerFigures::read(""), ServerFigures::default());
    }
}
