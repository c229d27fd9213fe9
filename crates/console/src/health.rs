//! The health checks of the parts of the gateway that the console can see.

use crate::{
    display_text::{DisplayText, capitalize_first},
    policy_files::{PolicyFilesStatus, compare_policy_files},
    settings::AwsIdentityState,
    state::ConsoleState,
};
use durward_approval::{ApprovalRequestFilter, ApprovalState};
use durward_core::timestamps::format_utc;
use serde::Serialize;
use std::sync::Arc;

/// Most pending approval requests that the check counts: the most that one listing returns.
const MAX_COUNTED_REQUESTS: usize = 1_000;

/// The result of one check.
#[derive(Serialize)]
pub struct HealthCheck {
    pub name: &'static str,
    pub healthy: bool,
    pub detail: DisplayText,
}

impl HealthCheck {
    fn new(name: &'static str, healthy: bool, detail: impl AsRef<str>) -> Self {
        Self { name, healthy, detail: DisplayText::new(detail) }
    }

    /// The name, as the page shows it.
    pub fn label(&self) -> String {
        capitalize_first(self.name)
    }
}

/// All checks together.
pub struct HealthReport {
    pub checks: Vec<HealthCheck>,
    /// True if every check passes.
    pub healthy: bool,
}

pub async fn run_health_checks(state: &Arc<ConsoleState>) -> HealthReport {
    let mut checks = vec![check_approvals(state).await, check_policies(state).await, check_journal(state)];
    checks.extend(check_aws_identity(state).await);
    checks.extend(check_notifications(state).await);
    let healthy = checks.iter().all(|check| check.healthy);
    HealthReport { checks, healthy }
}

async fn check_approvals(state: &ConsoleState) -> HealthCheck {
    let filter = ApprovalRequestFilter {
        states: vec![ApprovalState::Pending],
        caller: None,
        limit: MAX_COUNTED_REQUESTS,
    };
    match state.approvals.list(filter).await {
        Ok(pending) if pending.len() == MAX_COUNTED_REQUESTS => {
            HealthCheck::new("approvals", true, format!("{MAX_COUNTED_REQUESTS} or more pending"))
        }
        Ok(pending) => HealthCheck::new("approvals", true, format!("{} pending", pending.len())),
        Err(error) => {
            tracing::error!(%error, "health: the store of the approvals does not respond");
            HealthCheck::new("approvals", false, "the store does not respond; the log says why")
        }
    }
}

fn check_journal(state: &ConsoleState) -> HealthCheck {
    // Only the directory: reading the journal would cost a scan of all segments for each look at the page.
    match std::fs::metadata(&state.settings.journal_dir) {
        Ok(metadata) if metadata.is_dir() => HealthCheck::new("journal", true, "readable"),
        _ => HealthCheck::new("journal", false, "its directory cannot be read"),
    }
}

/// Fails if the files do not load, although the last good set stays in force: the next start of the gateway would fail, and
/// the author believes that the change is in force. Fails also without policies, because everything is denied then.
async fn check_policies(state: &Arc<ConsoleState>) -> HealthCheck {
    let state = state.clone();
    let compared = tokio::task::spawn_blocking(move || {
        let set = state.policies.current();
        let in_force = format!("{} in force, policy version {}", set.len(), set.version());
        match compare_policy_files(&state, &set) {
            PolicyFilesStatus::InForce => (!set.is_empty(), in_force),
            PolicyFilesStatus::Newer(version) => {
                (!set.is_empty(), format!("{in_force}; the files have policy version {version}"))
            }
            PolicyFilesStatus::Invalid(reason) => {
                (false, format!("{in_force}; the files do not load: {reason}"))
            }
        }
    });
    let (healthy, detail) = compared.await.unwrap_or_else(|error| {
        tracing::error!(%error, "health: the policy files cannot be compared");
        (false, "the files cannot be compared; the log says why".to_owned())
    });
    HealthCheck { name: "policies", healthy, detail: DisplayText::from_multiline(&detail) }
}

/// Checks that the gateway has a credential for its own AWS calls. `None`: it needs none.
async fn check_aws_identity(state: &ConsoleState) -> Option<HealthCheck> {
    let (healthy, detail) = match state.aws_identity.as_ref()?.state().await {
        AwsIdentityState::Found { source, long_lived: false } => (true, identity_source_text(&source)),
        AwsIdentityState::Found { source, long_lived: true } => {
            (true, format!("{}; long-lived access key, use a role instead", identity_source_text(&source)))
        }
        AwsIdentityState::Missing { since, reason } => {
            (false, format!("none since {}, so nothing can be sent to AWS: {reason}", format_utc(since)))
        }
        AwsIdentityState::Unresolved => (false, "none found yet, so nothing can be sent to AWS".to_owned()),
    };
    Some(HealthCheck::new("AWS identity", healthy, detail))
}

fn identity_source_text(source: &str) -> String {
    match source {
        "environment" => "from environment variables".to_owned(),
        other => format!("from {other}"),
    }
}

/// Checks that the notification channels work. `None`: none is configured.
async fn check_notifications(state: &ConsoleState) -> Option<HealthCheck> {
    let name = "notifications";
    let channels = match state.channels.read_all().await {
        Ok(channels) => channels,
        Err(error) => {
            tracing::error!(%error, "health: the state of the channels cannot be read");
            let detail = "the state of the channels cannot be read; the log says why";
            return Some(HealthCheck::new(name, false, detail));
        }
    };
    let failing: Vec<&str> = channels
        .iter()
        .filter(|channel| channel.failing_since.is_some())
        .map(|channel| channel.name.as_str())
        .collect();
    let detail = match (channels.len(), failing.len()) {
        (0, _) => return None,
        (1, 0) => "1 channel".to_owned(),
        (count, 0) => format!("{count} channels"),
        (count, failed) => format!("{failed} of {count} channels failing: {}", failing.join(", ")),
    };
    Some(HealthCheck::new(name, failing.is_empty(), detail))
}
