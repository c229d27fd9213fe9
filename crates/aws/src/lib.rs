//! The AWS wire: SigV4 in and out, chunked bodies, operation decoding, endpoints, errors.
//!
//! Pure functions over bytes; nothing here opens a connection.

pub mod chunked;
pub mod decode;
pub mod error_response;
pub mod sigv4;
pub mod tags;
