//! Forbids on exact ARNs, and requests that may affect these resources without naming them.

use super::*;
use std::collections::BTreeMap;

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
    let needs_approval = (Verdict::RequireApproval, "key".to_owned());
    assert_eq!(verdict("kms:Decrypt", &key("eu-central-1", "key/1")), needs_approval);
    assert_eq!(
        verdict("kms:Decrypt", &key("eu-central-1", "alias/a")),
        needs_approval,
        "the alias may stand for the key"
    );
    assert_eq!(verdict("kms:Decrypt", "*"), needs_approval, "the ciphertext may name the key");
    assert_eq!(verdict("kms:Decrypt", &key("eu-central-1", "key/2")), allowed);
    assert_eq!(verdict("kms:Decrypt", &key("eu-west-1", "alias/a")), allowed, "a key of another region");
    assert_eq!(verdict("s3:GetObject", "arn:aws:s3:::b/x*"), denied("bucket"));
    assert_eq!(verdict("s3:GetObject", "*"), denied("bucket"), "an object may be in the bucket");
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
    let verdict = |permissions: &[(&str, &str)]| {
        decide_for_groups(&set, &[], &test_operation(permissions, json!({}))).verdict
    };
    let any_instance = "arn:aws:ec2:eu-central-1:123456789012:instance/*";
    assert_eq!(verdict(&[("ec2:RunInstances", any_instance), ("ec2:CreateTags", "*")]), Verdict::Allow);
    assert_eq!(verdict(&[("ec2:RunInstances", "*")]), Verdict::Allow);
    assert_eq!(verdict(&[("ec2:CreateTags", "*")]), Verdict::Deny, "the tags of an existing instance");
    assert_eq!(verdict(&[("ec2:CreateTags", any_instance)]), Verdict::Deny);
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
        let context = RequestContext { tags: Some(&tags), ..test_context() };
        (
            set.decide_operation(&bob, &inexact, context),
            set.explain_operation(&bob, &inexact, context).to_string(),
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

#[test]
fn a_forbid_on_a_tool_holds_for_names_that_differ_in_case_or_blanks() {
    let set = compile_test_set(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"delete\") forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/delete_file\");
         @id(\"pay\") @approval(\"oncall\") forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/pay\")
             when { context.tool == \"pay\" };
         @id(\"base\") forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"files/Pay\")
             when { context.arguments.amount > 100 };",
    );
    let verdict = |tool: &str, arguments: Value| {
        let decision = decide_for_groups(&set, &[], &test_tool_call("files", tool, arguments));
        (decision.verdict, decision.policies.join(" "))
    };
    for tool in ["delete_file", "Delete_File", "DELETE_FILE", "delete _file", "delete\u{a0}_file"] {
        assert_eq!(verdict(tool, json!({})), (Verdict::Deny, "delete".to_owned()), "{tool}");
    }
    for tool in ["pay", "PAY", "Pay"] {
        assert_eq!(
            verdict(tool, json!({ "amount": 1 })),
            (Verdict::RequireApproval, "pay".to_owned()),
            "{tool}"
        );
        assert_eq!(verdict(tool, json!({ "amount": 101 })), (Verdict::Deny, "base".to_owned()), "{tool}");
    }
    assert_eq!(verdict("delete_files", json!({})), (Verdict::Allow, "all".to_owned()));
    // A list shows no tool that every call would be refused for.
    let listed = |tool: &str| {
        let call = test_tool_call("files", tool, json!({}));
        set.may_be_allowed(&test_caller("bob", &[]), &call, test_context())
    };
    assert!(!listed("Delete_File") && listed("PAY"));
}
