//! `workyard-consumer healthcheck`: asks a daemon on this machine how it is; what a container's HEALTHCHECK runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use workyard_shared::http::Address;

use crate::config;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks a running daemon whether it is alive: exit code 0 if it is, 1 if not, 2 if nobody says where to ask.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  workyard-consumer healthcheck --http 9464\n  workyard-consumer healthcheck --ready   # WORKYARD_HTTP, or the file's `http`, says where"
)]
pub(crate) struct Healthcheck {
    /// Where the daemon's HTTP is: a port of this machine, or address and port.
    #[arg(long, env = "WORKYARD_HTTP", value_name = "ADDR")]
    http: Option<Address>,
    /// The daemon's configuration, whose `http` says it else.
    #[arg(long, short, env = "WORKYARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask whether it works on tasks (/readyz), not only whether it is alive (/healthz).
    #[arg(long)]
    ready: bool,
}

/// Asks, prints the answer, and ends with its exit code.
pub(crate) fn healthcheck(args: &Healthcheck) -> ExitCode {
    let address = match (args.http, &args.config) {
        (Some(address), _) => Ok(Some(address)),
        (None, Some(path)) => config::load(path).map(|file| file.http).map_err(|e| e.to_string()),
        (None, None) => Ok(None),
    };
    let address = match address {
        Ok(Some(address)) => address,
        Ok(None) => return bad_use("where? Give --http, WORKYARD_HTTP, or a --config that says `http`"),
        Err(error) => return bad_use(&error),
    };
    let page = if args.ready { "readyz" } else { "healthz" };
    match ask(&format!("http://{}/{page}", address.to_ask())) {
        Ok((true, text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok((false, text)) => {
            print!("{text}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: no answer from {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bad_use(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(2)
}

fn ask(url: &str) -> Result<(bool, String), String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| told(&e))?.block_on(async {
        // A proxy of the environment is not between a machine and itself.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .map_err(|e| told(&e))?;
        let answer = client.get(url).send().await.map_err(|e| told(&e.without_url()))?;
        let ok = answer.status().is_success();
        Ok((ok, answer.text().await.map_err(|e| told(&e.without_url()))?))
    })
}
