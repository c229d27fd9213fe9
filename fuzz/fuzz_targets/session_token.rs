//! Session tokens: nothing that this gateway did not seal opens.
#![no_main]

use durward_identity::SealKeys;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use time::OffsetDateTime;

static KEYS: OnceLock<SealKeys> = OnceLock::new();

fuzz_target!(|input: (&str, &str)| {
    let keys = KEYS.get_or_init(|| SealKeys::from_master_keys(&[zeroize::Zeroizing::new([7; 32])]).expect("one master"));
    assert!(keys.open(input.0, input.1, OffsetDateTime::UNIX_EPOCH).is_err());
});
