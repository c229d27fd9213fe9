//! Attack class E against the whole gateway, in process, with the strict stand-in as AWS: an approval is for what was approved, by
//! who may, once, soon, under the policies of the moment; and nobody answers by accident or in somebody's name.
//!
//! Where each attack is tried ("ledger": crates/approval/tests/approvals; "console": crates/console/src/tests; "python":
//! tests/suites/python/test_approvals.py; else here):
//!
//! | attack | test |
//! |---|---|
//! | approve A, run B: resource, parameter, body, header, region, account, method, caller, `act`, connection | `binding::an_approval_of_one_request_lets_no_other_pass`, `binding::what_is_in_a_json_body_is_bound_too`, `binding::another_caller_connection_or_principal_gets_nothing`; ledger `binding::an_approval_is_for_what_was_approved_and_nothing_else` |
//! | the same for a tool call | `binding::an_approved_tool_call_is_for_its_arguments` |
//! | a window used for more than was seen | ledger `binding::a_window_is_for_these_actions_on_these_resources_until_then` |
//! | a window for what the request does not name, used for something else | ledger `binding::where_not_all_is_named_a_window_is_for_the_same_parameters` |
//! | a resource hidden behind a parameter that no model knows, behind another's id, or behind another of its names | `durward_aws`: `decode::tests::unknown_parameters_name_no_resource`, `decode::tests::ec2::*`, `decode::tests::hidden_resources::*`; python `test_tag_names.py` |
//! | replay of a used approval, of the very same bytes | `binding::a_used_approval_is_not_good_again`; ledger `binding::an_approval_is_used_once` |
//! | many racing for one approval | `races::of_many_that_wait_for_one_approval_one_is_executed`; ledger `binding::of_many_that_race_for_an_approval_one_gets_it`, `processes::processes_that_race_use_each_approval_once` |
//! | approvers racing, a denial racing an approval | ledger `people::approvers_that_race_are_all_heard_and_none_twice`, `people::a_denial_that_races_an_approval_wins_unless_it_was_used` |
//! | answers racing the time-out | ledger `races::an_answer_that_races_the_time_out_is_whole_or_nothing` |
//! | expired approval | ledger `binding::an_approval_expires` |
//! | clock set back and forward | ledger `durable::a_clock_set_back_*`, `durable::a_clock_that_was_ahead_is_believed_again_once_nothing_is_open`, `races::a_clock_that_leaps_ends_what_was_open` |
//! | time-out that approves | `moments::nobody_in_time_is_no_approval`; ledger `waiting::nobody_in_time_and_reject_is_a_refusal_for_good` |
//! | policy changed between approval and use | `moments::an_approval_is_judged_by_the_policies_of_its_use`; ledger `binding::what_policies_require_is_judged_when_the_approval_is_used` |
//! | policy, connection or credential ended while the request was held | `moments::what_changes_while_a_request_is_held_counts`, `moments::a_credential_that_ends_while_people_are_asked_is_no_longer_good`, `moments::a_token_that_ends_while_people_are_asked_is_no_longer_good` |
//! | an unused approval left lying about | `moments::what_changes_while_a_request_is_held_counts`; ledger `endings::*` |
//! | by the requester, by whom the agent acts for, by a stranger, by a workload | `people::nobody_answers_for_themselves_or_from_outside`; ledger `people::nobody_approves_their_own_request_in_any_guise`; console `answers::nobody_answers_their_own_request_nor_one_of_an_agent_acting_for_them`, `api::a_workloads_token_answers_nothing` |
//! | by somebody removed from the group since | `people::who_left_the_group_since_does_not_count`; ledger `people::whoever_left_the_group_before_the_use_does_not_count`, `people::a_session_from_before_somebody_left_the_group_does_not_bring_them_back` |
//! | forged link, link previewed or scanned | `people::no_look_at_any_address_decides`; console `links::*`, `answers::no_get_decides`, `answers::an_ask_that_does_not_exist_is_not_found` |
//! | CSRF | console `answers::a_form_that_is_not_ours_decides_nothing`, `links::the_api_takes_no_cookie_and_no_form`, `answers::a_foreign_name_for_the_console_gets_nothing` |
//! | stored XSS, escape sequences, text turned around | `shown::what_an_agent_writes_comes_out_inert`; console `inert::*`; `approval_commands::tests` |
//! | what cannot be inspected hidden from the approver | `shown::what_was_not_inspected_is_said_to_the_approver`; console `pages::an_ask_shows_what_was_decoded_and_marks_what_was_not` |
//! | ask flood, repeats | `races::a_flood_of_asks_is_refused_and_repeats_join`; ledger `waiting::a_caller_and_all_callers_have_a_cap`, `waiting::a_flood_of_different_asks_cannot_pass_the_cap_by_racing`, `waiting::repeats_join_the_ask_and_count` |
//! | a caller that leaves while its request is held, behind a body that was not read | `leaving::a_caller_that_leaves_frees_its_place_and_leaves_the_ask` |
//! | store full, damaged or tampered with | ledger `durable::*`, `endings::one_damaged_ask_stops_no_other`, `endings::a_damaged_approval_or_window_lets_nothing_pass_and_hides_no_other` |
//! | killed between any two steps | ledger `processes::what_a_killed_process_reported_is_there`, `durable::every_step_survives_a_kill_exactly`; `approvals::tests` (the record); python `test_an_approval_survives_kill_9_and_works_once` |
//! | any order of all of these | ledger `model::nothing_passes_but_by_a_living_approval_of_enough_others` |

mod approver_display;
mod approver_eligibility;
mod binding;
mod client_disconnect;
mod races;
mod revalidation;
mod test_gateway;
