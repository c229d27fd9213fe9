//! The policy loader: any text is a policy set or a list of problems.

use durward_catalog::Catalog;
use durward_policy::PolicySet;

/// Input: the text of a policy file.
pub(crate) fn load_policy_text(input: &[u8]) -> bool {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    std::fs::write(directory.path().join("a.cedar"), input).expect("a file can be written there");
    PolicySet::load(directory.path(), Catalog::embedded()).is_ok()
}
