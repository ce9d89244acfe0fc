//! What the Debian packages hold: what they must, from files that are there or that the programs themselves write.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;

use workyard_tests::{repository_path, repository_text, workspace_binary};

/// Each package's manifest, and where it must put what.
const PACKAGES: [(&str, &[&str]); 2] = [
    (
        "consumer/Cargo.toml",
        &[
            "usr/bin/workyard-consumer",
            "usr/lib/systemd/system/workyard-consumer@.service",
            "usr/share/man/man1/workyard-consumer.1",
            "usr/share/bash-completion/completions/workyard-consumer",
            "usr/share/zsh/vendor-completions/_workyard-consumer",
            "usr/share/fish/vendor_completions.d/workyard-consumer.fish",
            "usr/share/doc/workyard-consumer/examples/workyard.toml",
            "usr/share/doc/workyard-consumer/operations.md",
        ],
    ),
    (
        "producer/Cargo.toml",
        &[
            "usr/bin/workyard",
            "usr/share/man/man1/workyard*.1",
            "usr/share/bash-completion/completions/workyard",
            "usr/share/zsh/vendor-completions/_workyard",
            "usr/share/fish/vendor_completions.d/workyard.fish",
            "usr/share/doc/workyard/examples/alerts.yml",
            "usr/share/doc/workyard/examples/workyard.json",
        ],
    ),
];
/// What `scripts/package` writes, as manifests name it.
const WRITTEN: &str = "../target/package/";

struct Asset {
    from: String,
    to: String,
    mode: String,
}

/// What a package is made of.
fn assets(manifest: &str) -> Vec<Asset> {
    let text = repository_text(manifest);
    let list = text.split("assets = [").nth(1).unwrap().split("\n]").next().unwrap();
    let lines = list.lines().filter(|line| line.contains("[\""));
    lines
        .map(|line| {
            let mut words = line.split('"').skip(1).step_by(2).map(str::to_owned);
            let (from, to, mode) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            // A folder keeps the name.
            let name = from.rsplit('/').next().unwrap();
            let to = if to.ends_with('/') { format!("{to}{name}") } else { to };
            Asset { from, to, mode }
        })
        .collect()
}

#[test]
fn packages_hold_programs_units_manuals_completions_and_examples() {
    for (manifest, wanted) in PACKAGES {
        let assets = assets(manifest);
        for place in wanted {
            let asset = assets.iter().find(|asset| asset.to == *place);
            let asset = asset.unwrap_or_else(|| panic!("{manifest}: nothing goes to {place}"));
            let mode = if place.starts_with("usr/bin/") { "755" } else { "644" };
            assert_eq!(asset.mode, mode, "{place}");
        }
    }
}

#[test]
fn packages_name_only_files_that_are_there_or_that_the_script_writes() {
    let out = tempfile::tempdir().unwrap();
    let programs = workspace_binary("workyard");
    let written = Command::new(repository_path("scripts/package"))
        .arg("--files-only")
        .arg(std::path::Path::new(programs.get_program()).parent().unwrap())
        .arg(out.path())
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    for (manifest, _) in PACKAGES {
        for Asset { from, .. } in assets(manifest) {
            if let Some(name) = from.strip_prefix(WRITTEN) {
                let found = glob_one(out.path(), name);
                assert!(found > 0, "{manifest}: scripts/package does not write {name}");
            } else if !from.starts_with("target/") {
                let path = repository_path(from.trim_start_matches("../"));
                assert!(path.is_file(), "{manifest}: {from}");
            }
        }
    }
}

/// How many files of a folder have this name, a `*` in it for anything; none is empty.
fn glob_one(folder: &std::path::Path, name: &str) -> usize {
    let path = folder.join(name);
    let name = path.file_name().unwrap().to_str().unwrap();
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap);
    let found = files.filter(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with(start) && name.ends_with(end) && (name == start || !end.is_empty())
    });
    let sizes: Vec<u64> = found.map(|file| file.metadata().unwrap().len()).collect();
    assert!(sizes.iter().all(|bytes| *bytes > 0), "{name} is empty");
    sizes.len()
}
