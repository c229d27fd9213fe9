use super::*;
use crate::fakes::{operation_on, operation_requiring};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::macros::datetime;

const NOT_AFTER: OffsetDateTime = datetime!(2026-11-21 06:01:00.75 UTC);

fn policy_for(permissions: &[(&str, Resource)]) -> SessionPolicy {
    build_session_policy(&operation_requiring(permissions), NOT_AFTER, &SessionPolicyConditions::default())
        .unwrap()
}

fn parse_policy(policy: &SessionPolicy) -> Value {
    serde_json::from_str(&policy.json).unwrap()
}

fn patterns_for_arn(arn: &str) -> Vec<String> {
    let policy = parse_policy(&policy_for(&[("s3:GetObject", Resource::Arn(arn.to_owned()))]));
    let patterns = policy["Statement"][0]["Resource"].as_array().unwrap();
    patterns.iter().map(|pattern| pattern.as_str().unwrap().to_owned()).collect()
}

/// The pattern of the ARN itself. Its alternate form, which is shorter, sorts before it.
fn pattern_for_arn(arn: &str) -> String {
    patterns_for_arn(arn).pop().unwrap()
}

#[test]
fn log_groups_and_secrets_are_allowed_in_both_forms_of_their_arns() {
    let group = "arn:aws:logs:us-east-1:1:log-group:/app";
    let text = parse_policy(&policy_for(&[("logs:CreateLogGroup", Resource::Arn(format!("{group}:*")))]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([group, format!("{group}:*")]));
    let stream = format!("{group}:log-stream:s");
    let text = parse_policy(&policy_for(&[("logs:CreateLogStream", Resource::Arn(stream.clone()))]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([group, stream]));
    let secret = "arn:aws:secretsmanager:us-east-1:1:secret:db";
    let text = parse_policy(&policy_for(&[(
        "secretsmanager:CreateSecret",
        Resource::Arn(format!("{secret}-??????")),
    )]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([secret, format!("{secret}-??????")]));
}

#[test]
fn only_the_fields_of_an_arn_give_an_alternate_form() {
    let logs = "arn:aws:logs:us-east-1:1:log-group";
    for arn in [
        // Keys of S3 objects that contain the words of other services: the alternate form would be another object.
        "arn:aws:s3:::b/x:logs:g:log-stream:s".to_owned(),
        "arn:aws:s3:::b:logs:us-east-1:1:log-group:g:log-stream:s".to_owned(),
        "arn:aws:s3:::b/x:secretsmanager:secret:s-??????".to_owned(),
        "arn:aws:s3:::b/x:logs:*".to_owned(),
        // Neither a group nor a stream can have a colon in its name.
        format!("{logs}:g:log-stream:s:log-stream:t"),
        format!("{logs}:g:h:log-stream:s"),
    ] {
        assert_eq!(patterns_for_arn(&arn).len(), 1, "{arn}: {:?}", patterns_for_arn(&arn));
    }
}

#[test]
fn an_instance_to_be_created_is_any_instance() {
    let any = "arn:aws:ec2:us-east-1:1:instance/*";
    assert_eq!(pattern_for_arn(any), any);
    assert_eq!(pattern_for_arn("arn:aws:ec2:us-east-1:1:volume/*"), "arn:aws:ec2:us-east-1:1:volume/${*}");
}

#[test]
fn restricts_actions_resources_and_time() {
    let cut = build_session_policy(
        &operation_on("s3:GetObject", "arn:aws:s3:::reports/a.csv"),
        NOT_AFTER,
        &SessionPolicyConditions {
            source_ip: vec!["192.0.2.0/24".to_owned()],
            source_vpce: vec!["vpce-1".to_owned()],
            bucket_accounts: vec!["123456789012".to_owned()],
        },
    )
    .unwrap();
    assert_eq!(cut.scope, CredentialScope::Operation);
    assert_eq!(
        parse_policy(&cut),
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::reports/a.csv"],
            "Condition": {
                "DateLessThan": {"aws:CurrentTime": "2026-11-21T06:01:00Z"},
                "IpAddress": {"aws:SourceIp": ["192.0.2.0/24"]},
                "StringEquals": {"aws:SourceVpce": ["vpce-1"]},
                "StringEqualsIfExists": {"aws:ResourceAccount": ["123456789012"]},
            },
        }]})
    );
}

#[test]
fn no_action_gets_the_resource_of_another() {
    let arn = |name: &str| Resource::Arn(format!("arn:aws:s3:::{name}"));
    let cut = parse_policy(&policy_for(&[
        ("s3:GetObject", arn("from/key")),
        ("s3:PutObject", arn("to/key")),
        ("s3:PutObjectTagging", arn("to/key")),
        ("s3:ListAllMyBuckets", Resource::Any),
    ]));
    let statements = cut["Statement"].as_array().unwrap();
    assert_eq!(statements.len(), 3);
    for statement in statements {
        match statement["Resource"][0].as_str().unwrap() {
            "*" => assert_eq!(statement["Action"], json!(["s3:ListAllMyBuckets"])),
            "arn:aws:s3:::from/key" => assert_eq!(statement["Action"], json!(["s3:GetObject"])),
            _ => assert_eq!(statement["Action"], json!(["s3:PutObject", "s3:PutObjectTagging"])),
        }
        assert!(statement["Condition"]["DateLessThan"]["aws:CurrentTime"].is_string());
    }
}

#[test]
fn a_key_named_like_a_wildcard_is_only_a_name() {
    assert_eq!(pattern_for_arn("arn:aws:s3:::b/*"), "arn:aws:s3:::b/${*}");
    assert_eq!(pattern_for_arn("arn:aws:s3:::b/a?.csv"), "arn:aws:s3:::b/a${?}.csv");
    assert_eq!(
        pattern_for_arn("arn:aws:s3:::b/${aws:username}/$*"),
        "arn:aws:s3:::b/${$}{aws:username}/${$}${*}"
    );
}

#[test]
fn wildcards_before_the_resource_part_are_refused() {
    for arn in [
        "*",
        "arn:aws:s3",
        "arn:*:s3:::b",
        "arn:aws:lambda:*:1:function:f",
        "arn:aws:lambda:us-east-1:?:f",
        "arn:aws:lambda:${x}:1:f",
        "arn:aws:s3:::",
        "",
    ] {
        let operation = operation_on("s3:GetObject", arn);
        let result = build_session_policy(&operation, NOT_AFTER, &SessionPolicyConditions::default());
        assert_eq!(result, Err(SessionPolicyError::InvalidArn(arn.to_owned())), "{arn}");
    }
}

#[test]
fn only_the_catalogs_own_suffixes_are_wildcards() {
    let secret = "arn:aws:secretsmanager:us-east-1:1:secret";
    assert_eq!(pattern_for_arn(&format!("{secret}:db-??????")), format!("{secret}:db-??????"));
    assert_eq!(pattern_for_arn(&format!("{secret}:*-??????")), format!("{secret}:${{*}}-??????"));
    assert_eq!(pattern_for_arn(&format!("{secret}:-??????")), format!("{secret}:-{}", "${?}".repeat(6)));
    assert_eq!(
        pattern_for_arn("arn:aws:s3:::b/db-??????"),
        format!("arn:aws:s3:::b/db-{}", "${?}".repeat(6))
    );
    let logs = "arn:aws:logs:us-east-1:1:log-group";
    assert_eq!(pattern_for_arn(&format!("{logs}:/app:*")), format!("{logs}:/app:*"));
    assert_eq!(pattern_for_arn(&format!("{logs}:*:*")), format!("{logs}:${{*}}:*"));
    assert_eq!(pattern_for_arn(&format!("{logs}:*")), format!("{logs}:${{*}}"));
    assert_eq!(pattern_for_arn(&format!("{logs}::*")), format!("{logs}::${{*}}"));
    assert_eq!(pattern_for_arn(&format!("{logs}:a:log-stream:*")), format!("{logs}:a:log-stream:${{*}}"));
    assert_eq!(pattern_for_arn("arn:aws:sqs:us-east-1:1:q:*"), "arn:aws:sqs:us-east-1:1:q:${*}");
}

#[test]
fn an_action_with_a_wildcard_is_refused() {
    for action in ["s3:*", "s3:Get?bject", "*", "s3", "s3:", ":GetObject", "s3:Get Object"] {
        let result = build_session_policy(
            &operation_on(action, "arn:aws:s3:::b"),
            NOT_AFTER,
            &SessionPolicyConditions::default(),
        );
        assert_eq!(result, Err(SessionPolicyError::InvalidAction(action.to_owned())));
    }
}

#[test]
fn no_policy_without_a_required_permission_or_for_a_tool() {
    let result =
        build_session_policy(&operation_requiring(&[]), NOT_AFTER, &SessionPolicyConditions::default());
    assert_eq!(result, Err(SessionPolicyError::NoRequiredPermission));
    let tool = operation_requiring(&[("s3:GetObject", Resource::McpServer("files".to_owned()))]);
    assert_eq!(
        build_session_policy(&tool, NOT_AFTER, &SessionPolicyConditions::default()),
        Err(SessionPolicyError::NotAws)
    );
}

#[test]
fn too_many_resources_fall_back_to_the_actions() {
    let permissions: Vec<(&str, Resource)> = (0..100)
        .map(|n| ("s3:DeleteObject", Resource::Arn(format!("arn:aws:s3:::bucket/some/long/prefix/{n}"))))
        .collect();
    let cut = policy_for(&permissions);
    assert_eq!(cut.scope, CredentialScope::Actions);
    let statement = &parse_policy(&cut)["Statement"];
    assert_eq!(statement.as_array().unwrap().len(), 1);
    assert_eq!(statement[0]["Action"], json!(["s3:DeleteObject"]));
    assert_eq!(statement[0]["Resource"], json!(["*"]));
    assert!(statement[0]["Condition"]["DateLessThan"].is_object());
}

/// How IAM matches a pattern: `${*}`, `${?}` and `${$}` are the characters, bare `*` and `?` are wildcards.
fn iam_matches(pattern: &str, text: &str) -> bool {
    fn matches_from(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['$', '{', literal @ ('*' | '?' | '$'), '}', rest @ ..] => {
                text.first() == Some(literal) && matches_from(rest, &text[1..])
            }
            ['*', rest @ ..] => (0..=text.len()).any(|skip| matches_from(rest, &text[skip..])),
            ['?', rest @ ..] => !text.is_empty() && matches_from(rest, &text[1..]),
            [first, rest @ ..] => text.first() == Some(first) && matches_from(rest, &text[1..]),
        }
    }
    matches_from(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

/// Names with everything that has a meaning in some pattern.
fn resource_name() -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "*",
        "?",
        "$",
        "{",
        "}",
        ":",
        "/",
        "-",
        "logs",
        ":logs:",
        ":log-stream:",
        ":secretsmanager:",
        "-??????",
        ":*",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 1..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_resource_matches_itself_and_nothing_else(name in resource_name(), other in resource_name()) {
        let (arn, elsewhere) = (format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{other}"));
        let patterns = patterns_for_arn(&arn);
        let matches = |arn: &str| patterns.iter().any(|pattern| iam_matches(pattern, arn));
        prop_assert!(matches(&arn));
        prop_assert_eq!(matches(&elsewhere), arn == elsewhere);
        // A name that is one part of it: the shape of an alternate form.
        for (at, _) in name.match_indices(':') {
            prop_assert!(!matches(&format!("arn:aws:s3:::{}", &name[..at])), "{name} {at}");
        }
    }

    #[test]
    fn any_name_stays_within_the_characters_of_sts(name in any::<String>()) {
        prop_assume!(!name.is_empty());
        let arn = format!("arn:aws:s3:::bucket/{name}");
        let cut = policy_for(&[("s3:GetObject", Resource::Arn(arn.clone()))]);
        let stays = cut.json.chars().all(|character| (' '..='\u{ff}').contains(&character));
        prop_assert!(stays, "{}", cut.json);
        prop_assert!(cut.json.chars().count() <= limits::MAX_SESSION_POLICY_CHARS);
        if cut.scope == CredentialScope::Operation {
            let pattern = parse_policy(&cut)["Statement"][0]["Resource"][0].as_str().unwrap().to_owned();
            prop_assert!(iam_matches(&pattern, &arn));
        }
    }
}

/// What [`ConnectionConfig::new`](crate::ConnectionConfig::new) gives.
fn own_buckets_only() -> SessionPolicyConditions {
    SessionPolicyConditions {
        bucket_accounts: vec!["123456789012".to_owned()],
        ..SessionPolicyConditions::default()
    }
}

#[test]
fn a_bucket_must_be_of_an_account_that_the_connection_may_use() {
    let arn = |arn: &str| Resource::Arn(arn.to_owned());
    let access_point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/p/object/k";
    let operation = operation_requiring(&[
        ("s3:PutObject", arn("arn:aws:s3:::anybodys-bucket/k")),
        ("s3:ListBucket", arn("arn:aws:s3:::anybodys-bucket")),
        ("s3:GetObject", arn(access_point)),
        ("s3:GetObject", arn("arn:aws:s3:::source/k")),
        ("kms:Decrypt", arn("arn:aws:kms:eu-west-1:999999999999:key/1")),
        ("s3:ListAllMyBuckets", Resource::Any),
    ]);
    let owner_of = |policy: &SessionPolicy, action: &str, resource: &str| {
        let policy = parse_policy(policy);
        let statements = policy["Statement"].as_array().unwrap().clone();
        let has = |statement: &Value, member: &str, text: &str| {
            statement[member].as_array().unwrap().iter().any(|item| item == text)
        };
        let statement = statements
            .iter()
            .find(|one| has(one, "Action", action) && has(one, "Resource", resource))
            .unwrap_or_else(|| unreachable!("{action} on {resource} in {policy}"));
        statement["Condition"]["StringEqualsIfExists"].clone()
    };
    let own = json!({"aws:ResourceAccount": ["123456789012"]});
    let policy = build_session_policy(&operation, NOT_AFTER, &own_buckets_only()).unwrap();
    for (action, resource, expected) in [
        ("s3:PutObject", "arn:aws:s3:::anybodys-bucket/k", &own),
        ("s3:ListBucket", "arn:aws:s3:::anybodys-bucket", &own),
        ("s3:GetObject", "arn:aws:s3:::source/k", &own),
        ("s3:GetObject", access_point, &Value::Null),
        ("kms:Decrypt", "arn:aws:kms:eu-west-1:999999999999:key/1", &Value::Null),
        ("s3:ListAllMyBuckets", "*", &Value::Null),
    ] {
        assert_eq!(owner_of(&policy, action, resource), *expected, "{action} on {resource}");
    }
    // Cut to the actions, where `*` covers every bucket in the world, the owner still counts.
    let policy = build_action_policy(&operation, NOT_AFTER, &own_buckets_only()).unwrap();
    for (action, expected) in [("s3:PutObject", &own), ("s3:GetObject", &own), ("kms:Decrypt", &Value::Null)]
    {
        assert_eq!(owner_of(&policy, action, "*"), *expected, "{action}");
    }
}

#[test]
fn a_policy_for_any_account_has_no_owner_in_it() {
    let operation = operation_on("s3:GetObject", "arn:aws:s3:::b/k");
    let policy = build_session_policy(&operation, NOT_AFTER, &SessionPolicyConditions::default()).unwrap();
    assert!(!policy.json.contains("ResourceAccount"), "{}", policy.json);
}
