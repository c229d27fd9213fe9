//! What a message says, and that text of an agent stays text in it.

use super::test_notifications::{
    CONSOLE_URL, START_TIME, approver_vote, history_event, new_approval_request, pending_request,
};
use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary};
use crate::{NotificationEvent, email, slack, webhook};
use durward_approval::{ApprovalEventKind, ApprovalRequest, ApprovalState};
use durward_core::is_invisible;
use serde_json::{Value, json};

const REQUEST_URL: &str = "https://durward.example.com/approvals/0193498c0b1e7d3c8f0e5d1a2b3c4d60";

fn summarize(request: &ApprovalRequest, event: NotificationEvent) -> RequestSummary {
    RequestSummary::from_request(request, event, CONSOLE_URL, START_TIME)
}

fn plain_request() -> ApprovalRequest {
    pending_request(new_approval_request("arn:aws:s3:::prod-logs", |_json| {}))
}

#[test]
fn a_mail_says_what_who_risk_and_until_when_in_its_subject() {
    let mail = email::render_request(&summarize(&plain_request(), NotificationEvent::Opened));
    assert_eq!(
        mail.subject,
        "Durward: s3:DeleteBucket on prod-logs, requested by corp/deploy-agent for alice: risk 85 (severe), decide by \
         03:12:05 UTC (in 5 min)"
    );
    let wanted = "\
s3:DeleteBucket on prod-logs, requested by corp/deploy-agent for alice: risk 85 (severe), decide by 03:12:05 UTC (in 5 min)

Review and vote: https://durward.example.com/approvals/0193498c0b1e7d3c8f0e5d1a2b3c4d60
Opening the link decides nothing.

What          s3:DeleteBucket on arn:aws:s3:::prod-logs
Tags          critical=true
              owner=payroll
Account       123456789012
Region        eu-west-1
Connection    prod
Requested by  corp/deploy-agent, a workload
On behalf of  alice
Risk          85 of 100, severe
              +30 changes data or configuration
              +30 cannot be undone
Policy        delete-critical-bucket requires 2 of platform-oncall
              forbidden by delete-critical-bucket
Until         2026-11-21 03:12:05 UTC (in 5 min), then it is refused
";
    assert_eq!(mail.text, wanted);
}

#[test]
fn a_slack_message_says_the_same_in_text_and_blocks() {
    let message = slack::render_request(&summarize(&plain_request(), NotificationEvent::Opened));
    let text = message["text"].as_str().unwrap();
    let wanted = "\
`s3:DeleteBucket` on `prod-logs`, requested by `corp/deploy-agent` for `alice`: risk 85 (severe), decide by 03:12:05 UTC (in 5 min)
<https://durward.example.com/approvals/0193498c0b1e7d3c8f0e5d1a2b3c4d60|Review and vote>
• `s3:DeleteBucket` on `arn:aws:s3:::prod-logs`
*Tags* `critical=true` `owner=payroll`
*Account* `123456789012` · *Region* `eu-west-1` · *Connection* `prod`
*Requested by* `corp/deploy-agent`, a workload, on behalf of `alice`
*Risk* 85 of 100, severe: +30 changes data or configuration; +30 cannot be undone
*Policy* `delete-critical-bucket` requires 2 of `platform-oncall`
*Policy says* forbidden by delete-critical-bucket
*Until* 2026-11-21 03:12:05 UTC (in 5 min), then it is refused";
    assert_eq!(text, wanted);
    let blocks: Vec<&str> = message["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block["text"]["text"].as_str())
        .collect();
    assert_eq!(blocks.join("\n"), text);
}

/// A request that tries to add lines, headers, mentions, links and styles wherever a caller can choose text.
fn hostile_request() -> ApprovalRequest {
    const HOSTILE_TEXT: &str = "x`*b* <!channel> <https://evil.test|ok> @here [y](https://evil.test) www.evil.test &amp;\
        \r\nBcc: eve@evil.test\n\nApproved \u{202e}gnihton\u{200b}\u{1b}[31m";
    let mut hostile =
        pending_request(new_approval_request(&format!("arn:aws:s3:::{HOSTILE_TEXT}"), |json| {
            json["caller"]["subject"] = json!(HOSTILE_TEXT);
            json["caller"]["act"] = json!([HOSTILE_TEXT, HOSTILE_TEXT]);
            json["operation"]["name"] = json!(HOSTILE_TEXT);
            json["operation"]["region"] = json!(HOSTILE_TEXT);
            json["operation"]["required_permissions"][0]["action"] = json!(HOSTILE_TEXT);
            json["operation"]["uninspected_parts"] = json!([HOSTILE_TEXT]);
            json["requirements"][0]["policy"] = json!(HOSTILE_TEXT);
            json["requirements"][0]["group"] = json!(HOSTILE_TEXT);
            json["reason"] = json!(HOSTILE_TEXT);
            json["tags"] = json!({"x": {HOSTILE_TEXT: HOSTILE_TEXT}});
        }));
    hostile.risk.reasons.push(HOSTILE_TEXT.to_owned());
    hostile.votes = vec![approver_vote(HOSTILE_TEXT, false, Some(HOSTILE_TEXT))];
    hostile
}

/// A message without its code spans.
fn outside_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

#[test]
fn no_text_breaks_out_of_a_slack_message() {
    for (event, state) in [
        (NotificationEvent::Opened, ApprovalState::Pending),
        (NotificationEvent::Closed, ApprovalState::Denied),
        (NotificationEvent::BreakGlass, ApprovalState::Denied),
    ] {
        let message =
            slack::render_request(&summarize(&ApprovalRequest { state, ..hostile_request() }, event));
        let text = message["text"].as_str().unwrap();
        assert_eq!(text.matches('<').count(), 1, "only our own link: {text}");
        assert!(text.contains(&format!("<{REQUEST_URL}|")), "{text}");
        assert_eq!(text.matches('`').count() % 2, 0, "{text}");
        let outside = outside_code(text);
        for mark in ["evil", "@here", "[y]", "Bcc", "gnihton", "\\u{"] {
            assert!(!outside.contains(mark), "{mark} outside of a code span: {outside}");
        }
        assert!(!text.chars().any(|character| character != '\n' && is_invisible(character)), "{text:?}");
        assert!(text.contains("\\u{60}") && text.contains("\\u{202e}gnihton\\u{200b}"), "{text}");
        for block in message["blocks"].as_array().unwrap() {
            let length = block["text"]["text"].as_str().unwrap_or_default().chars().count();
            assert!(length <= 3_000, "Slack refuses {length} characters");
        }
    }
}

#[test]
fn no_text_breaks_out_of_a_mail() {
    let harmless_lines =
        email::render_request(&summarize(&plain_request(), NotificationEvent::Opened)).text.lines().count();
    let mail = email::render_request(&summarize(&hostile_request(), NotificationEvent::Opened));
    assert!(!mail.subject.chars().any(is_invisible), "{:?}", mail.subject);
    assert!(!mail.text.chars().any(|character| character != '\n' && is_invisible(character)));
    let links: Vec<&str> =
        mail.text.lines().filter(|line| line.contains("://") || line.contains("www.")).collect();
    assert_eq!(links, [format!("Review and vote: {REQUEST_URL}")]);
    assert!(
        !mail.text.lines().any(|line| line.starts_with("Bcc") || line.starts_with("Approved")),
        "{}",
        mail.text
    );
    // An uninspected part takes two lines, one more actor and one more reason take one each; there is one tag less.
    assert_eq!(mail.text.lines().count(), harmless_lines + 3);
}

#[test]
fn long_names_keep_both_ends_and_leave_room_for_the_rest() {
    let name = format!("{}{}", "a".repeat(400), "-production");
    let summary = summarize(
        &pending_request(new_approval_request(&format!("arn:aws:s3:::{name}"), |_json| {})),
        NotificationEvent::Opened,
    );
    let subject = email::render_request(&summary).subject;
    assert!(subject.contains("aaa...") && subject.contains("-production, requested by"), "{subject}");
    assert!(
        subject.chars().count() < 250 && subject.ends_with("decide by 03:12:05 UTC (in 5 min)"),
        "{subject}"
    );
}

#[test]
fn uninspected_parts_and_unlisted_permissions_are_mentioned() {
    let many = pending_request(new_approval_request("arn:aws:s3:::b/0", |json| {
        let permission = |number: usize| json!({"access_level": "Write", "action": "s3:DeleteObject", "resource": {"arn": format!("arn:aws:s3:::b/{number}")}});
        json["operation"]["required_permissions"] = (0..9).map(permission).collect::<Value>();
        json["operation"]["uninspected_parts"] = json!(["body"]);
    }));
    let summary = summarize(&many, NotificationEvent::Opened);
    assert!(
        summary.headline().starts_with("s3:DeleteBucket on b/0 and 8 more, requested by"),
        "{}",
        summary.headline()
    );
    let mail = email::render_request(&summary).text;
    assert!(mail.contains("NOT INSPECTED: its content is unknown\n              - body\n"), "{mail}");
    assert!(mail.contains("and 4 more"), "{mail}");
    let slack = slack::render_request(&summary).to_string();
    assert!(
        slack.contains("*Not inspected*, its content is unknown: `body`") && slack.contains("and 4 more")
    );
}

#[test]
fn the_outcome_of_a_request_comes_first() {
    let end = |change: &dyn Fn(&mut ApprovalRequest), event| {
        let mut request = plain_request();
        change(&mut request);
        summarize(&request, event).headline()
    };
    let denied = end(
        &|request| {
            request.state = ApprovalState::Denied;
            request.votes = vec![approver_vote("Ann", false, Some("not now"))];
        },
        NotificationEvent::Closed,
    );
    assert!(denied.starts_with("Denied by Ann: s3:DeleteBucket on prod-logs, requested by"), "{denied}");
    let approved = end(
        &|request| {
            request.state = ApprovalState::Consumed;
            request.votes = vec![approver_vote("Ann", true, None), approver_vote("Bob", true, None)];
        },
        NotificationEvent::Closed,
    );
    assert!(approved.starts_with("Approved by Ann, Bob: "), "{approved}");
    let late = end(&|request| request.state = ApprovalState::TimedOut, NotificationEvent::Closed);
    assert!(late.starts_with("Timed out: "), "{late}");
    let replaced = end(
        &|request| {
            request.state = ApprovalState::Expired;
            request.history.push(history_event(ApprovalEventKind::Superseded));
        },
        NotificationEvent::Closed,
    );
    assert!(replaced.starts_with("Superseded: "), "{replaced}");
    let broken = end(
        &|request| {
            request.state = ApprovalState::Approved;
            request.break_glass = true;
            let mut vote = approver_vote("Fred", true, Some("it burns"));
            vote.break_glass = true;
            request.votes = vec![vote];
        },
        NotificationEvent::BreakGlass,
    );
    assert!(broken.starts_with("BREAK-GLASS by Fred: s3:DeleteBucket"), "{broken}");
}

#[test]
fn a_queued_request_past_its_deadline_may_still_be_approved() {
    let request = plain_request();
    let late =
        RequestSummary::from_request(&request, NotificationEvent::Opened, CONSOLE_URL, request.deadline);
    assert!(late.headline().ends_with("no longer waiting, may still be approved"), "{}", late.headline());
}

#[test]
fn a_program_gets_every_fact_unchanged() {
    let request = plain_request();
    let message = webhook::render_request(
        &request,
        &summarize(&request, NotificationEvent::Opened),
        NotificationEvent::Opened,
    );
    assert_eq!(message["type"], "approval_request.opened");
    assert_eq!(message["timestamp"], "2026-11-21T03:07:05Z");
    let data = &message["data"];
    assert_eq!(
        (&data["url"], &data["approval_request"]["id"]),
        (&json!(REQUEST_URL), &json!("0193498c0b1e7d3c8f0e5d1a2b3c4d60"))
    );
    assert_eq!(data["approval_request"]["required_permissions"][0]["resource"], "arn:aws:s3:::prod-logs");
    assert_eq!(data["approval_request"]["missing_votes"], json!([{"group": "platform-oncall", "count": 2}]));
    assert_eq!(data["approval_request"]["caller"]["act"], json!(["alice"]));
}

#[test]
fn a_batch_counts_and_names_the_first() {
    let headline = |number: usize| RequestHeadline {
        approval_request: number.to_string(),
        url: format!("{CONSOLE_URL}/approvals/{number}"),
        headline: format!("s3:DeleteBucket on b{number}` <!here> https://evil.test"),
    };
    let summary = BatchSummary {
        queue_url: format!("{CONSOLE_URL}/"),
        opened: (0..37).map(headline).collect(),
        closed: vec![headline(99)],
    };
    let mail = email::render_batch(&summary);
    assert_eq!(
        mail.subject,
        "Durward: 37 more approval requests are pending; 1 more approval request was decided or expired"
    );
    assert!(
        mail.text.contains("\n- and 28 more\n") && !mail.text.contains("evil.test\n  https://evil"),
        "{}",
        mail.text
    );
    let text = slack::render_batch(&summary)["text"].as_str().unwrap().to_owned();
    assert!(
        !outside_code(&text).contains("here") && text.contains(&format!("<{CONSOLE_URL}/|View all>")),
        "{text}"
    );
    let program = webhook::render_batch(&summary, START_TIME);
    assert_eq!(
        (&program["type"], &program["data"]["opened"]["count"]),
        (&json!("approval_requests.summary"), &json!(37))
    );
}

/// A request whose texts are all as long as they can be, and as long as possible after they are escaped.
fn longest_request(text: &str) -> ApprovalRequest {
    let numbered = |number: usize| format!("{number}{text}");
    let mut longest = pending_request(new_approval_request(&format!("arn:aws:s3:::{text}"), |json| {
        json["caller"]["subject"] = json!(text);
        json["caller"]["act"] = (0..20).map(numbered).collect();
        json["connection"] = json!(text);
        json["operation"]["name"] = json!(text);
        json["operation"]["region"] = json!(text);
        json["operation"]["account"] = json!(text);
        let permission = |number: usize| json!({"access_level": "Write", "action": numbered(number), "resource": {"arn": numbered(number)}});
        json["operation"]["required_permissions"] = (0..20).map(permission).collect::<Value>();
        json["operation"]["uninspected_parts"] = (0..20).map(numbered).collect();
        let requirement = |number: usize| {
            let mut one = json["requirements"][0].clone();
            one["policy"] = json!(numbered(number));
            one["group"] = json!(numbered(number));
            one
        };
        json["requirements"] = (0..20).map(requirement).collect();
        json["reason"] = json!(text);
        let tags: serde_json::Map<String, Value> =
            (0..20).map(|number| (numbered(number), json!(text))).collect();
        json["tags"] = json!({"x": tags});
    }));
    longest.risk.reasons = (0..20).map(numbered).collect();
    longest.votes = (0..20).map(|number| approver_vote(&numbered(number), true, Some(text))).collect();
    longest
}

/// What Slack refuses or cuts (Slack API: section block, message payloads), and the default limit of a Mattermost post.
fn assert_slack_accepts(message: &Value) {
    let blocks = message["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()), "{} blocks", blocks.len());
    for block in blocks {
        let text = block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()).unwrap();
        let length = text.chars().count();
        assert!((1..=3_000).contains(&length), "{length} characters in {text}");
        assert_eq!(text.matches('`').count() % 2, 0, "a code span is cut: {text}");
        // No escape sequence is cut in two.
        for part in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;"].iter().any(|entity| part.starts_with(entity)), "{text}");
        }
    }
    let length = message["text"].as_str().unwrap().chars().count();
    assert!(length <= 16_383, "{length} characters");
}

#[test]
fn no_text_makes_slack_refuse_a_message() {
    for character in ["`", "<", "&", "\u{1f525}", "\u{202e}", "x", "&`<"] {
        let request = longest_request(&character.repeat(2_000));
        for (event, state) in [
            (NotificationEvent::Opened, ApprovalState::Pending),
            (NotificationEvent::Closed, ApprovalState::Consumed),
            (NotificationEvent::BreakGlass, ApprovalState::Denied),
        ] {
            let request = ApprovalRequest { state, ..request.clone() };
            let summary = summarize(&request, event);
            assert_slack_accepts(&slack::render_request(&summary));
            let headline = RequestHeadline {
                approval_request: request.id.to_string(),
                url: summary.url.clone(),
                headline: summary.headline(),
            };
            let batch = BatchSummary {
                queue_url: format!("{CONSOLE_URL}/"),
                opened: vec![headline; 1_000],
                closed: Vec::new(),
            };
            assert_slack_accepts(&slack::render_batch(&batch));
        }
    }
}

#[test]
fn an_empty_text_is_a_code_span_too() {
    let request = pending_request(new_approval_request("arn:aws:s3:::b", |json| {
        json["caller"]["act"] = json!(["", ""]);
    }));
    let message = slack::render_request(&summarize(&request, NotificationEvent::Opened));
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("on behalf of `(empty)`, `(empty)`") && !text.contains("``"), "{text}");
}

#[test]
fn broad_grants_are_among_the_first_lines() {
    let mut request = plain_request();
    let position = "a<!channel>`\u{202e}https://evil.example/";
    let reason = format!("+50 allows every action on every resource: {position}, statement 40 of 40");
    request.risk.reasons.insert(0, reason);
    let summary = summarize(&request, NotificationEvent::Opened);
    let mail = email::render_request(&summary);
    let (before, _after) = mail.text.split_once("\nWhat ").unwrap();
    assert!(
        before.contains("BROAD GRANT:\n              - allows every action on every resource: a"),
        "{before}"
    );
    assert!(before.contains("statement 40 of 40") && !before.contains("https://evil"), "{before}");
    let message = slack::render_request(&summary);
    let line = message["text"].as_str().unwrap().lines().nth(2).unwrap();
    assert!(line.starts_with(":warning: *Broad grant*: `allows every action on every resource: a"), "{line}");
    assert!(line.ends_with("statement 40 of 40`") && !line.contains("<!channel>"), "{line}");
    assert!(!mail.text.contains('\u{202e}') && !line.contains('\u{202e}'), "{line}");
    let plain = summarize(&plain_request(), NotificationEvent::Opened);
    assert!(!email::render_request(&plain).text.contains("BROAD GRANT"));
}
