//! The lists of attacks name the tests that try them. A renamed or deleted test must not leave its attack with a name only.

use crate::repository::Repository;
use std::collections::HashSet;
use std::path::Path;

/// The list for approvals, and the threat model for the rest.
const ATTACK_LISTS: [&str; 2] =
    ["crates/integration/tests/whole_gateway/approval_attacks/mod.rs", "docs/threat-model.md"];

/// What a list says in backticks and means as a test: `module::name`, or `module::prefix_*`.
fn named_tests(list: &str) -> Vec<&str> {
    list.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.rsplit_once("::"))
        .map(|(_module, name)| name)
        .filter(|name| *name != "*" && *name != "tests")
        .collect()
}

/// The names of all functions below a directory.
fn collect_functions(directory: &Path, functions: &mut HashSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_functions(&path, functions);
            continue;
        }
        let keyword = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => "fn ",
            Some("py") => "def ",
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.split(keyword).skip(1);
        functions.extend(
            names
                .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
                .map(str::to_owned),
        );
    }
}

#[test]
fn every_test_that_an_attack_list_names_exists() {
    let root = Repository::locate().unwrap().root;
    let mut functions = HashSet::new();
    collect_functions(&root.join("crates"), &mut functions);
    collect_functions(&root.join("tests/suites/python"), &mut functions);
    collect_functions(&root.join("xtask/src"), &mut functions);
    for list in ATTACK_LISTS {
        let text = std::fs::read_to_string(root.join(list)).unwrap();
        let names = named_tests(&text);
        assert!(!names.is_empty(), "{list} names no test");
        for name in names {
            let exists = match name.strip_suffix('*') {
                Some(prefix) => functions.iter().any(|function| function.starts_with(prefix)),
                None => functions.contains(name),
            };
            assert!(exists, "{list} names `{name}`, which is no function of crates/, tests/ or xtask/");
        }
    }
}
