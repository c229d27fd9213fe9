//! The AWS wire protocols: SigV4 in both directions, `aws-chunked` bodies, operation decoding, errors and tag reads.
//!
//! Begin with [`decode`], which turns a request into one [`Operation`](durward_core::Operation) with the permissions that it
//! requires. [`sigv4`] checks the signature of a request before that and signs the request that goes upstream;
//! [`chunked`] checks upload bodies while they pass; [`error_response`] writes refusals in the caller's protocol;
//! [`tags`] builds the calls that read a resource's tags, and reads their responses.
//!
//! Promise: pure functions over bytes. Nothing here opens a connection, reads a clock or logs. A request that two readers
//! could understand in two ways is refused.

pub mod chunked;
pub mod decode;
pub mod error_response;
pub mod form;
mod refusals;
pub mod sigv4;
pub mod tags;
pub mod xml;
