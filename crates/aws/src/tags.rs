//! Reading the tags of a resource: which call of which service tells them, how that call is written, what its answer says.
//!
//! Promise: an answer that is not understood is an error, never "no tags". A resource that does not exist has none.

mod tag_request;
mod tag_response;

pub use tag_request::{TagLookup, UnsignedRequest, find_tag_lookup, taggable_resource};
pub use tag_response::{TagLookupError, TagPage};

#[cfg(test)]
mod tests;
