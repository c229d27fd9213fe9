use super::*;
use crate::test_fixtures::{TestSchemaSource, test_caller, test_operation, test_tool_call};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use time::macros::datetime;

mod cedar_equivalence;

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
    assert_eq!((decision.verdict, decision.policies), (Verdict::RequireApproval, vec!["needs-approval".to_owned()]));
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
        "a value Cedar cannot hold is not \"not main\""
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
         forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/delete\");",
    );
    let may = |tool| {
        set.may_be_allowed(
            &test_caller("bob", &[]),
            &test_tool_call("files", tool, json!({})),
            test_context(),
        )
    };
    assert!(may("read"));
    assert!(!may("delete"));
    assert!(!set.may_be_allowed(
        &test_caller("bob", &[]),
        &test_tool_call("other", "read", json!({})),
        test_context()
    ));
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
    let ask =
        |ask| set.decide(&AuthorizationRequest { caller: &bob, query: ask, context: test_context() }).verdict;
    assert_eq!(ask(PolicyQuery::Connect { connection: "demo" }), Verdict::Allow);
    assert_eq!(ask(PolicyQuery::Connect { connection: "prod" }), Verdict::Deny);
    assert_eq!(ask(PolicyQuery::Reveal { data_class: "email" }), Verdict::Deny);
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
fn policies_are_named_by_file_where_they_do_not_name_themselves() {
    let set = compile_test_set(
        "permit (principal, action == Action::\"connect\", resource);\n@id(\"x\")\npermit (principal, action == Action::\"connect\", resource);",
    );
    let decision = set.decide(&AuthorizationRequest {
        caller: &test_caller("bob", &[]),
        query: PolicyQuery::Connect { connection: "demo" },
        context: test_context(),
    });
    assert_eq!(decision.policies, ["p.1", "x"]);
}

#[test]
fn refuses_meaningless_policies_and_reports_the_position() {
    for (text, told) in [
        (
            "permit (principal, action == Aws::Action::\"s3:GetObjekt\", resource);",
            "did you mean \"s3:GetObject\"?",
        ),
        ("permit (principal, action == Aws::Action::\"s3:Get*\", resource);", "wildcards inside a name"),
        (
            "permit (principal, action in Aws::Action::\"nope:*\", resource);",
            "there is no Aws::Action::\"nope:*\"",
        ),
        ("permit (principal, action == Mcp::Action::\"tools/cal\", resource);", "the methods are"),
        ("permit (principal, action == Action::\"s3:GetObject\", resource);", "AWS actions are Aws::Action"),
        ("permit (principal, action, resource == Aws::Resource::\"arn:aws:s3:::b/*\");", "takes literally"),
        ("permit (principal, action, resource == Aws::Resource::\"b\");", "is not an ARN"),
        ("permit (principal, action, resource in Aws::Account::\"prod\");", "write its twelve digits"),
        ("permit (principal, action, resource == Mcp::Tool::\"read\");", "<server>/<tool>"),
        ("@owner(\"x\") permit (principal, action, resource);", "the annotation @owner is not known"),
        ("@quorum(\"2\") forbid (principal, action, resource);", "@quorum without @approval"),
        ("@approval(\"x\") permit (principal, action, resource);", "@approval on a permit"),
        (
            "@approval(\"x\") forbid (principal, action == Action::\"connect\", resource);",
            "approval applies to operations only",
        ),
        (
            "@approval(\"x\") forbid (principal, action in [Action::\"connect\", Action::\"reveal\"], resource);",
            "approval applies to operations only",
        ),
        (
            "@approval(\"x\") forbid (principal, action, resource == DataClass::\"email\");",
            "approval applies to operations only",
        ),
        (
            "@approval(\"x\") forbid (principal, action, resource == Connection::\"prod\");",
            "approval applies to operations only",
        ),
        (
            "@id(\"a\") permit (principal, action, resource); @id(\"a\") permit (principal, action, resource);",
            "another policy has this id",
        ),
        ("@id(\" \") permit (principal, action, resource);", "@id is empty"),
        ("permit (principal == ?principal, action, resource);", "is a template"),
        ("permit (principal, action, resource", "p.cedar:1:"),
        (
            "forbid (principal, action, resource is Aws::Resource) when { principal.hasTag(\"x\") };",
            "reads attributes or groups of something else",
        ),
        (
            "forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) when { context.params.Bucket == \"b\" };",
            "has",
        ),
        (
            "forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) when { context.params.Bukket == \"b\" };",
            "check the name",
        ),
        (
            "forbid (principal, action in Aws::Action::\"Read\", resource) when { context.params has Bucket && context.params.Bucket == \"b\" };",
            "not an access level",
        ),
        (
            "permit (principal in Group::\"a\", action == Action::\"connect\", resource == DataClass::\"x\");",
            "goes with",
        ),
        (
            "forbid (principal, action == Mcp::Action::\"tools/call\", resource) when { context.arguments.a == 1 || context.arguments.a == \"x\" };",
            "used as a number and as a string",
        ),
        (
            "permit (principal, action, resource) when { Caller::\"a/b\".kind == \"human\" };",
            "something else than principal",
        ),
        ("permit (principal in Grupe::\"a\", action, resource);", "Grupe"),
    ] {
        let error = expect_load_error(text);
        assert!(error.contains(told), "{text}\n{error}");
        assert!(error.starts_with("p.cedar:1:"), "{text}\n{error}");
    }
}

#[test]
fn accepts_common_policies() {
    for text in [
        "forbid (principal, action, resource) when { context.source_ip.isLoopback() };",
        "forbid (principal, action, resource is Aws::Resource) unless { context.region == \"eu-central-1\" };",
        "forbid (principal, action in [Aws::Action::\"Write\", Aws::Action::\"Permissions management\"], resource in Connection::\"demo\");",
        "forbid (principal, action in Aws::Action::\"s3:*\", resource) when { context.params has Bucket && context.params.Bucket like \"prod-*\" };",
        "forbid (principal, action, resource is Aws::Resource) when { action in Aws::Action::\"s3:*\" && context.irreversible };",
        "forbid (principal, action == Aws::Action::\"dynamodb:*unknown*\", resource);",
        "forbid (principal, action == Mcp::Action::\"tools/call\", resource) when { context.arguments has q && context.arguments.q == 1 };",
        "forbid (principal, action, resource is Mcp::Tool) when { context.server == \"files\" };",
        "permit (principal == Caller::\"corp/bob\", action == Action::\"reveal\", resource);",
        "permit (principal is Caller in Group::\"a\", action in [Mcp::Action::\"tools/list\", Mcp::Action::\"ping\"], resource == Mcp::Server::\"files\");",
        "permit (principal, action == Aws::Action::\"s3:GetObject\", resource) when { resource has bucket && [\"a\", \"b\"].contains(resource.bucket) };",
    ] {
        assert_eq!(compile_test_set(text).len(), 1, "{text}");
    }
}

#[test]
fn the_directory_itself_must_be_trustworthy() {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let load = || {
        PolicySet::load(dir.path(), &TestSchemaSource).map(|set| set.len()).map_err(|error| error.to_string())
    };
    assert!(load().is_err_and(|error| error.contains("holds no *.cedar file")));
    let file = dir.path().join("a.cedar");
    fs::write(&file, READ_POLICY).expect("written");
    assert_eq!(load(), Ok(1));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
    assert!(load().is_err_and(|error| error.contains("writable by everybody")));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    let outside = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(outside.path(), READ_POLICY.replace("reads", "more")).expect("written");
    symlink(outside.path(), dir.path().join("b.cedar")).expect("linked");
    assert!(load().is_err_and(|error| error.contains("links out of the policy directory")));
    fs::remove_file(dir.path().join("b.cedar")).expect("removed");
    fs::create_dir(dir.path().join("..data")).expect("made");
    fs::write(dir.path().join("..data/c.cedar"), READ_POLICY.replace("reads", "linked")).expect("written");
    symlink("..data/c.cedar", dir.path().join("c.cedar")).expect("linked");
    assert_eq!(load(), Ok(2), "a link inside the directory is how a ConfigMap is mounted");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("set");
    assert!(load().is_err_and(|error| error.contains("writable by everybody")));
    assert!(PolicySet::load(&dir.path().join("none"), &TestSchemaSource).is_err());
}

#[test]
fn unknown_operations_are_permitted_by_name_only_and_forbidden_by_any_group() {
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
    let verdict = |text: &str, unknown: &[&str], parameters: serde_json::Value| {
        let mut create = test_operation(&[("s3:PutObject", "arn:aws:s3:::b/k")], parameters);
        create.uninspected_parts = unknown.iter().map(|&pointer| pointer.to_owned()).collect();
        decide_for_groups(
            &compile_test_set(&format!(
                "permit (principal, action, resource); @id(\"f\") forbid (principal, \
             action == Aws::Action::\"s3:PutObject\", resource) {text};"
            )),
            &[],
            &create,
        )
        .verdict
    };
    let mine = "unless { context.request_tags.contains(\"owner=me\") }";
    let bad = "when { context has request_tags && context.request_tags.contains(\"env=bad\") }";
    let named = "unless { context.params has Key && context.params.Key == \"s\" }";
    let tags = json!({"Tags": {"owner": "me"}});
    assert_eq!(verdict(mine, &[], tags.clone()), Verdict::Allow);
    assert_eq!(verdict(mine, &["/Other"], tags), Verdict::Allow);
    assert_eq!(verdict(mine, &["/xTags"], json!({"xTags": {"owner": "me"}})), Verdict::Deny);
    assert_eq!(
        verdict(bad, &["/xTags"], json!({"xTags": {"owner": "me"}, "Tags": {"env": "bad"}})),
        Verdict::Deny
    );
    assert_eq!(verdict(named, &[], json!({"Key": "s"})), Verdict::Allow);
    assert_eq!(verdict(named, &["/Key"], json!({"Key": "s"})), Verdict::Deny);
    assert_eq!(verdict(named, &["/Other"], json!({"Key": "s", "Other": 1})), Verdict::Allow);
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
    for unanswered in [&delete, &get] {
        assert_eq!(
            decide_for_groups(&set, &[], unanswered).verdict,
            Verdict::Deny,
            "decided without what it reads"
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
    assert_eq!(denied.tags[arn]["critical"], "x", "the decision says on what it was made");
    for (risk, verdict) in [(50, Verdict::Allow), (51, Verdict::Deny)] {
        let facts = RequestContext { risk: Some(risk), ..test_context() };
        assert_eq!(set.decide_operation(&bob, &get, facts).verdict, verdict);
    }
}

#[test]
fn a_forbid_holds_for_implicit_targets() {
    let set = compile_test_set(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"secret\") forbid (principal, action,
             resource == Aws::Resource::\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf\");
         @id(\"key\") @approval(\"oncall\") forbid (principal, action == Aws::Action::\"kms:Decrypt\", resource)
             when { resource in [Aws::Resource::\"arn:aws:kms:eu-central-1:123456789012:key/1\"] };
         @id(\"bucket\") forbid (principal, action, resource in Aws::Resource::\"arn:aws:s3:::b\");
         @id(\"table\") forbid (principal, action,
             resource == Aws::Resource::\"arn:aws:dynamodb:eu-central-1:123456789012:table/T\");",
    );
    let verdict = |action: &str, resource: &str| {
        let decision = decide_for_groups(&set, &[], &test_operation(&[(action, resource)], json!({})));
        (decision.verdict, decision.policies.join(" "))
    };
    let denied = |policy: &str| (Verdict::Deny, policy.to_owned());
    let allowed = (Verdict::Allow, "all".to_owned());
    let secret = |name: &str| format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}");
    assert_eq!(verdict("secretsmanager:GetSecretValue", &secret("db-AbCdEf")), denied("secret"));
    assert_eq!(verdict("secretsmanager:GetSecretValue", &secret("db-??????")), denied("secret"));
    assert_eq!(verdict("secretsmanager:GetSecretValue", "*"), denied("secret"));
    assert_eq!(verdict("secretsmanager:GetSecretValue", &secret("db2-??????")), allowed);
    let key = |region: &str, name: &str| format!("arn:aws:kms:{region}:123456789012:{name}");
    let asked = (Verdict::RequireApproval, "key".to_owned());
    assert_eq!(verdict("kms:Decrypt", &key("eu-central-1", "key/1")), asked);
    assert_eq!(verdict("kms:Decrypt", &key("eu-central-1", "alias/a")), asked, "an alias of which key?");
    assert_eq!(verdict("kms:Decrypt", "*"), asked, "the ciphertext names the key");
    assert_eq!(verdict("kms:Decrypt", &key("eu-central-1", "key/2")), allowed);
    assert_eq!(verdict("kms:Decrypt", &key("eu-west-1", "alias/a")), allowed, "a key of another region");
    assert_eq!(verdict("s3:GetObject", "arn:aws:s3:::b/x*"), denied("bucket"));
    assert_eq!(verdict("s3:GetObject", "*"), denied("bucket"), "what a bucket holds is in it");
    assert_eq!(verdict("s3:GetObject", "arn:aws:s3:::c/*"), allowed);
    assert_eq!(verdict("dynamodb:GetItem", "*"), denied("table"));
    assert_eq!(verdict("dynamodb:*unknown*", "*"), denied("table"));
    assert_eq!(verdict("dynamodb:ListTables", "*"), allowed, "an action without a resource");
}

#[test]
fn implicit_targets_count_only_for_forbids_that_name_them() {
    let set = compile_test_set(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"key\") forbid (principal, action == Aws::Action::\"s3:PutObject\",
             resource == Aws::Resource::\"arn:aws:kms:eu-central-1:999999999999:key/1\");
         @id(\"aliases\") forbid (principal, action == Aws::Action::\"kms:Decrypt\", resource)
             unless { resource.arn like \"*:alias/agents-*\" };",
    );
    let decrypt = |resource: &str| {
        decide_for_groups(&set, &[], &test_operation(&[("kms:Decrypt", resource)], json!({}))).verdict
    };
    assert_eq!(decrypt("arn:aws:kms:eu-central-1:999999999999:alias/agents-x"), Verdict::Allow);
    assert_eq!(decrypt("arn:aws:kms:eu-central-1:999999999999:alias/x"), Verdict::Deny);
}

#[test]
fn resources_named_in_parameters_are_implicit_targets() {
    let cluster = "arn:aws:rds:eu-central-1:123456789012:cluster:prod";
    let set = compile_test_set(&format!(
        "permit (principal, action, resource);
         @id(\"prod\") forbid (principal, action, resource == Aws::Resource::\"{cluster}\");"
    ));
    let verdict = |parameters: Value| {
        decide_for_groups(&set, &[], &test_operation(&[("s3:PutObject", "arn:aws:s3:::b/k")], parameters))
            .verdict
    };
    assert_eq!(verdict(json!({ "Entries": [{ "SourceArn": cluster }] })), Verdict::Deny);
    assert_eq!(
        verdict(json!({ "SourceArn": format!("{cluster}-2"), "Text": "cluster:prod" })),
        Verdict::Allow
    );
}

#[test]
fn a_ciphertext_may_be_under_a_key_of_any_account() {
    let forbidding = |key: &str| {
        compile_test_set(&format!(
            "permit (principal, action, resource);
             forbid (principal, action == Aws::Action::\"kms:Decrypt\", resource == Aws::Resource::\"{key}\");"
        ))
    };
    let decrypt = |key: &str| {
        decide_for_groups(&forbidding(key), &[], &test_operation(&[("kms:Decrypt", "*")], json!({}))).verdict
    };
    assert_eq!(decrypt("arn:aws:kms:eu-central-1:999999999999:key/1"), Verdict::Deny);
    assert_eq!(decrypt("arn:aws:kms:eu-west-1:999999999999:key/1"), Verdict::Allow);
    assert_eq!(decrypt("arn:aws:kms:eu-west-1:999999999999:key/mrk-1"), Verdict::Deny);
}

#[test]
fn a_created_resource_is_not_an_existing_one() {
    let instance = "arn:aws:ec2:eu-central-1:123456789012:instance/i-1";
    let set = compile_test_set(&format!(
        "permit (principal, action, resource);
         @id(\"production\") forbid (principal, action, resource == Aws::Resource::\"{instance}\");"
    ));
    let verdict =
        |demands: &[(&str, &str)]| decide_for_groups(&set, &[], &test_operation(demands, json!({}))).verdict;
    let made = "arn:aws:ec2:eu-central-1:123456789012:instance/*";
    assert_eq!(verdict(&[("ec2:RunInstances", made), ("ec2:CreateTags", "*")]), Verdict::Allow);
    assert_eq!(verdict(&[("ec2:RunInstances", "*")]), Verdict::Allow);
    assert_eq!(verdict(&[("ec2:CreateTags", "*")]), Verdict::Deny, "tags of what is there");
    assert_eq!(verdict(&[("ec2:CreateTags", made)]), Verdict::Deny);
    assert_eq!(verdict(&[("ec2:CreateTags", instance)]), Verdict::Deny);
}

#[test]
fn a_permit_does_not_cover_implicit_targets() {
    let secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf";
    let set = compile_test_set(&format!(
        "permit (principal, action, resource == Aws::Resource::\"{secret}\");
         forbid (principal, action == Aws::Action::\"s3:PutObject\", resource == Aws::Resource::\"{secret}\");"
    ));
    let pattern = secret.replace("AbCdEf", "??????");
    let verdict = |resource: &str| {
        let operation = test_operation(&[("secretsmanager:GetSecretValue", resource)], json!({}));
        decide_for_groups(&set, &[], &operation).verdict
    };
    assert_eq!(verdict(secret), Verdict::Allow);
    assert_eq!(verdict(&pattern), Verdict::Deny);
    assert_eq!(verdict("*"), Verdict::Deny);
}

#[test]
fn implicit_targets_are_explained_and_their_tags_read() {
    let exact = "arn:aws:s3:::b/k";
    let set = compile_test_set(&format!(
        "permit (principal, action, resource);
         @id(\"critical\") forbid (principal, action, resource == Aws::Resource::\"{exact}\")
             when {{ resource.hasTag(\"critical\") }};"
    ));
    let inexact = test_operation(&[("s3:DeleteObject", "arn:aws:s3:::b/*")], json!({}));
    let bob = test_caller("bob", &[]);
    assert_eq!(
        set.attribute_reads(&bob, &inexact, test_context()),
        AttributeReads { tag_lookup_arns: vec![exact], ..AttributeReads::default() }
    );
    assert_eq!(decide_for_groups(&set, &[], &inexact).verdict, Verdict::Deny, "decided without the tags");
    let tagged = |tags: BTreeMap<String, String>| {
        let tags = ResourceTags::from([(exact.to_owned(), tags)]);
        let facts = RequestContext { tags: Some(&tags), ..test_context() };
        (
            set.decide_operation(&bob, &inexact, facts),
            set.explain_operation(&bob, &inexact, facts).to_string(),
        )
    };
    assert_eq!(tagged(BTreeMap::new()).0.verdict, Verdict::Allow);
    let (denied, explained) = tagged(BTreeMap::from([("critical".to_owned(), "true".to_owned())]));
    assert_eq!(
        (denied.verdict, denied.reason.as_str()),
        (
            Verdict::Deny,
            "s3:DeleteObject on arn:aws:s3:::b/* is forbidden by policy `critical` (it names a resource that the request \
             may affect: the request does not name its own exactly)"
        )
    );
    assert!(explained.contains("holds for arn:aws:s3:::b/k, which the request may affect"), "{explained}");
}
