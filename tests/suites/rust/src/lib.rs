//! Nothing is here: the suite is `tests/`, run by `cargo test`.
