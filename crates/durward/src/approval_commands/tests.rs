//! What the approver commands print of a response.

use super::*;
use crate::terminal_text::TERMINAL_COLUMNS;

/// An approval request with the longest values that are usual: a UUID, ARNs, a caller that acts for a person.
fn large_request(state: &str) -> Value {
    let permission = |key: &str| {
        json!({
            "action": "s3:DeleteObjectVersion",
            "resource": { "arn": format!("arn:aws:s3:::a-bucket-with-a-rather-long-name/{key}") },
            "access_level": "Write",
        })
    };
    json!({
        "id": "019ac1b2-c3d4-7e5f-8a9b-0123456789ab",
        "title": "s3:DeleteObjects",
        "state": state,
        "risk": { "score": 100, "reasons": [] },
        "deadline": "2026-11-21T16:10:19Z",
        "grant_until": "2026-11-21T16:10:19Z",
        "uses": 1_000_000,
        "time_bound": true,
        "break_glass": true,
        "votes": [{ "is_approval": true, "by": { "id": format!("corp/{}", "ann".repeat(20)) } }],
        "missing_votes": [{ "count": 2, "group": "platform-oncall" }, { "count": 1, "group": "security" }],
        "details": {
            "caller": {
                "provider": "corp", "issuer": "https://login.example.com", "subject": "build-agent",
                "kind": "workload", "groups": [], "act": ["maria@example.com"],
            },
            "operation": { "required_permissions": [permission("a"), permission("b"), permission("a"), permission("c"),
                permission("d")] },
        },
    })
}

fn written(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_lists_fit_a_terminal_of_80_columns_and_never_cut_an_id() {
    let requests = ["pending", "approved", "timed_out", "consumed"].map(large_request);
    for text in
        [written(|out| write_request_list(&requests, out)), written(|out| write_grant_list(&requests, out))]
    {
        assert_eq!(text.matches("019ac1b2-c3d4-7e5f-8a9b-0123456789ab").count(), 4, "{text}");
        for part in ["2026-11-21 16:10:19 UTC", "corp/build-agent for maria@example.com"] {
            assert_eq!(text.matches(part).count(), 4, "{part} in {text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= TERMINAL_COLUMNS, "{line}");
        }
    }
}

#[test]
fn a_listed_request_names_its_resources_and_missing_votes() {
    let mut request = large_request("pending");
    (request["break_glass"], request["time_bound"]) = (json!(false), json!(false));
    request["details"]["operation"]["required_permissions"] =
        json!([{ "action": "s3:DeleteObject", "resource": { "arn": "arn:aws:s3:::b/k" } }]);
    let text = written(|out| write_request_list(&[request], out));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "019ac1b2-c3d4-7e5f-8a9b-0123456789ab  pending  100   2026-11-21 16:10:19 UTC");
    assert_eq!(lines[2], "  s3:DeleteObjects arn:aws:s3:::b/k");
    assert_eq!(lines[3], "  corp/build-agent for maria@example.com");
    assert_eq!(lines[4], "  missing 2 of platform-oncall, 1 of security");
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(written(|out| write_request_list(&[], out)), "no approval requests\n");
}

#[test]
fn an_id_that_would_change_the_path_is_refused() {
    assert_eq!(request_path("019ac1b2-c3d4").unwrap(), "/approval-requests/019ac1b2-c3d4");
    for id in ["", "../sessions", "01?x=y", "01/votes", "\u{1b}[2J", &"0".repeat(65)] {
        let error = request_path(id).unwrap_err().to_string();
        assert!(error.contains("is not an approval request id") && !error.contains('\u{1b}'), "{error}");
    }
}

/// A request to write a policy of forty statements, the last of which allows everything.
fn request_with_forty_statements() -> Value {
    let mut statements =
        vec![json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}); 39];
    statements.push(json!({"Sid": "Last", "Effect": "Allow", "Action": "*", "Resource": "*"}));
    let mut request = large_request("pending");
    request["risk"] = json!({"score": 100, "reasons": [
        "+50 allows every action on every resource: PolicyDocument, statement 40 of 40 (Last)",
        "+50 changes permissions",
    ]});
    request["details"]["operation"]["traits"] = json!({"irreversible": true});
    request["details"]["operation"]["parameters"] = json!({
        "PolicyDocument": json!({"Statement": statements}).to_string(),
        "RoleName": "r",
    });
    request
}

#[test]
fn what_is_broad_comes_before_the_parameters_and_in_lists() {
    let request = request_with_forty_statements();
    let text = written(|out| write_request_details(&request, out));
    let lines: Vec<&str> = text.lines().take(8).collect();
    let broad =
        "BROAD GRANT    allows every action on every resource: PolicyDocument, statement 40 of 40 (Last)";
    assert!(lines.contains(&broad), "{text}");
    assert!(lines.contains(&"IRREVERSIBLE   this cannot be undone"), "{text}");
    assert!(lines.contains(&"waiting        no caller, at this gateway"), "{text}");
    assert!(text.contains("\n    |       \"Sid\": \"Last\""), "{text}");
    assert_eq!(text.matches("\"Resource\": \"*\"").count(), 1, "{text}");
    assert!(text.contains("  parameter    RoleName = r\n"), "{text}");
    let list = written(|out| write_request_list(&[request], out));
    assert!(list.contains("  BROAD GRANT allows every action on every resource"), "{list}");
}

#[test]
fn no_line_of_a_document_looks_like_one_of_the_gateway() {
    let mut request = large_request("pending");
    let script =
        format!("#!/bin/sh\nrisk           0 of 100\n{}risk 0\n\n\u{1b}[2J\u{202e}end\r\n", "x".repeat(74));
    let hostile = json!({"\u{202e}\u{1b}": "a\u{200b}"}).to_string();
    request["details"]["operation"]["parameters"] =
        json!({"UserData": script, "Attributes": {"Policy": hostile, "Lines": ["a\nrisk 0"]}});
    let text = written(|out| write_request_details(&request, out));
    for line in [
        "    | #!/bin/sh",
        "    | risk           0 of 100",
        "    | risk 0",
        "    | \\u{1b}[2J\\u{202e}end\\u{d}",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(text.contains("  parameter    Attributes/Policy (JSON, indented)\n    | {\n"), "{text}");
    assert!(
        text.contains("  parameter    Attributes/Lines/0 (several lines)\n    | a\n    | risk 0\n"),
        "{text}"
    );
    assert!(
        !text.chars().any(|character| character != '\n' && durward_core::is_invisible(character)),
        "{text:?}"
    );
    assert_eq!(text.lines().filter(|line| line.starts_with("risk")).count(), 1, "{text}");
}

#[test]
fn a_document_that_is_cut_says_so() {
    let mut request = large_request("pending");
    let items: Vec<u32> = (0..20_000).collect();
    request["details"]["operation"]["parameters"] = json!({"Body": json!(items).to_string()});
    let text = written(|out| write_request_details(&request, out));
    assert!(text.contains("NOT SHOWN"), "{}", text.len());
    assert!(text.len() < 200_000, "{}", text.len());
}
