//! The `durward` program. Everything that it does is in the library.

use std::process::ExitCode;

/// A request makes some hundred small allocations that live as long as it: glibc's allocator took 14 % of the time.
#[global_allocator]
static GLOBAL_ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    durward::run()
}
