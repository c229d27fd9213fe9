//! Reads the tags of a resource: finds the operation that returns them, builds its request and parses its response.
//!
//! Promise: a response that is not understood is an error, never "no tags", because a policy may permit untagged resources. Only
//! a resource that does not exist has no tags.

mod tag_containers;
mod tag_request;
mod tag_response;

pub use tag_request::{TagLookup, UnsignedRequest, find_tag_lookup, taggable_resource};
pub use tag_response::{TagLookupError, TagPage};

#[cfg(test)]
mod tests;
