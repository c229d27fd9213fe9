//! The promises of approvals, each as a test that fails without its guard.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

mod durability;
mod expiry;
mod first_seen;
mod grant_binding;
mod model_check;
mod pending_requests;
mod processes;
mod races;
mod test_ledger;
mod voting;
