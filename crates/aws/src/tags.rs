//! Reading the tags of a resource: which call of which service tells them, how that call is written, what its answer says.
//!
//! Promise: an answer that is not understood is an error, never "no tags". A resource that does not exist has none.

mod answer;
mod call;

pub use answer::{Page, TagsError};
pub use call::{TagCall, WireCall, holder, tag_call};

#[cfg(test)]
mod tests;
