//! Where spans go: flag, variables and file together.
//!
//! Invariant: without an endpoint there is no exporter, no thread and no connection. Flags go before variables, variables before the
//! file; what the variables say beyond this is read by OpenTelemetry's own code.

use reqwest::Url;
use workyard_shared::Error;

use super::Cli;
use crate::config::{DaemonConfig, otlp_endpoint};
use crate::telemetry::Settings;

/// The path of traces behind the address of a collector.
const TRACES: &str = "/v1/traces";
/// What a daemon is called that nobody gave a name.
const SERVICE: &str = "workyard-consumer";

/// What the environment says; a variable that is empty is as good as none.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Where spans go; `None` if they are made for nobody.
pub(super) fn settings(
    cli: &Cli,
    file: &DaemonConfig,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Settings>, Error> {
    let says = |name: &str, value: &str| variable(name).is_some_and(|said| said.trim().eq_ignore_ascii_case(value));
    // A program that was told a wrong address should say so, be it in use or not.
    let flag = cli
        .otlp_endpoint
        .as_deref()
        .map(|text| address("--otlp-endpoint", text));
    let flag = flag.transpose()?.map(|base| below(&base));
    if !cfg!(feature = "otel") || says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let endpoint = match flag {
        Some(endpoint) => Some(endpoint),
        None => by_variable(&variable)?.or_else(|| file.telemetry.endpoint.as_ref().map(below)),
    };
    let Some(endpoint) = endpoint else { return Ok(None) };
    speaks(&variable)?;
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let named = attributes
        .split(',')
        .any(|pair| pair.trim().starts_with("service.name="));
    let name = file.telemetry.service_name.as_deref().unwrap_or(SERVICE);
    let headers = file.telemetry.headers.iter();
    Ok(Some(Settings {
        endpoint,
        service_name: (!named && variable("OTEL_SERVICE_NAME").is_none()).then(|| name.to_owned()),
        sample_ratio: file
            .telemetry
            .sample_ratio
            .filter(|_| variable("OTEL_TRACES_SAMPLER").is_none()),
        headers: headers
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
    }))
}

/// The address of traces alone is whole; the one of everything gets the path of traces.
fn by_variable(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Url>, Error> {
    let [traces, all] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    if let Some(text) = variable(traces) {
        return address(traces, &text).map(Some);
    }
    let base = variable(all).map(|text| address(all, &text)).transpose()?;
    Ok(base.as_ref().map(below))
}

fn address(what: &str, text: &str) -> Result<Url, Error> {
    otlp_endpoint(text.trim()).map_err(|reason| Error::Invalid(format!("{what} {reason}")))
}

fn below(base: &Url) -> Url {
    let mut url = base.clone();
    let path = format!("{}{TRACES}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Refuses a protocol that would send spans where nobody understands them.
fn speaks(variable: &impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        let Some(protocol) = variable(name) else { continue };
        if protocol.trim() == "http/protobuf" {
            return Ok(());
        }
        return Err(Error::Invalid(format!(
            "{name} is {protocol:?}, and spans go by http/protobuf only: set it to that, and the endpoint to the collector's port \
             for HTTP (4318, not 4317)"
        )));
    }
    Ok(())
}

#[cfg(all(test, feature = "otel"))]
mod tests {
    use clap::Parser;

    use super::*;

    fn read(flags: &[&str], variables: &[(&str, &str)], table: &str) -> Result<Option<Settings>, Error> {
        let text = format!("[[queues]]\nname = \"q\"\n[jobs]\n[telemetry]\n{table}\n");
        let file = crate::config::parse(&text, "x.toml".as_ref()).unwrap();
        let words = ["workyard-consumer", "--config", "x.toml"].iter().chain(flags);
        settings(&Cli::parse_from(words), &file, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(flags: &[&str], variables: &[(&str, &str)], table: &str) -> String {
        let settings = read(flags, variables, table).unwrap();
        settings.map_or_else(String::new, |settings| settings.endpoint.to_string())
    }

    const FILE: &str = "endpoint = \"http://file:1\"";
    const FLAG: [&str; 2] = ["--otlp-endpoint", "http://flag:1/otlp/"];
    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1/in");

    #[test]
    fn flags_go_before_variables_and_variables_before_the_file() {
        assert_eq!(endpoint(&[], &[], ""), "");
        assert_eq!(endpoint(&[], &[], FILE), "http://file:1/v1/traces");
        assert_eq!(endpoint(&[], &[ALL], FILE), "http://all:1/v1/traces");
        assert_eq!(endpoint(&[], &[ALL, TRACES], FILE), "http://traces:1/in");
        assert_eq!(endpoint(&FLAG, &[ALL, TRACES], FILE), "http://flag:1/otlp/v1/traces");
        assert_eq!(endpoint(&FLAG, &[("OTEL_SDK_DISABLED", "True")], FILE), "");
        assert_eq!(endpoint(&FLAG, &[("OTEL_TRACES_EXPORTER", "none")], FILE), "");
    }

    #[test]
    fn names_and_samplers_of_variables_hold() {
        let table = &format!("{FILE}\nservice_name = \"mail\"\nsample_ratio = 0.25\nheaders = {{ X-Key = \"hush\" }}");
        let own = read(&[], &[], table).unwrap().unwrap();
        assert_eq!(own.service_name.as_deref(), Some("mail"));
        assert_eq!(own.sample_ratio, Some(0.25));
        assert_eq!(own.headers["x-key"], "hush");
        let named = [("OTEL_SERVICE_NAME", "other"), ("OTEL_TRACES_SAMPLER", "always_on")];
        let theirs = read(&[], &named, table).unwrap().unwrap();
        assert_eq!((theirs.service_name, theirs.sample_ratio), (None, None));
        let named = [("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x")];
        assert_eq!(read(&[], &named, table).unwrap().unwrap().service_name, None);
        assert_eq!(
            read(&[], &[], FILE).unwrap().unwrap().service_name.as_deref(),
            Some(SERVICE)
        );
    }

    #[test]
    fn what_cannot_work_is_refused_and_no_secret_is_repeated() {
        for (flags, variables, reason) in [
            (
                &["--otlp-endpoint", "collector"][..],
                &[][..],
                "--otlp-endpoint is no address",
            ),
            (
                &[],
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hush@h/")],
                "holds credentials",
            ),
            (&[], &[ALL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "4318, not 4317"),
        ] {
            let error = read(flags, variables, "").err().unwrap().to_string();
            assert!(error.contains(reason) && !error.contains("hush"), "{error}");
        }
    }
}
