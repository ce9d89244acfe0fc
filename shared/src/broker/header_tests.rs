//! The header of each Lua file, its code and the calls from Rust agree on a function's own keys.
//!
//! The sources are read as text: a header that no test reads is the first thing to become wrong. It does not look
//! at arguments, whose number depends on the call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A function as its header tells it.
#[derive(Debug, Clone, PartialEq)]
struct Header {
    /// The keys behind the shared ones that it is never called without, in words.
    keys: String,
    /// Whether the keys of a job stand between the shared ones and its own.
    job: bool,
    own: usize,
    /// How many of them it is never called without.
    needed: usize,
}

/// Texts of the files with this ending in a folder of this crate and those below, by path.
fn sources(folder: &Path, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            found.insert(path.display().to_string(), std::fs::read_to_string(path).unwrap());
        }
    }
    found
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inside, _)| inside)
}

/// The names that a Lua file registers.
fn registered(source: &str) -> Vec<&str> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("register('"));
    lines.filter_map(|line| line.split('\'').next()).collect()
}

/// What the header says of `name`: `KEYS the shared keys[, the job's 12][, [then optionally] own, ...]`, to the next column. In a file
/// of several functions it stands behind `name:`.
fn header_of(source: &str, name: &str) -> Option<Header> {
    let header = between(source, "--[[", "]]")?;
    let lone = registered(source).len() == 1;
    let part = if lone {
        header
    } else {
        header.split_once(&format!("\n{name}:"))?.1
    };
    let line = part.split_once("KEYS ")?.1.lines().next()?.trim();
    if let Some(other) = line.strip_prefix("as ") {
        return header_of(source, other.split_whitespace().next()?);
    }
    let keys = line.split("   ").next()?.strip_prefix("the shared keys")?;
    let job = keys.starts_with(", the job's ");
    let named = keys
        .split(", then optionally")
        .next()?
        .split(" and the running")
        .next()?;
    Some(Header {
        keys: named.trim_start_matches(", ").trim().to_owned(),
        job,
        own: keys.matches(',').count() - usize::from(job),
        needed: needed(keys) - usize::from(job),
    })
}

/// The keys that a Lua file registers `name` with: without them it is not even begun.
fn demanded(source: &str, name: &str) -> String {
    let line = source
        .lines()
        .find(|line| line.starts_with(&format!("register('{name}',")));
    let keys = line.and_then(|line| between(line, "{ ", " }")).unwrap_or_default();
    let keys: Vec<_> = keys.split(", ").map(|key| key.trim_matches(['\'', '"'])).collect();
    keys.join(", ")
}

/// How many keys stand in front of `then optionally`, or all.
fn needed(keys: &str) -> usize {
    let (needed, optional) = keys.split_once("then optionally").unwrap_or((keys, ""));
    needed.matches(',').count() - usize::from(!optional.is_empty())
}

/// The highest n of `OWN + n`, or behind the keys of a job `JOB_OWN + n`, in the code.
fn used(source: &str) -> usize {
    let uses = source.split("OWN + ").skip(1);
    uses.filter_map(|rest| rest.split(']').next()?.parse().ok())
        .max()
        .unwrap_or(0)
}

/// Where the header of one function stands for those like it, whose consumer it is reads differently.
fn without_owner(keys: &str) -> String {
    keys.replace("<dead>", "<consumer>")
}

/// How many elements `[a, b]` has, given what follows the first bracket.
fn elements(text: &str) -> usize {
    let (mut depth, mut count, mut begun) = (0, 0, false);
    for c in text.chars() {
        match c {
            ']' if depth == 0 => break,
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                begun = false;
                continue;
            }
            _ => {}
        }
        count += usize::from(!begun);
        begun = true;
    }
    count
}

/// Each call in Rust: the function, whether it gets the keys of a job, and how many own ones, if that can be read.
fn calls(all: &str) -> BTreeSet<(String, bool, Option<usize>)> {
    let mut found = BTreeSet::new();
    let places = all.match_indices(".fcall(").chain(all.match_indices(".job_call("));
    for (at, call) in places {
        let job = call == ".job_call(";
        let (edge, mut rest) = all[at + call.len()..].split_once(',').unwrap();
        if job {
            rest = rest.split_once(',').unwrap().1; // behind the job's id
        }
        let own = rest.strip_prefix("&[").map(elements);
        if let Some(name) = edge.strip_prefix('"') {
            found.insert((name.trim_end_matches('"').to_owned(), job, own));
            continue;
        }
        // The function's name comes in as `edge`: look who calls the method that this stands in.
        let method = all[..at].rsplit_once("(&self,edge:&str").unwrap().0;
        let method = method.rsplit_once("fn").unwrap().1;
        for (_, rest) in all
            .match_indices(&format!(".{method}(\""))
            .map(|(at, call)| all[at..].split_at(call.len()))
        {
            let name = rest.split('"').next().unwrap().to_owned();
            found.insert((name, job || method == "job_call", own));
        }
    }
    found
}

#[test]
fn own_keys_are_the_same_in_each_header_its_code_and_the_calls() {
    let mut headers = BTreeMap::new();
    for (file, source) in sources(Path::new("lua"), "lua") {
        let mut most = 0;
        for name in registered(&source) {
            let header = header_of(&source, name);
            let header = header.unwrap_or_else(|| panic!("{file}: the header does not say KEYS of {name}"));
            most = most.max(header.own);
            let keys = without_owner(&header.keys);
            assert_eq!(
                without_owner(&demanded(&source, name)),
                keys,
                "{file}: keys that {name} is registered with, and in the header"
            );
            headers.insert(name.to_owned(), header);
        }
        // Files without a function of their own use the keys of who calls them.
        if !registered(&source).is_empty() {
            assert_eq!(used(&source), most, "{file}: own keys used, and in the header");
        }
    }
    assert!(headers.len() > 20, "{headers:?}");
    let rust: String = sources(Path::new("src/broker"), "rs")
        .into_iter()
        .filter(|(file, _)| !file.ends_with("header_tests.rs"))
        .flat_map(|(_, source)| source.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let calls = calls(&rust);
    for (name, job, own) in &calls {
        let Some(header) = headers.get(name) else {
            panic!("no Lua file registers {name}");
        };
        let fits = own.is_none_or(|own| own == header.own || own == header.needed);
        assert!(
            fits && *job == header.job,
            "{name}: called with {own:?} own keys, its header says {header:?}"
        );
    }
    for name in headers.keys() {
        assert!(calls.iter().any(|(called, ..)| called == name), "nobody calls {name}");
    }
}
