//! Attack class E of the threat model: an approval is only for the request that was approved, by people who may approve it,
//! once, for a short time, and under the policies at the moment of use; and no vote is cast by accident or in another person's
//! name.
//!
//! Each attack, with the tests that try it. "Ledger" is `crates/approval/tests/approvals`, "console" is
//! `crates/console/src/tests`, "python" is `tests/suites/python`; tests without such a word are below this module.
//!
//! - approve A, run B: resource, parameter, body, header, region, account, method, caller, `act`, connection:
//!   `binding::an_approval_of_one_request_lets_no_other_pass`, `binding::the_json_body_is_bound_too`,
//!   `binding::another_caller_connection_or_principal_gets_nothing`,
//!   ledger `grant_binding::a_grant_is_for_the_approved_operation_only`
//! - the same for a tool call: `binding::an_approved_tool_call_is_for_its_arguments`
//! - a time-bound grant used for more than the approver saw:
//!   ledger `grant_binding::a_time_bound_grant_covers_its_actions_and_resources_until_it_ends`
//! - a time-bound grant for a request that does not name all its resources, used for something else:
//!   ledger `grant_binding::without_named_resources_a_time_bound_grant_requires_the_same_parameters`
//! - a resource hidden behind a parameter that no model knows, behind another resource's id, or behind another of its
//!   own names: `durward_aws` `decode::tests::unknown_parameters_name_no_resource`,
//!   `durward_aws` `decode::tests::ec2::*`, `durward_aws` `decode::tests::hidden_resources::*`,
//!   python `test_tag_names.py`
//! - replay of a consumed grant with the very same bytes: `binding::a_consumed_grant_cannot_be_reused`,
//!   ledger `grant_binding::a_grant_is_consumed_once`
//! - a journal that fails, so that an approval is used up and nothing is executed:
//!   `binding::a_journal_that_fails_burns_no_grant`, ledger `grant_binding::a_grant_that_ended_after_it_was_found_is_not_consumed`
//! - many requests racing for one approval: `races::of_many_that_wait_for_one_approval_one_is_executed`,
//!   ledger `grant_binding::of_many_racing_consumers_one_gets_the_grant`,
//!   ledger `processes::racing_processes_consume_each_grant_once`
//! - approvers racing, a denial racing an approval: ledger `voting::racing_votes_all_count_and_none_twice`,
//!   ledger `voting::a_denial_that_races_an_approval_wins_unless_it_was_consumed`
//! - a vote racing the timeout: ledger `races::a_vote_that_races_the_timeout_is_all_or_nothing`
//! - an expired approval: ledger `grant_binding::an_approval_expires`
//! - a clock set back or forward: ledger `durability::a_clock_set_back_*`,
//!   ledger `durability::a_clock_that_was_ahead_is_believed_again_once_nothing_is_open`,
//!   ledger `races::a_clock_jump_ends_open_requests`
//! - a timeout that approves: `revalidation::a_timeout_is_not_an_approval`,
//!   ledger `pending_requests::a_timeout_with_reject_is_final`
//! - a policy changed between approval and use: `revalidation::a_grant_is_evaluated_by_the_policies_at_its_use`,
//!   ledger `grant_binding::requirements_are_evaluated_when_the_grant_is_consumed`
//! - a policy, connection or credential that ended while the request was held:
//!   `revalidation::changes_while_a_request_is_held_take_effect`,
//!   `revalidation::a_credential_that_expires_while_waiting_for_approval_is_refused`,
//!   `revalidation::a_token_that_expires_while_waiting_for_approval_is_refused`
//! - an unused approval that is left open: `revalidation::changes_while_a_request_is_held_take_effect`,
//!   ledger `expiry::*`
//! - a vote by the requester, by the person the agent acts for, by a stranger, or by a workload:
//!   `approver_eligibility::only_eligible_approvers_may_vote`,
//!   ledger `voting::an_approver_cannot_approve_their_own_request_under_any_identity`,
//!   console `voting::a_person_cannot_approve_their_own_request_or_that_of_their_agent`,
//!   console `api::a_workloads_token_cannot_vote`
//! - a vote by a person who has since been removed from the group:
//!   `approver_eligibility::a_vote_stops_counting_when_the_approver_leaves_the_group`,
//!   ledger `voting::a_vote_does_not_count_after_its_approver_left_the_group`,
//!   ledger `voting::an_older_session_does_not_restore_a_lost_membership`
//! - a link that is forged, previewed or scanned:
//!   `approver_eligibility::no_request_but_the_vote_endpoint_casts_a_vote`, console `cross_site_requests::*`,
//!   console `voting::no_get_request_decides`, console `voting::an_approval_request_that_does_not_exist_is_not_found`
//! - CSRF: console `voting::a_form_of_another_page_or_login_decides_nothing`,
//!   console `cross_site_requests::the_api_takes_no_cookie_and_no_form`,
//!   console `response_headers::a_foreign_host_name_gets_no_page`
//! - stored XSS, escape sequences, bidirectional text: `approver_display::agent_text_is_displayed_escaped`,
//!   console `output_escaping::*`, `approval_commands::tests`
//! - parts that cannot be inspected, hidden from the approver:
//!   `approver_display::uninspected_parts_are_shown_to_the_approver`,
//!   console `pages::an_approval_request_shows_decoded_parts_and_marks_uninspected_ones`
//! - a flood of approval requests, repeats: `races::excess_approval_requests_are_refused_and_repeats_coalesce`,
//!   ledger `pending_requests::a_caller_its_provider_and_all_callers_have_a_cap`,
//!   ledger `pending_requests::racing_requests_cannot_exceed_the_limit`,
//!   ledger `pending_requests::repeats_join_the_request_and_count`
//! - a caller that disconnects while its request is held, with a body that was not read:
//!   `client_disconnect::a_disconnect_releases_the_permit_and_keeps_the_approval_request`
//! - a store that is full, corrupt or tampered with: ledger `durability::*`,
//!   ledger `expiry::one_corrupt_request_stops_no_other`,
//!   ledger `expiry::a_corrupt_grant_lets_nothing_pass_and_hides_no_other`
//! - a kill between any two steps: ledger `processes::what_a_killed_process_reported_is_there`,
//!   ledger `durability::every_state_survives_a_kill_exactly`, `approval_journal::tests`,
//!   python `test_approvals.py::test_an_approval_survives_kill_9_and_works_once`
//! - any order of all of these: ledger `model_check::only_an_unexpired_grant_with_its_quorum_passes`

mod approver_display;
mod approver_eligibility;
mod binding;
mod client_disconnect;
mod races;
mod revalidation;

use durward_integration::{SdkRequest, TestGateway};
use std::time::Duration;

/// Everything is permitted, and every change needs an approval.
pub const APPROVAL_POLICIES: &str = r#"
@id("connect") permit (principal, action == Action::"connect", resource);
@id("work") permit (principal, action, resource);
@id("needs-approval") @approval("oncall") @timeout("10m") @on_timeout("queue")
forbid (principal, action in [Aws::Action::"Write", Aws::Action::"Tagging", Aws::Action::"Permissions management"], resource);
"#;

/// Requests that need an approval are refused at once; they pass when they are sent again after it.
async fn start_gateway() -> TestGateway {
    start_with_hold(Duration::from_millis(1)).await
}

async fn start_with_hold(hold: Duration) -> TestGateway {
    let gateway = TestGateway::builder().aws().console().policies(APPROVAL_POLICIES).hold(hold).start().await;
    gateway.fake_aws.put_object("data", "kept", "kept");
    gateway
}

/// Writes an object.
fn put_object(key: &str) -> SdkRequest {
    SdkRequest::put_object("data", key, "one")
}
