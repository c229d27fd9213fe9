//! Decisions of small policy sets over [`TestSchemaSource`].

use super::*;
use crate::{
    policy_directory::PolicyFile,
    policy_loader,
    test_fixtures::{TestSchemaSource, test_caller, test_operation, test_tool_call},
};
use durward_core::AccessLevel;
use serde_json::{Value, json};
use std::{net::IpAddr, path::PathBuf};
use time::macros::datetime;

mod access_points;
mod cedar_equivalence;
mod implicit_targets;
mod loading;
mod unrepresentable_values;

fn test_policy_file(text: &str) -> PolicyFile {
    PolicyFile { path: PathBuf::from("p.cedar"), stem: "p".to_owned(), text: text.to_owned() }
}

fn compile_test_set(text: &str) -> PolicySet {
    PolicySet::from_files(&[test_policy_file(text)], &TestSchemaSource)
        .unwrap_or_else(|error| unreachable!("{error}"))
}

fn expect_load_error(text: &str) -> String {
    match PolicySet::from_files(&[test_policy_file(text)], &TestSchemaSource) {
        Ok(_) => unreachable!("should not load: {text}"),
        Err(error) => error.to_string(),
    }
}

fn test_context() -> RequestContext<'static> {
    RequestContext {
        connection: Some("demo"),
        source_ip: IpAddr::from([10, 0, 0, 7]),
        now: datetime!(2026-11-21 06:00 UTC),
        tags: None,
        risk: None,
    }
}

fn decide_for_groups(set: &PolicySet, groups: &[&str], operation: &Operation) -> Decision {
    set.decide_operation(&test_caller("bob", groups), operation, test_context())
}

const READ_POLICY: &str = "@id(\"reads\") permit (principal in Group::\"agents\", action in Aws::Action::\"Read\", \
                    resource in Aws::Account::\"123456789012\");";
const GET_OBJECT: (&str, &str) = ("s3:GetObject", "arn:aws:s3:::b/k");

#[test]
fn denies_by_default_with_a_reason() {
    let set = compile_test_set(READ_POLICY);
    let decision = decide_for_groups(
        &set,
        &["agents"],
        &test_operation(&[("s3:PutObject", "arn:aws:s3:::b/k")], json!({})),
    );
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason, "no policy permits s3:PutObject on arn:aws:s3:::b/k");
    assert_eq!(decision.policies, Vec::<String>::new());
    assert_eq!(
        decide_for_groups(&set, &["others"], &test_operation(&[GET_OBJECT], json!({}))).verdict,
        Verdict::Deny
    );
    assert_eq!(
        decide_for_groups(&set, &["agents"], &test_operation(&[], json!({}))).verdict,
        Verdict::Deny,
        "no required permission, no permit"
    );
}

#[test]
fn permits_by_group_level_and_account() {
    let set = compile_test_set(READ_POLICY);
    let decision = decide_for_groups(&set, &["agents"], &test_operation(&[GET_OBJECT], json!({})));
    assert_eq!((decision.verdict, decision.policies), (Verdict::Allow, vec!["reads".to_owned()]));
    assert_eq!(decision.policy_set, set.version());
    assert_eq!(decision.policy_set.len(), 16);
    let elsewhere = ("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:999999999999:table/T");
    assert_eq!(
        decide_for_groups(&set, &["agents"], &test_operation(&[elsewhere], json!({}))).verdict,
        Verdict::Deny
    );
    assert_eq!(
        decide_for_groups(&set, &["agents"], &test_operation(&[("dynamodb:GetItem", "*")], json!({})))
            .verdict,
        Verdict::Allow
    );
}

#[test]
fn a_final_forbid_wins_over_one_with_approval() {
    let set = compile_test_set(
        "permit (principal, action, resource);
         @id(\"needs-approval\") @approval(\"oncall\") forbid (principal, action == Aws::Action::\"s3:DeleteObject\", resource);
         @id(\"never\") @reason(\"backups stay\") forbid (principal, action == Aws::Action::\"s3:DeleteObject\",
             resource in Aws::Resource::\"arn:aws:s3:::backups\");",
    );
    let decision =
        decide_for_groups(&set, &[], &test_operation(&[("s3:DeleteObject", "arn:aws:s3:::b/k")], json!({})));
    assert_eq!(
        (decision.verdict, decision.policies),
        (Verdict::RequireApproval, vec!["needs-approval".to_owned()])
    );
    let decision = decide_for_groups(
        &set,
        &[],
        &test_operation(&[("s3:DeleteObject", "arn:aws:s3:::backups/k")], json!({})),
    );
    assert_eq!((decision.verdict, decision.policies), (Verdict::Deny, vec!["never".to_owned()]));
    assert_eq!(
        decision.reason,
        "s3:DeleteObject on arn:aws:s3:::backups/k is forbidden by policy `never`: backups stay"
    );
    assert_eq!(set.approval_rule("needs-approval").map(|approval| approval.group.as_str()), Some("oncall"));
    assert_eq!(set.approval_rule("never"), None);
}

#[test]
fn requires_approval_only_where_a_permit_holds() {
    let set = compile_test_set(
        "@approval(\"oncall\") forbid (principal, action in Aws::Action::\"s3:*\", resource);",
    );
    let decision = decide_for_groups(&set, &[], &test_operation(&[GET_OBJECT], json!({})));
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.policies, Vec::<String>::new());
}

#[test]
fn the_strictest_permission_decides_an_operation() {
    let set = compile_test_set(
        "@id(\"all\") permit (principal, action in Aws::Action::\"s3:*\", resource);
         @id(\"write\") @approval(\"oncall\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);",
    );
    let copy = [GET_OBJECT, ("s3:PutObject", "arn:aws:s3:::c/k")];
    let decision = decide_for_groups(&set, &[], &test_operation(&copy, json!({})));
    assert_eq!((decision.verdict, decision.policies), (Verdict::RequireApproval, vec!["write".to_owned()]));
    let denied = [copy[0], copy[1], ("dynamodb:GetItem", "*")];
    let decision = decide_for_groups(&set, &[], &test_operation(&denied, json!({})));
    assert_eq!(
        (decision.verdict, decision.reason.as_str()),
        (Verdict::Deny, "no policy permits dynamodb:GetItem on *")
    );
}

#[test]
fn an_action_that_would_be_in_itself_is_refused() {
    let set = compile_test_set("permit (principal, action, resource);");
    for action in ["s3:*", "Write"] {
        let decision = decide_for_groups(&set, &[], &test_operation(&[(action, "*")], json!({})));
        assert_eq!(decision.verdict, Verdict::Deny, "{action}");
        assert!(decision.reason.contains("could not be evaluated by policy"), "{}", decision.reason);
    }
}

#[test]
fn a_condition_that_is_not_a_truth_value_refuses() {
    let checked = policy_loader::load_unvalidated(
        &[test_policy_file("permit (principal, action, resource); @id(\"odd\") forbid (principal, action, resource) when { context.region };")],
        &TestSchemaSource,
    )
    .expect("our own checks do not type conditions");
    let set = PolicySet::compile("v".to_owned(), checked, &TestSchemaSource);
    let decision = decide_for_groups(&set, &[], &test_operation(&[GET_OBJECT], json!({})));
    assert_eq!((decision.verdict, decision.policies), (Verdict::Deny, vec!["odd".to_owned()]));
}

#[test]
fn an_evaluation_error_refuses_and_names_the_policy() {
    let set = compile_test_set(
        "permit (principal, action == Mcp::Action::\"tools/call\", resource);
         @id(\"base\") forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"github/merge\")
         unless { context.arguments.base != \"main\" };",
    );
    let merge = |arguments| decide_for_groups(&set, &[], &test_tool_call("github", "merge", arguments));
    assert_eq!(merge(json!({ "base": "dev" })).verdict, Verdict::Allow);
    assert_eq!(merge(json!({ "base": "main" })).policies, ["base"]);
    let decision = merge(json!({}));
    assert_eq!((decision.verdict, decision.policies), (Verdict::Deny, vec!["base".to_owned()]));
    assert!(decision.reason.contains("policy `base` could not be evaluated"), "{}", decision.reason);
    assert_eq!(
        merge(json!({ "base": 1.5 })).verdict,
        Verdict::Deny,
        "a value that Cedar cannot hold satisfies no condition"
    );
    assert_eq!(
        decide_for_groups(&set, &[], &test_tool_call("github", "close", json!({}))).verdict,
        Verdict::Allow
    );
}

#[test]
fn lists_a_tool_that_some_arguments_may_permit() {
    let set = compile_test_set(
        "permit (principal, action == Mcp::Action::\"tools/call\", resource in Mcp::Server::\"files\")
         when { context.arguments.path like \"/srv/*\" };
         forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/delete\");
         @id(\"risky\") forbid (principal, action == Mcp::Action::\"tools/call\", resource) when { context.risk > 50 };",
    );
    let may = |tool| {
        set.may_be_allowed(
            &test_caller("bob", &[]),
            &test_tool_call("files", tool, json!({})),
            test_context(),
        )
    };
    assert!(may("read"), "a policy that reads the risk, which a list does not have, hides every tool");
    assert!(!may("delete"));
    assert!(!set.may_be_allowed(
        &test_caller("bob", &[]),
        &test_tool_call("other", "read", json!({})),
        test_context()
    ));
    let decide = |risk| {
        let call = test_tool_call("files", "read", json!({ "path": "/srv/x" }));
        set.decide_operation(&test_caller("bob", &[]), &call, RequestContext { risk, ..test_context() })
    };
    assert_eq!(decide(Some(50)).verdict, Verdict::Allow);
    assert_eq!(decide(Some(51)).policies, ["risky"]);
    assert_eq!(decide(None).policies, ["risky"], "a call is not decided without the risk");
}

#[test]
fn request_context_reaches_the_conditions() {
    let set = compile_test_set(
        "permit (principal, action == Aws::Action::\"s3:DeleteObject\", resource in Connection::\"demo\")
         when { context.source_ip.isInRange(ip(\"10.0.0.0/8\")) && context.now < datetime(\"2027-01-01\")
             && context.region == \"eu-central-1\" && context.account == \"123456789012\" && context.connection == \"demo\"
             && context.access_level == \"Write\" && context.operation == \"DeleteObject\" && context.irreversible
             && !context.escalates && !context.indirect && !context.returns_credentials
             && principal.kind == \"workload\" && principal.acting_for.contains(\"alice\") && principal.subject == \"bob\"
             && resource has bucket && resource.bucket == \"b\" && resource.name == \"k\" && resource.type == \"object\"
             && context.params has Owner.ID && context.params.Owner.ID == \"o\"
             && context.params has Tags && context.params.Tags.contains(\"t\")
         };",
    );
    let params = json!({ "Owner": { "ID": "o" }, "Tags": ["s", "t"], "Other": 1 });
    let delete = |params| {
        decide_for_groups(&set, &[], &test_operation(&[("s3:DeleteObject", "arn:aws:s3:::b/k")], params))
            .verdict
    };
    assert_eq!(delete(params), Verdict::Allow);
    assert_eq!(delete(json!({ "Owner": { "ID": "p" }, "Tags": ["t"] })), Verdict::Deny);
}

#[test]
fn connecting_and_revealing_are_decided_too() {
    let set = compile_test_set(
        "permit (principal in Group::\"agents\", action == Action::\"connect\", resource == Connection::\"demo\");
         permit (principal in Group::\"sre\", action == Action::\"reveal\", resource == DataClass::\"email\");",
    );
    let bob = test_caller("bob", &["agents"]);
    let verdict =
        |query| set.decide(&AuthorizationRequest { caller: &bob, query, context: test_context() }).verdict;
    assert_eq!(verdict(PolicyQuery::Connect { connection: "demo" }), Verdict::Allow);
    assert_eq!(verdict(PolicyQuery::Connect { connection: "prod" }), Verdict::Deny);
    assert_eq!(verdict(PolicyQuery::Reveal { data_class: "email" }), Verdict::Deny);
}

#[test]
fn explains_how_each_policy_came_out() {
    let set = compile_test_set(&format!(
        "{READ_POLICY}\n@id(\"hours\") permit (principal, action == Aws::Action::\"s3:GetObject\", resource)\n  \
         when {{ context.now < datetime(\"2020-01-01\") }};"
    ));
    let read = test_operation(&[GET_OBJECT], json!({}));
    let explanation = set.explain_operation(&test_caller("bob", &["agents"]), &read, test_context());
    assert_eq!(
        explanation.to_string(),
        "allow: s3:GetObject on arn:aws:s3:::b/k by corp/bob\n  \
         permit reads  holds  (p.cedar:1)\n  \
         permit hours  does not hold  (p.cedar:2)\n  \
         2 of 2 policies can apply\n"
    );
}

#[test]
fn an_unknown_operation_is_permitted_only_by_name_and_forbidden_by_any_group() {
    let unknown = test_operation(&[("dynamodb:*unknown*", "*")], json!({}));
    let verdict = |text: &str| decide_for_groups(&compile_test_set(text), &[], &unknown).verdict;
    for wide in [
        "permit (principal, action, resource);",
        "permit (principal, action in Aws::Action::\"dynamodb:*\", resource);",
        "permit (principal, action in Aws::Action::\"Write\", resource);",
    ] {
        assert_eq!(verdict(wide), Verdict::Deny, "{wide}");
    }
    let named = "permit (principal, action == Aws::Action::\"dynamodb:*unknown*\", resource);";
    assert_eq!(verdict(named), Verdict::Allow);
    let forbidden =
        format!("{named} @id(\"no\") forbid (principal, action in Aws::Action::\"dynamodb:*\", resource);");
    assert_eq!(verdict(&forbidden), Verdict::Deny);
}

#[test]
fn unmodeled_parameters_satisfy_no_condition() {
    let verdict = |text: &str, unmodeled: &[&str], parameters: Value| {
        let mut put = test_operation(&[("s3:PutObject", "arn:aws:s3:::b/k")], parameters);
        put.uninspected_parts = unmodeled.iter().map(|&pointer| pointer.to_owned()).collect();
        decide_for_groups(
            &compile_test_set(&format!(
                "permit (principal, action, resource); @id(\"f\") forbid (principal, \
             action == Aws::Action::\"s3:PutObject\", resource) {text};"
            )),
            &[],
            &put,
        )
        .verdict
    };
    let owner_is_me = "unless { context.request_tags.contains(\"owner=me\") }";
    let env_is_bad = "when { context has request_tags && context.request_tags.contains(\"env=bad\") }";
    let key_is_s = "unless { context.params has Key && context.params.Key == \"s\" }";
    let tags = json!({"Tags": {"owner": "me"}});
    assert_eq!(verdict(owner_is_me, &[], tags.clone()), Verdict::Allow);
    assert_eq!(verdict(owner_is_me, &["/Other"], tags), Verdict::Allow);
    assert_eq!(verdict(owner_is_me, &["/xTags"], json!({"xTags": {"owner": "me"}})), Verdict::Deny);
    assert_eq!(
        verdict(env_is_bad, &["/xTags"], json!({"xTags": {"owner": "me"}, "Tags": {"env": "bad"}})),
        Verdict::Deny
    );
    assert_eq!(verdict(key_is_s, &[], json!({"Key": "s"})), Verdict::Allow);
    assert_eq!(verdict(key_is_s, &["/Key"], json!({"Key": "s"})), Verdict::Deny);
    assert_eq!(verdict(key_is_s, &["/Other"], json!({"Key": "s", "Other": 1})), Verdict::Allow);
}

#[test]
fn an_unknown_operation_does_not_lend_its_context_to_a_known_one() {
    let checked = policy_loader::load_unvalidated(
        &[test_policy_file(
            "permit (principal, action, resource);
             permit (principal, action == Aws::Action::\"iam:*unknown*\", resource);
             forbid (principal, action, resource) unless { context.params.Owner == \"me\" };",
        )],
        &TestSchemaSource,
    )
    .expect("our own checks do not type conditions");
    let set = PolicySet::compile("v".to_owned(), checked, &TestSchemaSource);
    let (unknown, known) = (("iam:*unknown*", "*"), ("iam:PutRolePolicy", "*"));
    let verdict = |permissions: &[(&str, &str)]| {
        let mut operation = test_operation(permissions, json!({ "Owner": "me" }));
        operation.uninspected_parts = vec!["/Owner".to_owned()];
        for permission in &mut operation.required_permissions {
            permission.access_level = AccessLevel::PermissionsManagement;
        }
        decide_for_groups(&set, &[], &operation).verdict
    };
    assert_eq!(verdict(&[unknown]), Verdict::Allow, "a permit by name means every parameter");
    assert_eq!(verdict(&[known]), Verdict::Deny);
    assert_eq!(verdict(&[unknown, known]), Verdict::Deny);
}

const TAG_AND_RISK_POLICIES: &str = "permit (principal, action, resource);
    @id(\"critical\") forbid (principal, action == Aws::Action::\"s3:DeleteObject\", resource)
    when { resource.hasTag(\"critical\") };
    @id(\"risky\") forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) when { context.risk > 50 };";

#[test]
fn reports_attribute_reads_and_denies_without_them() {
    let set = compile_test_set(TAG_AND_RISK_POLICIES);
    let arn = "arn:aws:s3:::b/k";
    let (delete, get, list) = (
        test_operation(&[("s3:DeleteObject", arn)], json!({})),
        test_operation(&[("s3:GetObject", arn)], json!({})),
        test_operation(&[("s3:ListBucket", "arn:aws:s3:::b")], json!({})),
    );
    let bob = test_caller("bob", &[]);
    assert_eq!(
        set.attribute_reads(&bob, &delete, test_context()),
        AttributeReads { tag_lookup_arns: vec![arn], ..AttributeReads::default() }
    );
    assert_eq!(
        set.attribute_reads(&bob, &get, test_context()),
        AttributeReads { reads_risk: true, ..AttributeReads::default() }
    );
    assert_eq!(set.attribute_reads(&bob, &list, test_context()), AttributeReads::default());
    let nameless = test_operation(&[("s3:DeleteObject", "*")], json!({}));
    let unnamed = vec!["s3:DeleteObject"];
    assert_eq!(
        set.attribute_reads(&bob, &nameless, test_context()),
        AttributeReads { unnamed_resource_actions: unnamed, ..AttributeReads::default() }
    );
    assert_eq!(decide_for_groups(&set, &[], &list).verdict, Verdict::Allow);
    for operation in [&delete, &get] {
        assert_eq!(
            decide_for_groups(&set, &[], operation).verdict,
            Verdict::Deny,
            "decided without what a policy reads"
        );
    }
    let tagged = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let tags = ResourceTags::from([(arn.to_owned(), tags)]);
        set.decide_operation(&bob, &delete, RequestContext { tags: Some(&tags), ..test_context() })
    };
    assert_eq!(tagged(&[]).verdict, Verdict::Allow);
    let denied = tagged(&[("critical", "x")]);
    assert_eq!((denied.verdict, denied.policies), (Verdict::Deny, vec!["critical".to_owned()]));
    assert_eq!(denied.tags[arn]["critical"], "x", "the decision has the tags that it depends on");
    for (risk, verdict) in [(50, Verdict::Allow), (51, Verdict::Deny)] {
        let context = RequestContext { risk: Some(risk), ..test_context() };
        assert_eq!(set.decide_operation(&bob, &get, context).verdict, verdict);
    }
}
