//! What docker-compose.yml and the manifests of scripts/kubernetes say, held against the programs: no engine is at hand, but a
//! path, a port, a key or a setting that is wrong in them is wrong for each who uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use workyard_shared::keys::Keys;
use workyard_shared::name::{Prefix, QueueName};
use workyard_tests::{
    Daemon, Yard, checked_by, get, http_of, repository_text, repository_yaml, wait_until, workspace_binary,
};

const LIMIT: Duration = Duration::from_secs(45);
/// As daemons do without a word of it.
const DEFAULT_DRAIN: &str = "30s";
/// What KEDA's scaler for lists (and sorted sets) of Redis reads of a trigger.
const REDIS_SCALER: [&str; 12] = [
    "address",
    "addressFromEnv",
    "host",
    "port",
    "usernameFromEnv",
    "passwordFromEnv",
    "listName",
    "listLength",
    "activationListLength",
    "enableTLS",
    "unsafeSsl",
    "databaseIndex",
];

fn compose() -> Value {
    repository_yaml("docker-compose.yml").remove(0)
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.as_str(), service))
}

/// Services of an image, and there are some.
fn of_image<'a>(compose: &'a Value, image: &str) -> Vec<(&'a str, &'a Value)> {
    let is_of = |service: &Value| service["image"].as_str().is_some_and(|name| name.starts_with(image));
    let found: Vec<_> = services(compose).filter(|(_, service)| is_of(service)).collect();
    assert!(!found.is_empty(), "no service runs {image}");
    found
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

/// The document of a kind and name in the manifests.
fn manifest(file: &str, kind: &str) -> Value {
    let documents = repository_yaml(file).into_iter();
    let mut found = documents.filter(|document| document["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("{file} has no {kind}"))
}

fn deployment() -> (Value, Value) {
    let pod = manifest("scripts/kubernetes/workyard.yaml", "Deployment")["spec"]["template"]["spec"].take();
    let container = pod["containers"][0].clone();
    (pod, container)
}

fn embedded_config() -> String {
    let map = manifest("scripts/kubernetes/workyard.yaml", "ConfigMap");
    map["data"]["workyard.toml"].as_str().unwrap().to_owned()
}

fn setting(config: &str, name: &str) -> Option<String> {
    let line = config
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
    Some(line.split('"').nth(1).unwrap().to_owned())
}

/// The port that daemons listen on in a container, by this address.
fn port_of(address: &str) -> u64 {
    let (host, port) = address.split_once(':').unwrap();
    assert_eq!(host, "0.0.0.0", "who asks comes from outside of the container");
    port.parse().unwrap()
}

#[test]
fn each_redis_of_the_compose_file_keeps_what_it_has_and_evicts_nothing() {
    let compose = compose();
    for (name, redis) in of_image(&compose, "redis:") {
        let said = texts(&redis["command"]).join(" ").replace("--", "").replace('\n', " ");
        for setting in ["appendonly yes", "maxmemory-policy noeviction"] {
            assert!(said.contains(setting), "{name}: {said}");
        }
        let kept = texts(&redis["volumes"]);
        let (volume, place) = kept.first().and_then(|volume| volume.split_once(':')).unwrap();
        assert_eq!(place, "/data", "{name}: where the image has its data");
        assert!(
            compose["volumes"].get(volume).is_some(),
            "{name}: {volume} is no volume"
        );
        assert!(
            texts(&redis["healthcheck"]["test"])[1].contains("grep -q PONG"),
            "{name}"
        );
        // Whoever can reach one without a password is on this machine.
        let has_password = said.contains("requirepass $$(cat /run/secrets/");
        for port in texts(&redis["ports"]) {
            assert!(port.starts_with("127.0.0.1:") && !has_password, "{name}: {port}");
        }
        if has_password {
            assert!(!texts(&redis["secrets"]).is_empty(), "{name}");
        }
    }
}

/// The shell's part is run as it stands, with paths of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_redis_with_a_password_takes_its_settings_and_its_healthcheck_sees_it() {
    let how = "It is part of Debian's package redis-server.";
    if checked_by("redis-server", &["--version"], "", how).is_none() {
        return;
    }
    let compose = compose();
    let redis = of_image(&compose, "redis:").into_iter().map(|(_, redis)| redis);
    let guarded = redis.into_iter().find(|redis| !texts(&redis["secrets"]).is_empty());
    let guarded = guarded.expect("one has a password");
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(dir.path().join("redis_password"), "of-a-test\n").unwrap();
    let here = |text: &str| {
        let text = text
            .replace("$$", "$")
            .replace("/run/secrets/", &format!("{}/", dir.path().display()));
        let text = text.replace(
            "dir /data",
            &format!("dir {}\nport {port}\nbind 127.0.0.1", dir.path().display()),
        );
        text.replace("redis-cli", &format!("redis-cli -p {port}"))
    };
    let shell = |text: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &here(text)]);
        command
    };
    let command = texts(&guarded["command"]);
    assert_eq!(command[..2], ["sh", "-c"]);
    let server = Daemon::spawn(&mut shell(command[2]));
    let test = texts(&guarded["healthcheck"]["test"]);
    assert_eq!(test[0], "CMD-SHELL");
    wait_until(LIMIT, || async { shell(test[1]).output().unwrap().status.success() }).await;
    let client = redis::Client::open(format!("redis://:of-a-test@127.0.0.1:{port}/")).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    for (name, wanted) in [("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("save", "")] {
        let mut get = redis::cmd("CONFIG");
        let pair: Vec<String> = get.arg("GET").arg(name).query_async(&mut redis).await.unwrap();
        assert_eq!(pair, [name, wanted]);
    }
    let open = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let stranger = async {
        let mut redis = open.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut redis).await
    };
    assert!(stranger.await.is_err(), "nobody gets in without the password");
    // What `ps` shows of it.
    let line = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.contains("redis-server") && !line.contains("of-a-test"), "{line}");
}

#[test]
fn secrets_of_the_compose_file_are_files_and_stand_in_no_environment() {
    let compose = compose();
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        let file = secret["file"].as_str().unwrap();
        assert!(file.starts_with("./secrets/"), "{name}: {file}");
    }
    for (name, service) in services(&compose) {
        for secret in texts(&service["secrets"]) {
            assert!(compose["secrets"].get(secret).is_some(), "{name} names {secret}");
        }
        let environment = service["environment"].as_object();
        for (variable, value) in environment.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let is_secret = ["PASSWORD", "SECRET", "TOKEN"]
                .iter()
                .any(|word| variable.contains(word));
            let is_file = variable.ends_with("_FILE") && value.starts_with("/run/secrets/");
            assert!(!is_secret || is_file, "{name}: {variable}");
            assert!(
                !value.contains('@'),
                "{name}: {variable} has a user or a password in it"
            );
        }
    }
}

#[test]
fn consumers_of_the_compose_file_are_bounded_wait_for_redis_and_have_the_time_to_drain() {
    let compose = compose();
    let config = repository_text("examples/container.toml");
    let drain = setting(&config, "drain_timeout").unwrap_or_else(|| DEFAULT_DRAIN.to_owned());
    let consumer = &compose["services"]["consumer"];
    assert!(seconds(consumer["stop_grace_period"].as_str().unwrap()) > seconds(&drain));
    assert_eq!(consumer["read_only"], true);
    assert_eq!(texts(&consumer["cap_drop"]), ["ALL"]);
    let (redis, waits) = consumer["depends_on"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(waits["condition"], "service_healthy");
    assert!(compose["services"][redis]["healthcheck"].is_object());
    let mount = &consumer["configs"][0];
    let target = mount["target"].as_str().unwrap();
    assert!(
        repository_text("Dockerfile").contains(&format!("WORKYARD_CONFIG={target} ")),
        "{target}"
    );
    assert!(compose["configs"][mount["source"].as_str().unwrap()]["file"].is_string());
    // The file reads its URL where the secret is mounted.
    let secret = config.split("/run/secrets/").nth(1).unwrap().split('"').next().unwrap();
    assert!(texts(&consumer["secrets"]).contains(&secret), "{secret}");
}

#[test]
fn prometheus_of_the_compose_file_scrapes_where_the_services_listen() {
    let compose = compose();
    let prometheus = repository_yaml("scripts/prometheus/prometheus.yml").remove(0);
    let jobs = prometheus["scrape_configs"].as_array().unwrap();
    let job = |name: &str| jobs.iter().find(|job| job["job_name"] == name).unwrap();
    let consumers = &job("workyard-consumer")["dns_sd_configs"][0];
    let service = &compose["services"][texts(&consumers["names"])[0]];
    assert_eq!(
        consumers["port"],
        port_of(service["environment"]["WORKYARD_HTTP"].as_str().unwrap())
    );
    let target = texts(&job("workyard")["static_configs"][0]["targets"])[0];
    let (name, port) = target.split_once(':').unwrap();
    let command = texts(&compose["services"][name]["command"]);
    assert_eq!(command[0], "metrics");
    let listens = command.iter().skip_while(|word| **word != "--listen").nth(1).unwrap();
    assert_eq!(port_of(listens).to_string(), port);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_ask_what_a_daemon_of_the_manifest_answers_where_it_listens() {
    let (pod, container) = deployment();
    let variable = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"] == "WORKYARD_HTTP");
    let port = port_of(variable.unwrap()["value"].as_str().unwrap());
    let named = container["ports"].as_array().unwrap();
    let yard = Yard::start().await;
    // Where the secret is mounted, the daemon of the test has its own.
    let secret = yard.server.dir().join("redis_url");
    std::fs::write(&secret, yard.server.consumer_url()).unwrap();
    let config = embedded_config();
    let path = config.split('"').nth(1).unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = |at: &Path| {
        mounts
            .iter()
            .find(|mount| mount["mountPath"] == at.to_str().unwrap())
            .unwrap()
    };
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = |mount: &Value| volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert!(
        volume(mount(Path::new(path).parent().unwrap()))["secret"].is_object(),
        "{path}"
    );
    let map = manifest("scripts/kubernetes/workyard.yaml", "ConfigMap");
    let held = volume(mount(Path::new("/etc/workyard")));
    assert_eq!(held["configMap"]["name"], map["metadata"]["name"]);
    let file = yard.server.dir().join("workyard.toml");
    std::fs::write(&file, config.replace(path, secret.to_str().unwrap())).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(file).env("WORKYARD_HTTP", "127.0.0.1:0");
    let daemon = Daemon::spawn(&mut command);
    let address = http_of(&daemon).await;
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(
            asked["path"], path,
            "{probe}: see docs/operations.md for what each says"
        );
        let is_named = |p: &&Value| p["name"] == asked["port"] || p["containerPort"] == asked["port"];
        assert_eq!(named.iter().find(is_named).unwrap()["containerPort"], port, "{probe}");
        wait_until(LIMIT, || async { get(address, path).await.0 == 200 }).await;
    }
    let scraped = manifest("scripts/kubernetes/workyard.yaml", "Deployment");
    let annotations = &scraped["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], port.to_string());
    assert_eq!(get(address, "/metrics").await.0, 200);
}

#[test]
fn pods_are_strangers_that_drain_and_are_not_all_evicted_at_once() {
    let (pod, container) = deployment();
    let drain = setting(&embedded_config(), "drain_timeout").unwrap_or_else(|| DEFAULT_DRAIN.to_owned());
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > seconds(&drain));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let image = repository_text("Dockerfile");
    let user = image.lines().rev().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let security = &pod["securityContext"];
    assert_eq!(format!("{}:{}", security["runAsUser"], security["runAsGroup"]), user);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let deployment = manifest("scripts/kubernetes/workyard.yaml", "Deployment");
    let budget = manifest("scripts/kubernetes/workyard.yaml", "PodDisruptionBudget");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
}

#[test]
fn keda_counts_the_pending_set_of_a_queue_that_the_pods_serve() {
    let scaled = manifest("scripts/kubernetes/keda.yaml", "ScaledObject");
    let deployment = manifest("scripts/kubernetes/workyard.yaml", "Deployment");
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    let trigger = &scaled["spec"]["triggers"][0];
    let login = manifest("scripts/kubernetes/keda.yaml", "TriggerAuthentication");
    assert_eq!(trigger["authenticationRef"]["name"], login["metadata"]["name"]);
    let config = embedded_config();
    let queue = setting(config.split("[[queues]]").nth(1).unwrap(), "name").unwrap();
    let keys = Keys::new(&Prefix::default(), &QueueName::new(&queue).unwrap(), 0);
    assert_eq!(trigger["metadata"]["listName"], keys.named("pending"));
    assert!(
        scaled["spec"]["minReplicaCount"].as_u64().unwrap() >= 1,
        "somebody has to promote what is due"
    );
    // The definitions know nothing of what a scaler reads, which is texts by name: these are of KEDA's page on Redis lists.
    assert_eq!(trigger["type"], "redis");
    for (name, value) in trigger["metadata"].as_object().unwrap() {
        assert!(
            REDIS_SCALER.contains(&name.as_str()),
            "{name} is nothing that the scaler reads"
        );
        let text = value.as_str().unwrap_or_else(|| panic!("{name} is no text"));
        assert!(
            !name.ends_with("Length") || text.parse::<u32>().is_ok(),
            "{name}: {text}"
        );
    }
    let (host, port) = trigger["metadata"]["address"]
        .as_str()
        .unwrap()
        .split_once(':')
        .unwrap();
    assert!(!host.is_empty() && port.parse::<u16>().is_ok(), "{host}:{port}");
    assert!(trigger["metadata"]["listLength"].as_str().unwrap() != "0");
    let parameters = login["spec"]["secretTargetRef"].as_array().unwrap();
    for parameter in parameters {
        let name = parameter["parameter"].as_str().unwrap();
        assert!(
            ["username", "password"].contains(&name),
            "the scaler takes no {name} from there"
        );
    }
}
