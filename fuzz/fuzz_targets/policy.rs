//! The policy loader: any text is a policy set or a list of problems.
#![no_main]

use durward_catalog::Catalog;
use durward_policy::PolicySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("a.cedar"), text).expect("a file");
    let _either = PolicySet::load(dir.path(), Catalog::embedded());
});
