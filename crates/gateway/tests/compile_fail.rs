//! The pipeline's typestate (docs/design.md, promises 1 and 3), held by the compiler: each program here tries to go around a step
//! and must not compile. The `.stderr` beside it says why; `TRYBUILD=overwrite cargo test -p durward-gateway --test compile_fail`
//! writes it anew when the compiler's wording changes.

#[test]
fn no_proof_can_be_made_outside_its_step() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
