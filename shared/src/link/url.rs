//! The forms that the URL of a Redis may have.
//!
//! Each server of a longer form is read as a `redis://` URL of its own, so that user, password, TLS and parameters
//! mean the same in all of them. No error shows a password.

use redis::{ConnectionInfo, IntoConnectionInfo};

use super::address::Address;
use super::config::Engine;
use super::forms;
use crate::error::Error;

/// The usual port of a sentinel.
const SENTINEL_PORT: u16 = 26379;
/// What a sentinel's own user and password are given by.
const SENTINEL_PARAMETERS: [&str; 2] = ["sentinel_username=", "sentinel_password="];

/// Reads a URL: what stands behind it, and the connection to a server there.
///
/// # Errors
/// [`Error::Invalid`] says which form was meant.
pub(super) fn parse(url: &str) -> Result<(Engine, ConnectionInfo), Error> {
    read_form(url).map_err(|Wrong { form, why }| {
        let why = why.map_or_else(|| forms::reason(url), str::to_owned);
        forms::refused(url, &why, form)
    })
}

/// Why it was refused.
struct Wrong {
    /// What it should be like.
    form: &'static str,
    /// What is wrong, if that is known here already.
    why: Option<&'static str>,
}

fn read_form(url: &str) -> Result<(Engine, ConnectionInfo), Wrong> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok((Engine::Single, single(url)?));
    };
    if let Some(base) = scheme.strip_suffix("-cluster") {
        return cluster(base, &Parts::of(rest));
    }
    if let Some(base) = scheme.strip_suffix("-sentinel") {
        return sentinel(base, &Parts::of(rest));
    }
    Ok((Engine::Single, single(url)?))
}

/// What stands behind the `://`.
struct Parts<'a> {
    /// `user:password@`, or nothing.
    user: &'a str,
    hosts: Vec<&'a str>,
    /// What the path names, without slashes.
    path: Vec<&'a str>,
    parameters: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, hosts) = authority.split_at(at);
        Self {
            user,
            hosts: hosts.split(',').collect(),
            path: path.split('/').filter(|word| !word.is_empty()).collect(),
            parameters: parameters.split('&').filter(|word| !word.is_empty()).collect(),
        }
    }

    /// Parameters that are not about sentinels, with their `?`.
    fn query(&self) -> String {
        let of_sentinels = |word: &&&str| SENTINEL_PARAMETERS.iter().any(|name| word.starts_with(name));
        let others: Vec<&str> = self
            .parameters
            .iter()
            .filter(|word| !of_sentinels(word))
            .copied()
            .collect();
        match others.is_empty() {
            true => String::new(),
            false => format!("?{}", others.join("&")),
        }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters
            .iter()
            .find_map(|word| word.strip_prefix(name))
            .unwrap_or_default()
    }
}

fn single(url: &str) -> Result<ConnectionInfo, Wrong> {
    read(url, forms::ALL)
}

fn cluster(base: &str, parts: &Parts<'_>) -> Result<(Engine, ConnectionInfo), Wrong> {
    const FORM: &str = "redis-cluster://user:password@host:6379,host:6379";
    if parts.path.iter().any(|db| *db != "0") {
        return Err(wrong(FORM, "a cluster has database 0 only, leave the number out"));
    }
    let query = parts.query();
    let servers = parts
        .hosts
        .iter()
        .map(|host| read(&format!("{base}://{}{host}/{query}", parts.user), FORM));
    let mut servers: Vec<ConnectionInfo> = servers.collect::<Result<_, _>>()?;
    let seeds = servers
        .iter()
        .map(|info| Address::of(info.addr()).ok_or_else(|| wrong(FORM, "no host")));
    let seeds = seeds.collect::<Result<_, _>>()?;
    Ok((Engine::Cluster { seeds }, servers.swap_remove(0)))
}

fn sentinel(base: &str, parts: &Parts<'_>) -> Result<(Engine, ConnectionInfo), Wrong> {
    const FORM: &str = "redis-sentinel://user:password@host:26379,host:26379/master/0";
    let (master, db) = match parts.path[..] {
        [master] => (master, "0"),
        [master, db] => (master, db),
        _ => {
            return Err(wrong(
                FORM,
                "the path must be the master's name, and the database if it is not 0",
            ));
        }
    };
    // The address is replaced by the master's.
    let host = parts.hosts.first().copied().unwrap_or_default();
    let info = read(&format!("{base}://{}{host}/{db}{}", parts.user, parts.query()), FORM)?;
    let [user, password] = SENTINEL_PARAMETERS.map(|name| parts.parameter(name));
    let user = if password.is_empty() {
        String::new()
    } else {
        format!("{user}:{password}@")
    };
    let sentinels = parts
        .hosts
        .iter()
        .map(|host| read(&format!("{base}://{user}{}/", with_port(host)), FORM));
    let engine = Engine::Sentinel {
        sentinels: sentinels.collect::<Result<_, _>>()?,
        master: master.to_owned(),
    };
    Ok((engine, info))
}

fn read(url: &str, form: &'static str) -> Result<ConnectionInfo, Wrong> {
    url.into_connection_info().map_err(|_| Wrong { form, why: None })
}

fn wrong(form: &'static str, why: &'static str) -> Wrong {
    Wrong { form, why: Some(why) }
}

/// A sentinel's address with its port.
fn with_port(host: &str) -> String {
    // An IPv6 address stands in brackets.
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    match behind.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:{SENTINEL_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        match parse(url) {
            Ok((engine, info)) => {
                let settings = info.redis_settings();
                let user = settings.username().unwrap_or("-");
                let password = settings.password().unwrap_or("-");
                let engine = match engine {
                    Engine::Single => format!("single {}", info.addr()),
                    Engine::Cluster { seeds } => seeds.iter().map(|seed| format!("{seed} ")).collect(),
                    Engine::Sentinel { sentinels, master } => {
                        let of = |info: &ConnectionInfo| {
                            format!("{}@{} ", info.redis_settings().password().unwrap_or(""), info.addr())
                        };
                        format!("{master}: {}", sentinels.iter().map(of).collect::<String>())
                    }
                };
                format!("{engine}| {user}:{password} {}", settings.db())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_says_where_to_go_and_as_whom() {
        let cases = [
            ("redis://h:1/2", "single h:1| -:- 2"),
            ("unix:///run/redis.sock", "single /run/redis.sock| -:- 0"),
            ("redis-cluster://h1:7000,h2", "h1:7000 h2:6379 | -:- 0"),
            (
                "redis-cluster://u:p%40q@h1:7000,[::1]:7001/0",
                "h1:7000 ::1:7001 | u:p@q 0",
            ),
            ("redis-sentinel://h1,h2:5/mymaster", "mymaster: @h1:26379 @h2:5 | -:- 0"),
            (
                "redis-sentinel://u:p@h1/mymaster/3?sentinel_password=s",
                "mymaster: s@h1:26379 | u:p 3",
            ),
        ];
        for (url, wanted) in cases {
            assert_eq!(told(url), wanted, "{url}");
        }
    }

    #[test]
    fn a_wrong_form_is_refused_without_repeating_the_password() {
        let cases = [
            ("redis-cluster://u:secret@h/1", "database 0 only"),
            (
                "redis-cluster://u:secret@h:port",
                "is no port; it must be like redis-cluster://",
            ),
            ("redis-sentinel://u:secret@h", "the master's name"),
            ("redis-sentinel://u:secret@h/m/db", "must be like redis-sentinel://"),
            ("http://u:secret@h", "must be like redis://"),
            ("redis-cluster://u:secret@", "must be like redis-cluster://"),
        ];
        for (url, wanted) in cases {
            let said = told(url);
            assert!(said.contains(wanted) && !said.contains("secret"), "{url}: {said}");
        }
    }
}
