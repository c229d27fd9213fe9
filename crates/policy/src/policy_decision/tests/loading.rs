//! Which policies and directories load, and the messages for those that do not.

use super::*;

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
    for (text, expected) in [
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
        ("permit (principal, action, resource", "unexpected end of input"),
        (
            "forbid (principal, action, resource is Aws::Resource) when { principal.hasTag(\"x\") };",
            "reads attributes or groups of something other than",
        ),
        (
            "forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) when { context.params.Bucket == \"b\" };",
            "unable to guarantee safety of access to optional attribute",
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
            "something other than principal",
        ),
        ("permit (principal in Grupe::\"a\", action, resource);", "unrecognized entity type"),
    ] {
        let error = expect_load_error(text);
        assert!(error.contains(expected), "{text}\n{error}");
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

/// Cedar's parser calls itself for each parenthesis: without a limit, the process ends here.
#[test]
fn an_expression_that_nests_too_deeply_is_reported_with_its_line() {
    for (open, middle, close) in [
        ("(", "true", ")"),
        ("!(", "true", ")"),
        ("if true then true else ", "true", ""),
        ("true || ", "true", ""),
        ("", "context", ".a"),
    ] {
        let condition = open.repeat(10_000) + middle + &close.repeat(10_000);
        let error = expect_load_error(&format!(
            "permit (principal, action, resource);\nforbid (principal, action, resource)\nwhen {{ {condition} }};"
        ));
        assert!(error.starts_with("p.cedar:3:"), "{}", &error[..200]);
        assert!(error.contains("the expression is nested deeper than 300 levels"), "{}", &error[..200]);
    }
}

/// The thread of this test has the stack of a worker of the gateway, which needs not hold what loading needs.
#[test]
fn the_deepest_expression_loads() {
    for (open, close, count) in [("(", ")", 290), ("!(", ")", 144), ("true && ", "", 290)] {
        let condition = open.repeat(count) + "true" + &close.repeat(count);
        compile_test_set(&format!("permit (principal, action, resource) when {{ {condition} }};"));
    }
}
