//! The limits of one gateway's approvals.

use durward_core::limits;
use std::time::Duration;

/// Limits that a configuration may change, and the break-glass group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLimits {
    /// Pending approval requests of one caller.
    pub max_pending_per_caller: usize,
    /// Pending approval requests of all callers of one identity provider.
    pub max_pending_per_provider: usize,
    /// Pending approval requests of all callers together.
    pub max_pending_total: usize,
    /// The time for which a grant waits for its use.
    pub grant_ttl: Duration,
    /// The group that may break glass. `None`: nobody may.
    pub break_glass_group: Option<String>,
    /// The longest time-bound grant that a vote may create.
    pub max_time_bound: Duration,
}

impl Default for ApprovalLimits {
    fn default() -> Self {
        Self {
            max_pending_per_caller: limits::MAX_PENDING_REQUESTS_PER_CALLER,
            max_pending_per_provider: limits::MAX_PENDING_REQUESTS_PER_PROVIDER,
            max_pending_total: limits::MAX_PENDING_REQUESTS,
            grant_ttl: limits::GRANT_TTL,
            break_glass_group: None,
            max_time_bound: limits::MAX_TIME_BOUND_GRANT,
        }
    }
}
