//! What the rules promise, read off the rules; that they are enough, the black-box tests show (`roles.rs`).

use std::collections::BTreeSet;

use super::*;
use crate::functions::{EDGES, HELPERS};

fn rules(role: Role) -> Vec<String> {
    Access::new(role, Prefix::default()).rules()
}

/// The selectors of a role that let it write keys by plain commands, thus inside functions too.
fn writes(role: Role) -> impl Iterator<Item = &'static Grant> {
    let plain = |grant: &&Grant| grant.functions.is_empty() && grant.reach != grant::Reach::Read;
    role.grants().iter().filter(plain)
}

fn has(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|found| found == word)
}

#[test]
fn rules_are_those_of_the_installation_and_its_queues() {
    let mut access = Access::new(Role::Producer, Prefix::new("shop").unwrap());
    access.queues = vec![QueueName::new("emails").unwrap()];
    let text = access.command("web");
    assert!(text.starts_with("ACL SETUSER web on clearselectors resetkeys resetchannels -@all +ping "));
    assert!(
        text.contains("(+rpush %W~shop:{emails}:inbox %W~shop:{emails/*}:inbox)"),
        "{text}"
    );
    assert!(text.contains("(+sadd %W~shop:queues)"), "{text}");
    assert!(
        !text.contains("{*}") && !text.contains("+select") && !text.contains("waitaof"),
        "{text}"
    );
    access.queues.clear();
    access.database = 3;
    access.waitaof = true;
    let text = access.command("web");
    assert!(
        text.contains("+select|3 +waitaof ") && text.contains("%W~shop:{*}:inbox"),
        "{text}"
    );
}

#[test]
fn only_an_operator_writes_settings() {
    for role in Role::ALL {
        let named = writes(role).any(|grant| has(grant.keys, "cfg"));
        assert_eq!(named, role == Role::Operator, "{role}");
        // A pattern that is wide enough to mean every key would mean this one too.
        for grant in writes(role) {
            let wide = grant
                .keys
                .split(' ')
                .find(|key| key.starts_with('*') || key.starts_with("c*"));
            assert_eq!(wide, None, "{role}: {grant:?}");
        }
    }
}

#[test]
fn only_a_consumer_writes_what_a_claim_writes() {
    for role in Role::ALL {
        let holds = writes(role).any(|grant| has(grant.commands, "hset") && has(grant.keys, "running:*"));
        assert_eq!(holds, role == Role::Consumer, "{role}");
        let claims = role.grants().iter().any(|grant| has(grant.functions, "claim"));
        assert_eq!(claims, role == Role::Consumer, "{role}");
    }
}

#[test]
fn no_role_gets_a_command_that_reaches_beyond_its_keys() {
    let dangerous = [
        "flushall",
        "flushdb",
        "keys",
        "scan",
        "eval",
        "evalsha",
        "script",
        "config",
        "debug",
        "shutdown",
        "monitor",
        "acl",
        "migrate",
        "swapdb",
        "randomkey",
        "subscribe",
        "psubscribe",
        "save",
        "replicaof",
        "module",
        "sort",
        "rename",
        "copy",
        "move",
        "restore",
        "dump",
    ];
    for role in Role::ALL {
        for rule in rules(role) {
            assert!(
                !rule.contains("+@") && !rule.contains("allcommands") && !rule.contains("allkeys"),
                "{rule}"
            );
            for command in rule.split(['(', ' ', ')']).filter_map(|word| word.strip_prefix('+')) {
                let name = command.split('|').next().unwrap();
                assert!(!dangerous.contains(&name), "{role}: {rule}");
                // Without its name it would be any function of anybody.
                assert!(
                    name != "fcall" || command.starts_with("fcall|workyard_1_"),
                    "{role}: {rule}"
                );
                assert!(name != "function" || role == Role::Operator, "{role}: {rule}");
            }
        }
    }
}

/// What `workyard doctor` calls. It scans the names of all keys, which no role may: it is an administrator's.
const DOCTORS: [&str; 7] = [
    "adopt",
    "checkup",
    "examine",
    "job_examine",
    "job_mend",
    "mend",
    "set_right",
];

#[test]
fn every_function_of_the_library_is_some_roles_and_no_rule_names_another() {
    let registered: BTreeSet<&str> = EDGES
        .iter()
        .flat_map(|(_, source)| source.lines())
        .filter_map(|line| line.strip_prefix("register('")?.split('\'').next())
        .collect();
    let granted: BTreeSet<&str> = Role::ALL
        .iter()
        .flat_map(|role| role.grants())
        .flat_map(|grant| grant.functions.split_whitespace())
        .collect();
    assert!(DOCTORS.iter().all(|name| !granted.contains(name)), "{granted:?}");
    let known: BTreeSet<&str> = granted.into_iter().chain(DOCTORS).collect();
    assert_eq!(known, registered);
}

#[test]
fn every_command_of_the_functions_is_some_roles() {
    let granted: BTreeSet<String> = Role::ALL
        .iter()
        .flat_map(|role| role.grants())
        .flat_map(|grant| grant.commands.split_whitespace())
        .filter_map(|name| name.split('|').next())
        .map(str::to_uppercase)
        .collect();
    for (file, source) in HELPERS.iter().chain(EDGES.iter()) {
        for command in source
            .split("call('")
            .skip(1)
            .filter_map(|rest| rest.split('\'').next())
        {
            assert!(
                command == "TIME" || granted.contains(command),
                "{file}.lua calls {command}"
            );
        }
    }
}
