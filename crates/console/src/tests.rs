//! The console as a browser and as a program meet it: the whole router, the real approval room, a real issuer.

mod answers;
mod api;
mod inert;
mod links;
mod pages;
mod sessions;
mod sign_in;
mod stage;
mod windows;
