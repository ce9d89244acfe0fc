//! The alarms and the dashboard: each alarm is explained to whoever it wakes, fires when it must and not else, and nothing
//! names a figure that nobody shows.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use workyard_shared::metrics::{FAMILIES, Form};
use workyard_tests::{passes, repository_path, repository_text, repository_yaml};

const HOW: &str = "It is part of Debian's package prometheus: apt-get install prometheus";
/// What must and what must not wake somebody, for promtool.
const CASES: &str = "tests/alarms.yml";

fn alarms() -> Vec<String> {
    let rules = repository_yaml("scripts/prometheus/alerts.yml");
    let groups = rules[0]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let names: Vec<String> = rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

/// Every metric name in a text that is not one of Prometheus: an expression, a dashboard.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("workyard_"))
        .map(str::to_owned)
        .collect()
}

fn exists(name: &str) -> bool {
    FAMILIES.iter().any(|family| match family.form {
        Form::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.strip_suffix(end) == Some(family.name)),
        _ => name == family.name,
    })
}

#[test]
fn alarms_and_dashboard_name_only_what_exists() {
    for path in [
        "scripts/prometheus/alerts.yml",
        "scripts/grafana/workyard.json",
        "docs/operations.md",
    ] {
        let names = names_in(&repository_text(path));
        let unknown: Vec<_> = names
            .iter()
            .filter(|name| !exists(name) && *name != "workyard_1" && !name.starts_with("workyard_1_"))
            .collect();
        assert!(unknown.is_empty(), "{path} names {unknown:?}, which nothing shows");
        assert!(
            path.ends_with(".md") || names.len() >= 10,
            "{path} names only {names:?}"
        );
    }
    assert!(!exists("workyard_consumer_run_seconds") && exists("workyard_consumer_run_seconds_bucket"));
}

#[test]
fn every_alarm_has_its_paragraph_in_the_operations_guide_and_the_rules_pass_promtool() {
    let guide = repository_text("docs/operations.md");
    for alarm in alarms() {
        assert!(
            guide.contains(&format!("**{alarm}**")),
            "docs/operations.md does not say what to do about {alarm}"
        );
    }
    let path = repository_path("scripts/prometheus/alerts.yml").display().to_string();
    passes("promtool", &["check", "rules", &path], "", HOW);
    let config = repository_path("scripts/prometheus/prometheus.yml")
        .display()
        .to_string();
    passes("promtool", &["check", "config", "--syntax-only", &config], "", HOW);
}

/// The place of a panel: from and to, across and down.
fn place(panel: &Value) -> [u64; 4] {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|of| panel["gridPos"][of].as_u64().expect(of));
    assert!(w > 0 && h > 0 && x + w <= 24, "{panel} is beyond the 24 columns");
    [x, x + w, y, y + h]
}

/// What stands for a value in a text of Grafana's.
fn variables(text: &str) -> BTreeSet<String> {
    let parts = text.split('$').skip(1).map(|part| part.trim_start_matches('{'));
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    parts
        .map(|part| part.split(end).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_dashboard_can_be_drawn_and_its_expressions_pass_promtool() {
    let dashboard: Value = serde_json::from_str(&repository_text("scripts/grafana/workyard.json")).unwrap();
    let asked = dashboard["templating"]["list"].as_array().unwrap().iter();
    let mut known: BTreeSet<String> = asked.map(|of| of["name"].as_str().unwrap().to_owned()).collect();
    known.insert("__rate_interval".to_owned());
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    let (mut ids, mut places, mut rules) = (BTreeSet::new(), Vec::<[u64; 4]>::new(), Vec::new());
    for panel in panels {
        let id = panel["id"].as_u64().unwrap();
        assert!(ids.insert(id), "two panels have the id {id}");
        assert!(
            panel["title"].as_str().is_some_and(|text| !text.is_empty()),
            "{id}: title"
        );
        assert_eq!(panel["type"], "timeseries", "{id}");
        assert_eq!(
            panel["datasource"],
            json!({ "type": "prometheus", "uid": "${source}" }),
            "{id}"
        );
        let [left, right, top, bottom] = place(panel);
        let overlaps = |of: &&[u64; 4]| left < of[1] && of[0] < right && top < of[3] && of[2] < bottom;
        assert_eq!(places.iter().find(overlaps), None, "panel {id} lies on another");
        places.push([left, right, top, bottom]);
        let (targets, mut names) = (panel["targets"].as_array().unwrap(), BTreeSet::new());
        assert!(!targets.is_empty(), "{id}");
        for target in targets {
            let (name, expr) = (target["refId"].as_str().unwrap(), target["expr"].as_str().unwrap());
            assert!(names.insert(name), "{id}: two targets are {name}");
            rules.push(
                json!({ "record": format!("panel:{id}:{name}"), "expr": expr.replace("$__rate_interval", "5m") }),
            );
        }
        let unknown: Vec<_> = variables(&panel.to_string()).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{id}: {unknown:?} stand for nothing");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dashboard.yml");
    // JSON is YAML.
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(&file, groups.to_string()).unwrap();
    passes("promtool", &["check", "rules", &file.display().to_string()], "", HOW);
}

#[test]
fn every_alarm_fires_when_it_must_and_not_else() {
    // Of each: whether some case has it fire, and some has it silent.
    let mut cases: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for group in repository_yaml(CASES)[0]["tests"].as_array().unwrap() {
        for case in group["alert_rule_test"].as_array().unwrap() {
            let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
            let seen = cases.entry(case["alertname"].as_str().unwrap().to_owned()).or_default();
            seen[usize::from(fires)] = true;
        }
    }
    let all: BTreeMap<String, [bool; 2]> = alarms().into_iter().map(|name| (name, [true, true])).collect();
    assert_eq!(cases, all, "{CASES} has not both cases of each alarm");
    let file = repository_path(CASES).display().to_string();
    passes("promtool", &["test", "rules", &file], "", HOW);
}
