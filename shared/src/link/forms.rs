//! What is wrong with the URL of a Redis, for who wrote it.
//!
//! Invariant: what is shown of it holds no password, nor what may be one: all before an `@` but the user, and what stands
//! where only a port can. It judges only what was refused before.

use crate::error::Error;
use crate::near::nearest;

/// All forms. `managed` is understood by the two programs, before anything is read as a URL.
pub(super) const ALL: &str = "redis://user:password@host:6379/0 (rediss:// is TLS), unix:///path, \
     redis-cluster://host:6379,host:6379, redis-sentinel://host:26379,host:26379/master, or `managed` where a program is \
     to start its own";

const SCHEMES: [&str; 7] = [
    "redis",
    "rediss",
    "unix",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
];

/// The error for a URL that is none of a Redis.
pub(super) fn refused(url: &str, why: &str, form: &str) -> Error {
    Error::Invalid(format!(
        "\"{}\" is no Redis URL: {why}; it must be like {form}",
        shown(url)
    ))
}

/// What is wrong with it, as far as that can be told.
pub(super) fn reason(url: &str) -> String {
    if url.is_empty() {
        return "it is empty".to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return without_scheme(url);
    };
    if !SCHEMES.contains(&scheme) {
        let meant = nearest(scheme, SCHEMES).map(|meant| format!(", did you mean {meant}://?"));
        return format!("it begins with no scheme that is known{}", meant.unwrap_or_default());
    }
    let (_, place) = split_login(rest);
    let (authority, path) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
    for host in authority.split(',') {
        match port(host) {
            _ if host.is_empty() || host.starts_with(':') => return "it names no host".to_owned(),
            Some(port) if port.is_empty() || port.contains(|c: char| !c.is_ascii_digit()) => {
                return "what stands behind the colon of a host is no port".to_owned();
            }
            Some(port) if port.parse::<u16>().is_err() => return format!("port {port} is above 65535"),
            _ => {}
        }
    }
    let database = path.trim_start_matches('/').split('?').next().unwrap_or_default();
    if database.parse::<u32>().is_err() && !database.is_empty() {
        return "what stands behind the host is no number of a database".to_owned();
    }
    "it cannot be read".to_owned()
}

fn without_scheme(url: &str) -> String {
    if nearest(url, ["managed"]).is_some() {
        return "it has no scheme, did you mean `managed`?".to_owned();
    }
    if url.starts_with('/') {
        return format!("it has no scheme, did you mean unix://{}?", shown(url));
    }
    match port(url) {
        Some(port) if !url.contains('@') && port.parse::<u16>().is_ok() => {
            format!("it has no scheme, did you mean redis://{url}?")
        }
        _ => "it has no scheme".to_owned(),
    }
}

/// What stands behind the last colon of a host; an IPv6 address stands in brackets.
fn port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    (!name.starts_with('[') || name.ends_with(']')).then_some(port)
}

/// What stands before the last `@`, and what behind it: a password may hold one.
fn split_login(rest: &str) -> (Option<&str>, &str) {
    match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    }
}

/// The URL without what must not be seen.
fn shown(url: &str) -> String {
    let (scheme, rest) = url
        .split_once("://")
        .map_or(("", url), |(_, rest)| url.split_at(url.len() - rest.len()));
    let (login, place) = split_login(rest);
    let login = match login.map(|login| login.split_once(':')) {
        Some(Some((user, _))) => format!("{user}:***@"),
        Some(None) => "***@".to_owned(),
        None => String::new(),
    };
    let (authority, more) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
    let hosts: Vec<String> = authority.split(',').map(shown_host).collect();
    let more = match more.split_once("password=") {
        Some((before, secret)) => {
            let rest = secret.find('&').map_or("", |end| &secret[end..]);
            format!("{before}password=***{rest}")
        }
        None => more.to_owned(),
    };
    let whole = format!("{scheme}{login}{}{more}", hosts.join(","));
    whole.escape_debug().to_string()
}

/// Without an `@host` behind it, a password stands where a port would.
fn shown_host(host: &str) -> String {
    match port(host) {
        Some(port) if port.contains(|c: char| !c.is_ascii_digit()) => {
            format!("{}***", &host[..host.len() - port.len()])
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_what_may_have_been_meant() {
        for (url, why) in [
            ("", "it is empty"),
            ("127.0.0.1:17900", "did you mean redis://127.0.0.1:17900?"),
            ("mangaed", "did you mean `managed`?"),
            ("/run/redis.sock", "did you mean unix:///run/redis.sock?"),
            ("redis:/x", "it has no scheme"),
            ("rdis://h/", "no scheme that is known, did you mean redis://?"),
            ("http://h/", "no scheme that is known"),
            ("redis://h:179000/", "port 179000 is above 65535"),
            ("redis-cluster://h:1,g:x", "is no port"),
            ("redis://:7/", "it names no host"),
            ("redis://[::1]:7/x", "no number of a database"),
        ] {
            let said = reason(url);
            assert!(said.contains(why), "{url}: {said}");
        }
    }

    #[test]
    fn no_password_is_shown_wherever_it_stands() {
        for (url, safe) in [
            ("redis://u:hush@h:x/0", "redis://u:***@h:***/0"),
            ("redis://hush@h", "redis://***@h"),
            ("redis://u:hu@sh@h/", "redis://u:***@h/"),
            ("redis://u:hu/sh@h/", "redis://u:***@h/"),
            ("redis://u:hush", "redis://u:***"),
            ("u:hush@h:1", "u:***@h:1"),
            (
                "redis-sentinel://h/?sentinel_password=hush&x=1",
                "redis-sentinel://h/?sentinel_password=***&x=1",
            ),
            ("redis://[::1]:6379,h:1/", "redis://[::1]:6379,h:1/"),
            ("redis://h\u{1b}/", "redis://h\\u{1b}/"),
        ] {
            assert_eq!(shown(url), safe, "{url}");
        }
    }
}
