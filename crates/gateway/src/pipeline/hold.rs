//! Parking: a request is held open while people decide, as long as its client is there, its session is not revoked and there is
//! memory for it.

use super::decode::Decoded;
use crate::exchange::{Exchange, Identity};
use crate::front_end::FrontEndRequest;
use crate::held_requests::HeldRequests;
use crate::keep_alive::keep_alive_interval;
use crate::memory_budget::MemoryReservation;
use durward_core::{Refusal, RefusalReason};
use durward_identity::Revocations;
use std::future::Future;
use std::time::Duration;

/// Holds requests open.
pub(super) struct RequestHolder {
    revocations: Revocations,
    held_requests: HeldRequests,
    hold_timeout: Duration,
}

impl RequestHolder {
    pub fn new(revocations: Revocations, hold_timeout: Duration) -> Self {
        Self { revocations, held_requests: HeldRequests::default(), hold_timeout }
    }

    pub fn hold_timeout(&self) -> Duration {
        self.hold_timeout
    }

    /// The right to be held, which counts the request's memory. `None`: the client is told to come again.
    pub fn admit<R: FrontEndRequest>(&self, decoded: &Decoded<R>) -> Option<MemoryReservation> {
        let caller = &decoded.identity().caller;
        self.held_requests.admit(caller, decoded.operation(), decoded.request().held_bytes())
    }

    pub fn available_kib(&self) -> usize {
        self.held_requests.available_kib()
    }

    pub fn check_not_revoked(&self, identity: &Identity) -> Result<(), Refusal> {
        self.revocations.check_session(identity.session, &identity.caller, identity.valid_since)
    }

    /// Waits for `event`, with interim responses for clients that need them, as long as the client is there and admitted.
    pub async fn wait_while_connected<T>(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        event: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let revoked =
            self.revocations.wait_until_revoked(identity.session, &identity.caller, identity.valid_since);
        let disconnected = exchange.client.disconnected();
        tokio::pin!(revoked, disconnected, event);
        let (interval, mut interims_left) =
            exchange.user_agent.as_deref().and_then(keep_alive_interval).unwrap_or((self.hold_timeout, 0));
        loop {
            tokio::select! {
                biased;
                // Revocation comes first: a vote that arrives at the same moment must not let a revoked session pass.
                refusal = &mut revoked => return Err(refusal),
                () = &mut disconnected => {
                    return Err(Refusal::new(
                        RefusalReason::ClientDisconnected,
                        "the client disconnected while its request waited for approval",
                    ));
                }
                event = &mut event => return Ok(event),
                () = tokio::time::sleep(interval), if interims_left > 0 => {
                    interims_left -= 1;
                    exchange.client.send_interim();
                }
            }
        }
    }
}
