//! Tests of the whole console as a browser and as an API client meet it: the real router, approvals and store, and an OpenID
//! provider on loopback.

mod api;
mod cross_site_requests;
mod openapi;
mod output_escaping;
mod pages;
mod response_headers;
mod sessions;
mod sign_in;
mod test_console;
mod time_bound_grants;
mod voting;
