//! The state of an approval request.

use crate::serde_formats::word_enum;

word_enum! {
    /// The state of an approval request.
    pub enum ApprovalState {
        /// Waits for votes. It outlasts its hold deadline only if every requirement says `queue`.
        Pending = "pending",
        /// Has an unused grant, or an active time-bound grant.
        Approved = "approved",
        Denied = "denied",
        /// The quorum was not reached in time.
        TimedOut = "timed_out",
        /// The grant was used. It is never valid again.
        Consumed = "consumed",
        /// The grant was not used in time or became unnecessary, the time-bound grant ended, the queued request is older
        /// than a day, or changed policies superseded the request.
        Expired = "expired",
        /// The stored row cannot be read. It grants nothing.
        Corrupt = "corrupt",
    }
}
