//! The console as a browser and as a program meet it: the whole router, the real approval room, a real issuer.

mod api;
mod cross_site_requests;
mod output_escaping;
mod pages;
mod sessions;
mod sign_in;
mod test_console;
mod time_bound_grants;
mod voting;
