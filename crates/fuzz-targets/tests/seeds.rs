//! Runs every fuzz target over its seeds.
//!
//! The name of a seed says what its target must do with it: `accepted-*` or `refused-*`. An accepted seed that is refused no
//! longer reaches the parser that it is for.

use durward_fuzz_targets::{FuzzTarget, TARGETS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn file_names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("the directory of a target can be listed");
    entries
        .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
        .collect()
}

fn run_over_seeds(name: &str) {
    let target: &FuzzTarget =
        TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let directory = fuzz_directory().join("seeds").join(name);
    let seeds = file_names(&directory);
    assert!(seeds.len() >= 3, "{name} has too few seeds: {seeds:?}");
    let mut wrong = Vec::new();
    for seed in &seeds {
        let accepted = (target.run)(&std::fs::read(directory.join(seed)).expect("a seed can be read"));
        let expected = seed.starts_with("accepted-");
        assert!(
            expected || seed.starts_with("refused-"),
            "{name}/{seed} does not say what is expected of it"
        );
        if accepted != expected {
            wrong.push(format!("{name}/{seed} is {}", if accepted { "accepted" } else { "refused" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

macro_rules! seed_tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run_over_seeds(stringify!($name));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

seed_tests! {
    chunked
    decode
    decode_ec2
    decode_json
    decode_query
    decode_rest_json
    decode_rest_xml
    decode_rpc_v2_cbor
    masking
    mcp_events
    mcp_message
    policy
    session_token
    sigv4
}

#[test]
fn every_target_has_a_test_a_program_and_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(TESTED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    assert_eq!(file_names(&fuzz_directory().join("seeds")), targets);
    let programs: BTreeSet<String> = file_names(&fuzz_directory().join("fuzz_targets"))
        .iter()
        .filter_map(|file| file.strip_suffix(".rs").map(str::to_owned))
        .collect();
    assert_eq!(programs, targets);
}
