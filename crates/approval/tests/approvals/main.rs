//! The promises of approvals, each as a test that fails without its guard.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod binding;
mod durable;
mod endings;
mod model;
mod novelty;
mod people;
mod processes;
mod races;
mod stage;
mod waiting;
