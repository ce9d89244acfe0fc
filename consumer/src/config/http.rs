//! `type = "http"`: each task is one POST.
//!
//! Invariant: the address is http:// or, in a daemon built with the feature `tls`, https://; it
//! holds no credentials (those belong in headers, which are never shown).

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;
use super::secret::SecretSource;

/// Where an `http` handler sends its tasks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The address.
    pub url: Url,
    /// Headers of every request; their values are marked sensitive, so `Debug` hides them.
    pub headers: HeaderMap,
}

/// One POST per task: 2xx completes it, 4xx other than 408 and 429 fails it for good, all else is retried.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// The address, `http://` or `https://`, without credentials. Authorities are those of the system.
    url: String,
    /// Headers of every request.
    #[serde(default)]
    headers: BTreeMap<String, SecretSource>,
}

pub(crate) fn parse(table: toml::de::ValueDeserializer<'_>, base: &Path) -> Result<HttpConfig, Problem> {
    let raw = Raw::deserialize(table)?;
    let url = address(&raw.url, "http://127.0.0.1:8080/tasks").map_err(|text| Problem::new("url", text))?;
    let mut headers = HeaderMap::new();
    for (name, source) in raw.headers {
        let (key, value) = header(&name, source, base).map_err(|text| Problem::new(&name, text).under("headers"))?;
        headers.insert(key, value);
    }
    Ok(HttpConfig { url, headers })
}

/// Checks an address that requests go to; `example` is one.
pub(super) fn address(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address ({error}); give one such as \"{example}\""))?;
    match url.scheme() {
        "http" => {}
        "https" if cfg!(feature = "tls") => {}
        "https" => {
            return Err("this daemon was built without TLS; build it with `--features tls`, \
                        or give an http:// address"
                .to_owned());
        }
        other => {
            return Err(format!("{other}:// is not supported; give an http:// address"));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "holds credentials, which would be shown in logs; send them as a header, \
                    such as authorization = { env = \"NAME\" }"
                .to_owned(),
        );
    }
    Ok(url)
}

pub(super) fn header(name: &str, source: SecretSource, base: &Path) -> Result<(HeaderName, HeaderValue), String> {
    let key: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
    let taken = ["content-type", "content-length", "transfer-encoding", "connection"];
    if key.as_str().starts_with("x-workyard-") || taken.contains(&key.as_str()) {
        return Err("is set by the daemon; leave it out".to_owned());
    }
    let mut value = HeaderValue::from_str(source.resolve(base)?.expose())
        .map_err(|_| "the value holds characters that no header can".to_owned())?;
    value.set_sensitive(true);
    Ok((key, value))
}
