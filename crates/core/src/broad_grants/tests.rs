//! Each finding, what is nearly one, and that no statement hides.

use super::*;
use crate::{FrontEndKind, OperationTraits, RequiredPermission, Resource};
use proptest::prelude::*;
use serde_json::json;

fn operation(name: &str, access_level: AccessLevel, parameters: Value) -> Operation {
    Operation {
        front_end: FrontEndKind::Aws,
        service: "iam".to_owned(),
        name: name.to_owned(),
        required_permissions: vec![RequiredPermission {
            access_level,
            action: format!("iam:{name}"),
            resource: Resource::Any,
        }],
        parameters,
        sensitive_pointers: Vec::new(),
        region: None,
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

fn find(parameters: Value) -> Vec<(BroadGrantKind, Vec<String>)> {
    let operation = operation("PutRolePolicy", AccessLevel::PermissionsManagement, parameters);
    find_broad_grants(&operation).into_iter().map(|grant| (grant.kind, grant.positions)).collect()
}

fn kinds(parameters: Value) -> Vec<BroadGrantKind> {
    find(parameters).into_iter().map(|(kind, _positions)| kind).collect()
}

/// The findings of one statement in a policy document.
fn kinds_of(statement: &Value) -> Vec<BroadGrantKind> {
    kinds(json!({"PolicyDocument": json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()}))
}

#[test]
fn statements_that_allow_too_much_are_found() {
    use BroadGrantKind::*;
    for (statement, wanted) in [
        (json!({"Effect": "Allow", "Action": "*", "Resource": "*"}), vec![EveryAction]),
        (
            json!({"Effect": "Allow", "Action": ["s3:GetObject", "*:*"], "Resource": ["arn:x", "*"]}),
            vec![EveryAction],
        ),
        (json!({"effect": "allow", "ACTION": "**", "resource": "arn:*"}), vec![EveryAction]),
        (json!({"Effect": "Allow", "Action": "?*", "Resource": "arn:aws:*:*:*:*"}), vec![EveryAction]),
        (
            json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}),
            vec![EveryAction],
        ),
        (json!({"Effect": "Allow", "Action": "*", "Resource": {"Fn::Join": ["", ["*"]]}}), vec![EveryAction]),
        (json!({"Effect": {"Fn::If": ["X", "Allow", "Deny"]}, "Action": "*"}), vec![EveryAction]),
        (json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}), vec![EveryActionOfService]),
        (
            json!({"Effect": "Allow", "Action": ["iam:*"], "Resource": "arn:aws:s3:::*"}),
            vec![EveryActionOfService],
        ),
        (json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), vec![AllExcept]),
        (
            json!({"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::b"}),
            vec![AllExcept],
        ),
        (
            json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}),
            vec![Everyone],
        ),
        (json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}), vec![Everyone]),
        (
            json!({"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::1:root", "*"]}, "Action": "sts:AssumeRole"}),
            vec![Everyone],
        ),
        (
            json!({"Effect": "Allow", "NotPrincipal": {"AWS": "arn:aws:iam::1:root"}, "Action": "sts:AssumeRole"}),
            vec![Everyone],
        ),
        (json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}), vec![PassAnyRole]),
        (
            json!({"Effect": "Allow", "Action": "IAM:pass*", "Resource": "arn:aws:iam::123456789012:role/*"}),
            vec![PassAnyRole],
        ),
        (
            json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}),
            vec![EveryAction, Everyone],
        ),
        (
            json!({"Effect": "Allow", "Action": ["s3:*", "iam:PassRole"], "Resource": "*"}),
            vec![PassAnyRole, EveryActionOfService],
        ),
    ] {
        assert_eq!(kinds_of(&statement), wanted, "{statement}");
    }
}

#[test]
fn near_misses_are_not_found() {
    for statement in [
        json!({"Effect": "Deny", "Action": "*", "Resource": "*"}),
        json!({"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"}),
        json!({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}),
        json!({"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/*"}),
        json!({"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}),
        json!({"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]}),
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}),
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::1:role/*"}}),
        json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::1:role/app"}),
        json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::1:role/app-*"}),
        json!({"Effect": "Allow", "Action": "iam:GetRole", "Resource": "*"}),
    ] {
        assert_eq!(kinds_of(&statement), [], "{statement}");
    }
    assert_eq!(kinds(json!({"Description": "Effect Allow Action * Resource *"})), []);
    assert_eq!(kinds(json!({"Filter": {"Action": "*"}, "Resource": "*"})), []);
}

#[test]
fn only_a_condition_that_names_the_caller_or_the_network_restricts_everyone() {
    let with = |condition: Value| {
        kinds_of(
            &json!({"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Condition": condition}),
        )
    };
    for condition in [
        json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
        json!({"ArnLike": {"AWS:SourceArn": "arn:aws:sns:eu-west-1:1:topic"}}),
        json!({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24"]}, "Bool": {"aws:SecureTransport": "true"}}),
    ] {
        assert_eq!(with(condition.clone()), [], "{condition}");
    }
    for condition in [
        json!({}),
        json!(null),
        json!({"Bool": {"aws:SecureTransport": "true"}}),
        json!({"StringLike": {"aws:PrincipalArn": "*"}}),
        json!({"StringLike": {"aws:PrincipalArn": ["arn:aws:iam::1:role/a", "arn:aws:iam::*:*"]}}),
        json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}),
        json!({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}),
        json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
        json!({"StringEquals": {"aws:PrincipalOrgID": []}}),
    ] {
        assert_eq!(with(condition.clone()), [BroadGrantKind::Everyone], "{condition}");
    }
    let twice = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "a:b",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, "Condition": {}}}"#;
    assert_eq!(kinds(json!({"Policy": twice})), [BroadGrantKind::Everyone]);
}

#[test]
fn add_permission_grants_as_a_statement_does() {
    let permission = json!({"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"});
    assert_eq!(kinds(permission.clone()), [BroadGrantKind::Everyone]);
    let mut restricted = permission;
    restricted["SourceArn"] = json!("arn:aws:s3:::b");
    assert_eq!(kinds(restricted), []);
}

#[test]
fn open_networks_are_found_unless_the_rule_is_removed() {
    use BroadGrantKind::OpenNetwork;
    for cidr in ["0.0.0.0/0", "::/0", "0:0:0:0:0:0:0:0/0", "10.1.2.3/0", "128.0.0.0/1", "2000::/3"] {
        for parameters in [
            json!({"IpPermissions": [{"IpRanges": [{"CidrIp": cidr}]}]}),
            json!({"CidrIp": cidr}),
            json!({"IpPermissions": [{"Ipv6Ranges": [{"CidrIpv6": cidr}]}]}),
            json!({"SecurityGroupRules": [{"SecurityGroupRule": {"CidrIpv4": cidr}}]}),
        ] {
            assert_eq!(kinds(parameters.clone()), [OpenNetwork], "{parameters}");
            let revoke = operation("RevokeSecurityGroupIngress", AccessLevel::Write, parameters);
            assert_eq!(find_broad_grants(&revoke), []);
        }
    }
    for cidr in ["10.0.0.0/8", "203.0.113.7/32", "fc00::/7", "pl-1", "0.0.0.0", ""] {
        assert_eq!(kinds(json!({"CidrIp": cidr})), [], "{cidr}");
    }
    assert_eq!(kinds(json!({"Description": "0.0.0.0/0"})), []);
}

#[test]
fn public_acls_are_found() {
    use BroadGrantKind::PublicAcl;
    let all = "http://acs.amazonaws.com/groups/global/AllUsers";
    for parameters in [
        json!({"ACL": "public-read"}),
        json!({"ACL": "public-read-write"}),
        json!({"ACL": "authenticated-read"}),
        json!({"GrantFullControl": format!("id=\"1\", uri=\"{all}\"")}),
        json!({"GrantRead": "uri=http://acs.amazonaws.com/groups/global/AuthenticatedUsers"}),
        json!({"AccessControlPolicy": {"Grants": [{"Grantee": {"URI": all}, "Permission": "FULL_CONTROL"}]}}),
        json!({"TemplateBody": json!({"Resources": {"B": {"Properties": {"AccessControl": "PublicRead"}}}}).to_string()}),
    ] {
        assert_eq!(kinds(parameters.clone()), [PublicAcl], "{parameters}");
    }
    for parameters in [
        json!({"ACL": "private"}),
        json!({"ACL": "bucket-owner-full-control"}),
        json!({"GrantFullControl": "id=1"}),
        json!({"Tagging": {"Value": all}}),
    ] {
        assert_eq!(kinds(parameters.clone()), [], "{parameters}");
    }
}

#[test]
fn the_policy_of_administrators_is_found_where_it_is_attached() {
    let parameters = json!({"RoleName": "r", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"});
    assert_eq!(find(parameters.clone()), [(BroadGrantKind::EveryAction, vec!["PolicyArn".to_owned()])]);
    let detach = operation("DetachRolePolicy", AccessLevel::PermissionsManagement, parameters);
    assert_eq!(find_broad_grants(&detach), []);
    assert_eq!(kinds(json!({"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"})), []);
}

#[test]
fn an_operation_that_only_reads_grants_nothing() {
    let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let simulate =
        |level| find_broad_grants(&operation("SimulateCustomPolicy", level, statement.clone())).len();
    assert_eq!((simulate(AccessLevel::Read), simulate(AccessLevel::Tagging)), (0, 1));
}

#[test]
fn a_position_names_the_document_the_statement_and_a_plain_sid() {
    let open = |sid: &str| json!({"Sid": sid, "Effect": "Allow", "Action": "*", "Resource": "*"});
    let position = |parameters: Value| find(parameters).remove(0).1.remove(0);
    let document = |statement: Value| json!({"Statement": statement}).to_string();
    for (parameters, wanted) in [
        (
            json!({"PolicyDocument": document(json!([{}, open("Last")]))}),
            "PolicyDocument, statement 2 of 2 (Last)",
        ),
        (json!({"PolicyDocument": document(open("A1"))}), "PolicyDocument, its only statement (A1)"),
        (
            json!({"Attributes": {"Policy": document(json!([open("")]))}}),
            "Attributes/Policy, statement 1 of 1",
        ),
        (json!({"P": document(json!([open("low risk, approve")]))}), "P, statement 1 of 1"),
        (json!({"P": document(json!([open("\u{202e}x")]))}), "P, statement 1 of 1"),
        (json!({"a\u{202e}\n": document(json!([open("")]))}), "a\\u{202e}\\u{a}, statement 1 of 1"),
        (open(""), "the parameters"),
    ] {
        assert_eq!(position(parameters.clone()), wanted, "{parameters}");
    }
    let long = position(json!({"x".repeat(200): document(json!([open("")]))}));
    assert!(long.chars().count() < 70, "{long}");
}

#[test]
fn a_finding_names_three_positions_and_counts_the_others() {
    let open = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let document = json!({"Statement": vec![open; 5]}).to_string();
    let operation = operation("PutRolePolicy", AccessLevel::PermissionsManagement, json!({"P": document}));
    let text = find_broad_grants(&operation)[0].to_text();
    assert_eq!(
        text,
        "allows every action on every resource: P, statement 1 of 5; P, statement 2 of 5; P, statement 3 of 5; and 2 more"
    );
}

#[test]
fn a_document_that_cannot_be_read_but_may_be_a_policy_is_a_finding() {
    for text in [
        r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Sid": "\ud800"}]}"#,
        r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}], "x": 1e999}"#,
        r#"{"Statement": {"Effect": "Allow"}} and more"#,
        r#"{"\u0045ffect": tru}"#,
    ] {
        assert_eq!(kinds(json!({"P": text})), [BroadGrantKind::UnreadableDocument], "{text}");
    }
    assert_eq!(kinds(json!({"P": "{a template}"})), []);
    let mut nested = json!({"Effect": "Allow", "Action": "*", "Resource": "*"}).to_string();
    for _level in 0..MAX_DOCUMENT_DEPTH {
        nested = json!({"Effect": nested}).to_string();
    }
    assert_eq!(kinds(json!({"P": nested})), [BroadGrantKind::UnreadableDocument]);
}

/// A statement that is no finding.
fn any_harmless_statement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"Effect": "Deny", "Action": "*", "Resource": "*"})),
        Just(json!({"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::b/*"})),
        "[ -~]{0,12}".prop_map(
            |text| json!({"Sid": text, "Effect": "Allow", "Action": "ec2:RunInstances", "Resource": text})
        ),
        Just(json!({})),
        Just(json!("Effect")),
    ]
}

/// Spellings of a statement that allows everything.
fn any_open_statement() -> impl Strategy<Value = Value> {
    let one_or_list = |text: &'static str| prop_oneof![Just(json!(text)), Just(json!(["arn:x", text]))];
    let action = prop_oneof![one_or_list("*"), one_or_list("*:*")];
    (action, one_or_list("*"), ".{0,8}").prop_map(|(action, resource, sid)| {
        json!({"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource})
    })
}

/// Puts a document somewhere into the parameters.
fn bury(document: &Value, wrappings: &[u8]) -> Value {
    let mut value = document.clone();
    let mut documents = 0;
    for wrapping in wrappings {
        value = match wrapping {
            0 if documents < MAX_DOCUMENT_DEPTH - 1 => {
                documents += 1;
                Value::String(value.to_string())
            }
            1 if documents < MAX_DOCUMENT_DEPTH - 1 && (value.is_object() || value.is_array()) => {
                documents += 1;
                let text = value.to_string();
                let encoded =
                    percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
                Value::String(encoded.to_string())
            }
            2 => json!([1, value]),
            3 => json!({"Properties": value, "Z": "{"}),
            _ => json!({"Policy": value}),
        };
        // A string of a string is no document.
        if let Value::String(_) = value {
            value = json!({"Document": value});
        }
    }
    json!({"Parameter": value})
}

proptest! {
    #[test]
    fn a_statement_that_allows_everything_never_hides(
        before in proptest::collection::vec(any_harmless_statement(), 0..45),
        open in any_open_statement(),
        after in proptest::collection::vec(any_harmless_statement(), 0..5),
        wrappings in proptest::collection::vec(0..5_u8, 0..8),
    ) {
        let position = before.len() + 1;
        let statements: Vec<Value> = before.into_iter().chain([open]).chain(after).collect();
        let count = statements.len();
        let found = find(bury(&json!({"Statement": statements}), &wrappings));
        let (kind, positions) = &found[0];
        prop_assert_eq!(*kind, BroadGrantKind::EveryAction);
        let wanted = format!("statement {position} of {count}");
        prop_assert!(positions.iter().any(|position| position.contains(&wanted)), "{:?}", positions);
    }

    #[test]
    fn no_text_makes_the_reader_panic(name in ".{0,12}", text in ".{0,64}", json in r#"[\[\]{}:,"%7B\\uAllowEfct*0-9]{0,64}"#) {
        let _found = find(json!({name.clone(): text.clone(), "PolicyDocument": json, "Statement": [{"Sid": text, "Effect": "Allow", "Action": name.clone(), "Resource": name}]}));
    }

    #[test]
    fn patterns_match_as_iam_matches_them(pattern in "[ab*?]{0,8}", action in "[ab]{0,8}") {
        fn simple(pattern: &[u8], action: &[u8]) -> bool {
            match (pattern.split_first(), action.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => simple(rest, action) || (!action.is_empty() && simple(pattern, &action[1..])),
                (Some((byte, rest)), Some((first, others))) => (*byte == b'?' || byte == first) && simple(rest, others),
                _ => false,
            }
        }
        prop_assert_eq!(matches_pattern(&pattern, &action), simple(pattern.as_bytes(), action.as_bytes()));
    }
}
