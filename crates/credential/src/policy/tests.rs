use super::*;
use crate::fakes::{operation, operation_of};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::macros::datetime;

const UNTIL: OffsetDateTime = datetime!(2026-11-21 06:01:00.75 UTC);

fn policy(demands: &[(&str, Resource)]) -> SessionPolicy {
    session_policy(&operation_of(demands), UNTIL, &PolicyExtras::default()).unwrap()
}

fn read(policy: &SessionPolicy) -> Value {
    serde_json::from_str(&policy.json).unwrap()
}

fn pattern(arn: &str) -> String {
    let text = read(&policy(&[("s3:GetObject", Resource::Arn(arn.to_owned()))]));
    text["Statement"][0]["Resource"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
}

#[test]
fn log_groups_and_secrets_are_allowed_in_both_forms_of_their_arns() {
    let group = "arn:aws:logs:us-east-1:1:log-group:/app";
    let text = read(&policy(&[("logs:CreateLogGroup", Resource::Arn(format!("{group}:*")))]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([group, format!("{group}:*")]));
    let stream = format!("{group}:log-stream:s");
    let text = read(&policy(&[("logs:CreateLogStream", Resource::Arn(stream.clone()))]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([group, stream]));
    let secret = "arn:aws:secretsmanager:us-east-1:1:secret:db";
    let text = read(&policy(&[("secretsmanager:CreateSecret", Resource::Arn(format!("{secret}-??????")))]));
    assert_eq!(text["Statement"][0]["Resource"], serde_json::json!([secret, format!("{secret}-??????")]));
}

#[test]
fn an_instance_that_is_yet_to_be_made_is_any_instance() {
    let any = "arn:aws:ec2:us-east-1:1:instance/*";
    assert_eq!(pattern(any), any);
    assert_eq!(pattern("arn:aws:ec2:us-east-1:1:volume/*"), "arn:aws:ec2:us-east-1:1:volume/${*}");
}

#[test]
fn says_actions_resources_and_time() {
    let cut = session_policy(
        &operation("s3:GetObject", "arn:aws:s3:::reports/a.csv"),
        UNTIL,
        &PolicyExtras { source_ip: vec!["192.0.2.0/24".to_owned()], source_vpce: vec!["vpce-1".to_owned()] },
    )
    .unwrap();
    assert_eq!(cut.scope, Scope::Operation);
    assert_eq!(
        read(&cut),
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::reports/a.csv"],
            "Condition": {
                "DateLessThan": {"aws:CurrentTime": "2026-11-21T06:01:00Z"},
                "IpAddress": {"aws:SourceIp": ["192.0.2.0/24"]},
                "StringEquals": {"aws:SourceVpce": ["vpce-1"]},
            },
        }]})
    );
}

#[test]
fn no_action_gets_the_resource_of_another() {
    let arn = |name: &str| Resource::Arn(format!("arn:aws:s3:::{name}"));
    let cut = read(&policy(&[
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
    assert_eq!(pattern("arn:aws:s3:::b/*"), "arn:aws:s3:::b/${*}");
    assert_eq!(pattern("arn:aws:s3:::b/a?.csv"), "arn:aws:s3:::b/a${?}.csv");
    assert_eq!(pattern("arn:aws:s3:::b/${aws:username}/$*"), "arn:aws:s3:::b/${$}{aws:username}/${$}${*}");
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
        let operation = operation("s3:GetObject", arn);
        let answer = session_policy(&operation, UNTIL, &PolicyExtras::default());
        assert_eq!(answer, Err(PolicyError::Arn(arn.to_owned())), "{arn}");
    }
}

#[test]
fn only_the_catalogs_own_suffixes_are_wildcards() {
    let secret = "arn:aws:secretsmanager:us-east-1:1:secret";
    assert_eq!(pattern(&format!("{secret}:db-??????")), format!("{secret}:db-??????"));
    assert_eq!(pattern(&format!("{secret}:*-??????")), format!("{secret}:${{*}}-??????"));
    assert_eq!(pattern(&format!("{secret}:-??????")), format!("{secret}:-{}", "${?}".repeat(6)));
    assert_eq!(pattern("arn:aws:s3:::b/db-??????"), format!("arn:aws:s3:::b/db-{}", "${?}".repeat(6)));
    let logs = "arn:aws:logs:us-east-1:1:log-group";
    assert_eq!(pattern(&format!("{logs}:/app:*")), format!("{logs}:/app:*"));
    assert_eq!(pattern(&format!("{logs}:*:*")), format!("{logs}:${{*}}:*"));
    assert_eq!(pattern(&format!("{logs}:*")), format!("{logs}:${{*}}"));
    assert_eq!(pattern(&format!("{logs}::*")), format!("{logs}::${{*}}"));
    assert_eq!(pattern(&format!("{logs}:a:log-stream:*")), format!("{logs}:a:log-stream:${{*}}"));
    assert_eq!(pattern("arn:aws:sqs:us-east-1:1:q:*"), "arn:aws:sqs:us-east-1:1:q:${*}");
}

#[test]
fn an_action_with_a_wildcard_is_refused() {
    for action in ["s3:*", "s3:Get?bject", "*", "s3", "s3:", ":GetObject", "s3:Get Object"] {
        let answer = session_policy(&operation(action, "arn:aws:s3:::b"), UNTIL, &PolicyExtras::default());
        assert_eq!(answer, Err(PolicyError::Action(action.to_owned())));
    }
}

#[test]
fn nothing_is_cut_for_no_demand_or_for_a_tool() {
    let answer = session_policy(&operation_of(&[]), UNTIL, &PolicyExtras::default());
    assert_eq!(answer, Err(PolicyError::NoDemand));
    let tool = operation_of(&[("s3:GetObject", Resource::McpServer("files".to_owned()))]);
    assert_eq!(session_policy(&tool, UNTIL, &PolicyExtras::default()), Err(PolicyError::NotAws));
}

#[test]
fn too_many_resources_fall_back_to_the_actions() {
    let demands: Vec<(&str, Resource)> = (0..100)
        .map(|n| ("s3:DeleteObject", Resource::Arn(format!("arn:aws:s3:::bucket/some/long/prefix/{n}"))))
        .collect();
    let cut = policy(&demands);
    assert_eq!(cut.scope, Scope::Actions);
    let statement = &read(&cut)["Statement"];
    assert_eq!(statement.as_array().unwrap().len(), 1);
    assert_eq!(statement[0]["Action"], json!(["s3:DeleteObject"]));
    assert_eq!(statement[0]["Resource"], json!(["*"]));
    assert!(statement[0]["Condition"]["DateLessThan"].is_object());
}

/// What IAM does with a pattern: `${*}`, `${?}` and `${$}` are the characters, bare `*` and `?` are wildcards.
fn iam_matches(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['$', '{', literal @ ('*' | '?' | '$'), '}', rest @ ..] => {
                text.first() == Some(literal) && go(rest, &text[1..])
            }
            ['*', rest @ ..] => (0..=text.len()).any(|skip| go(rest, &text[skip..])),
            ['?', rest @ ..] => !text.is_empty() && go(rest, &text[1..]),
            [first, rest @ ..] => text.first() == Some(first) && go(rest, &text[1..]),
        }
    }
    go(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn a_resource_matches_itself_and_nothing_else(name in "[a*?${}:/\\-]{1,8}", other in "[a*?${}:/\\-]{1,8}") {
        let (arn, elsewhere) = (format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{other}"));
        let pattern = pattern(&arn);
        prop_assert!(iam_matches(&pattern, &arn));
        prop_assert_eq!(iam_matches(&pattern, &elsewhere), arn == elsewhere);
    }

    #[test]
    fn any_name_stays_within_the_characters_of_sts(name in any::<String>()) {
        prop_assume!(!name.is_empty());
        let arn = format!("arn:aws:s3:::bucket/{name}");
        let cut = policy(&[("s3:GetObject", Resource::Arn(arn.clone()))]);
        let stays = cut.json.chars().all(|character| (' '..='\u{ff}').contains(&character));
        prop_assert!(stays, "{}", cut.json);
        prop_assert!(cut.json.chars().count() <= limits::SESSION_POLICY);
        if cut.scope == Scope::Operation {
            let pattern = read(&cut)["Statement"][0]["Resource"][0].as_str().unwrap().to_owned();
            prop_assert!(iam_matches(&pattern, &arn));
        }
    }
}
