//! What a message says, and that nothing an agent wrote is more than text in it.

use super::test_notifications::{
    CONSOLE_URL, START_TIME, approver_vote, history_event, new_approval_request, pending_request,
};
use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary};
use crate::{NotificationEvent, email, slack, webhook};
use durward_approval::{ApprovalRequest, ApprovalState};
use durward_core::is_invisible;
use serde_json::{Value, json};

const REQUEST_URL: &str = "https://durward.example.com/asks/0193498c0b1e7d3c8f0e5d1a2b3c4d60";

fn summarize(ask: &ApprovalRequest, event: NotificationEvent) -> RequestSummary {
    RequestSummary::from_request(ask, event, CONSOLE_URL, START_TIME)
}

fn plain_request() -> ApprovalRequest {
    pending_request(new_approval_request("arn:aws:s3:::prod-logs", |_ask| {}))
}

#[test]
fn a_mail_says_what_who_risk_and_until_when_in_its_subject() {
    let mail = email::render_request(&summarize(&plain_request(), NotificationEvent::Opened));
    assert_eq!(
        mail.subject,
        "Durward: s3:DeleteBucket on prod-logs, asked by corp/deploy-agent for alice: risk 85 (severe), answer by \
         03:12:05 UTC (in 5 min)"
    );
    let wanted = "\
s3:DeleteBucket on prod-logs, asked by corp/deploy-agent for alice: risk 85 (severe), answer by 03:12:05 UTC (in 5 min)

Look and answer: https://durward.example.com/asks/0193498c0b1e7d3c8f0e5d1a2b3c4d60
Opening the link decides nothing.

What          s3:DeleteBucket on arn:aws:s3:::prod-logs
Tags          critical=true
              owner=payroll
Account       123456789012
Region        eu-west-1
Connection    prod
Asked by      corp/deploy-agent, a workload
On behalf of  alice
Risk          85 of 100, severe
              +30 it changes something
              +30 it cannot be undone
Policy        delete-critical-bucket asks 2 of platform-oncall
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
`s3:DeleteBucket` on `prod-logs`, asked by `corp/deploy-agent` for `alice`: risk 85 (severe), answer by 03:12:05 UTC (in 5 min)
<https://durward.example.com/asks/0193498c0b1e7d3c8f0e5d1a2b3c4d60|Look and answer>
• `s3:DeleteBucket` on `arn:aws:s3:::prod-logs`
*Tags* `critical=true` `owner=payroll`
*Account* `123456789012` · *Region* `eu-west-1` · *Connection* `prod`
*Asked by* `corp/deploy-agent`, a workload, on behalf of `alice`
*Risk* 85 of 100, severe: +30 it changes something; +30 it cannot be undone
*Policy* `delete-critical-bucket` asks 2 of `platform-oncall`
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

/// Tries to add lines, headers, mentions, links and styles wherever a caller could write.
fn hostile_request() -> ApprovalRequest {
    const HOSTILE_TEXT: &str = "x`*b* <!channel> <https://evil.test|ok> @here [y](https://evil.test) www.evil.test &amp;\
        \r\nBcc: eve@evil.test\n\nApproved \u{202e}gnihton\u{200b}\u{1b}[31m";
    let mut hostile = pending_request(new_approval_request(&format!("arn:aws:s3:::{HOSTILE_TEXT}"), |ask| {
        ask["caller"]["subject"] = json!(HOSTILE_TEXT);
        ask["caller"]["act"] = json!([HOSTILE_TEXT, HOSTILE_TEXT]);
        ask["operation"]["name"] = json!(HOSTILE_TEXT);
        ask["operation"]["region"] = json!(HOSTILE_TEXT);
        ask["operation"]["demands"][0]["action"] = json!(HOSTILE_TEXT);
        ask["operation"]["uninspected"] = json!([HOSTILE_TEXT]);
        ask["requirements"][0]["policy"] = json!(HOSTILE_TEXT);
        ask["requirements"][0]["group"] = json!(HOSTILE_TEXT);
        ask["reason"] = json!(HOSTILE_TEXT);
        ask["tags"] = json!({"x": {HOSTILE_TEXT: HOSTILE_TEXT}});
    }));
    hostile.risk.reasons.push(HOSTILE_TEXT.to_owned());
    hostile.votes = vec![approver_vote(HOSTILE_TEXT, false, Some(HOSTILE_TEXT))];
    hostile
}

/// The texts of a message without its code spans.
fn outside_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

#[test]
fn nothing_breaks_out_of_a_slack_message() {
    for (event, state) in [
        (NotificationEvent::Opened, ApprovalState::Pending),
        (NotificationEvent::Closed, ApprovalState::Denied),
        (NotificationEvent::BreakGlass, ApprovalState::Denied),
    ] {
        let message =
            slack::render_request(&summarize(&ApprovalRequest { state, ..hostile_request() }, event));
        let text = message["text"].as_str().unwrap();
        assert_eq!(text.matches('<').count(), 1, "one link, ours: {text}");
        assert!(text.contains(&format!("<{REQUEST_URL}|Look")), "{text}");
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
fn nothing_breaks_out_of_a_mail() {
    let honest =
        email::render_request(&summarize(&plain_request(), NotificationEvent::Opened)).text.lines().count();
    let mail = email::render_request(&summarize(&hostile_request(), NotificationEvent::Opened));
    assert!(!mail.subject.chars().any(is_invisible), "{:?}", mail.subject);
    assert!(!mail.text.chars().any(|character| character != '\n' && is_invisible(character)));
    let links: Vec<&str> =
        mail.text.lines().filter(|line| line.contains("://") || line.contains("www.")).collect();
    assert_eq!(links, [format!("Look and answer: {REQUEST_URL}")]);
    assert!(
        !mail.text.lines().any(|line| line.starts_with("Bcc") || line.starts_with("Approved")),
        "{}",
        mail.text
    );
    // a part that is not inspected has two lines; one more on whose behalf, and two more reasons, have one each; one tag is less
    assert_eq!(mail.text.lines().count(), honest + 4);
}

#[test]
fn long_names_keep_both_ends_and_leave_room_for_the_rest() {
    let name = format!("{}{}", "a".repeat(400), "-production");
    let brief = summarize(
        &pending_request(new_approval_request(&format!("arn:aws:s3:::{name}"), |_ask| {})),
        NotificationEvent::Opened,
    );
    let subject = email::render_request(&brief).subject;
    assert!(subject.contains("aaa...") && subject.contains("-production, asked by"), "{subject}");
    assert!(
        subject.chars().count() < 250 && subject.ends_with("answer by 03:12:05 UTC (in 5 min)"),
        "{subject}"
    );
}

#[test]
fn what_was_not_inspected_and_what_is_not_listed_is_said() {
    let many = pending_request(new_approval_request("arn:aws:s3:::b/0", |ask| {
        let demand = |number: usize| json!({"access_level": "Write", "action": "s3:DeleteObject", "resource": {"arn": format!("arn:aws:s3:::b/{number}")}});
        ask["operation"]["demands"] = (0..9).map(demand).collect::<Value>();
        ask["operation"]["uninspected"] = json!(["body"]);
    }));
    let brief = summarize(&many, NotificationEvent::Opened);
    assert!(
        brief.headline().starts_with("s3:DeleteBucket on b/0 and 8 more, asked by"),
        "{}",
        brief.headline()
    );
    let mail = email::render_request(&brief).text;
    assert!(mail.contains("NOT INSPECTED: nobody can say what is in it\n              - body\n"), "{mail}");
    assert!(mail.contains("and 4 more"), "{mail}");
    let slack = slack::render_request(&brief).to_string();
    assert!(
        slack.contains("*Not inspected*, nobody can say what is in it: `body`")
            && slack.contains("and 4 more")
    );
}

#[test]
fn the_outcome_of_a_request_comes_first() {
    let end = |change: &dyn Fn(&mut ApprovalRequest), event| {
        let mut ask = plain_request();
        change(&mut ask);
        summarize(&ask, event).headline()
    };
    let denied = end(
        &|ask| {
            ask.state = ApprovalState::Denied;
            ask.votes = vec![approver_vote("Ann", false, Some("not now"))];
        },
        NotificationEvent::Closed,
    );
    assert!(denied.starts_with("Denied by Ann: s3:DeleteBucket on prod-logs, asked by"), "{denied}");
    let approved = end(
        &|ask| {
            ask.state = ApprovalState::Consumed;
            ask.votes = vec![approver_vote("Ann", true, None), approver_vote("Bob", true, None)];
        },
        NotificationEvent::Closed,
    );
    assert!(approved.starts_with("Approved by Ann, Bob: "), "{approved}");
    let late = end(&|ask| ask.state = ApprovalState::TimedOut, NotificationEvent::Closed);
    assert!(late.starts_with("Not answered in time: "), "{late}");
    let replaced = end(
        &|ask| {
            ask.state = ApprovalState::Expired;
            ask.history.push(history_event("superseded"));
        },
        NotificationEvent::Closed,
    );
    assert!(replaced.starts_with("Replaced: "), "{replaced}");
    let broken = end(
        &|ask| {
            ask.state = ApprovalState::Approved;
            ask.break_glass = true;
            let mut vote = approver_vote("Fred", true, Some("it burns"));
            vote.break_glass = true;
            ask.votes = vec![vote];
        },
        NotificationEvent::BreakGlass,
    );
    assert!(broken.starts_with("BREAK-GLASS by Fred: s3:DeleteBucket"), "{broken}");
}

#[test]
fn a_queued_request_past_its_deadline_may_still_be_approved() {
    let ask = plain_request();
    let late = RequestSummary::from_request(&ask, NotificationEvent::Opened, CONSOLE_URL, ask.deadline);
    assert!(late.headline().ends_with("no longer held, may still be approved"), "{}", late.headline());
}

#[test]
fn a_program_gets_every_fact_as_it_is() {
    let ask = plain_request();
    let message =
        webhook::render_request(&ask, &summarize(&ask, NotificationEvent::Opened), NotificationEvent::Opened);
    assert_eq!(message["type"], "ask.opened");
    assert_eq!(message["timestamp"], "2026-11-21T03:07:05Z");
    let data = &message["data"];
    assert_eq!(
        (&data["url"], &data["ask"]["id"]),
        (&json!(REQUEST_URL), &json!("0193498c0b1e7d3c8f0e5d1a2b3c4d60"))
    );
    assert_eq!(data["ask"]["demands"][0]["resource"], "arn:aws:s3:::prod-logs");
    assert_eq!(data["ask"]["missing"], json!([{"group": "platform-oncall", "people": 2}]));
    assert_eq!(data["ask"]["caller"]["act"], json!(["alice"]));
}

#[test]
fn a_batch_counts_and_names_the_first() {
    let gist = |number: usize| RequestHeadline {
        approval_request: number.to_string(),
        url: format!("{CONSOLE_URL}/asks/{number}"),
        headline: format!("s3:DeleteBucket on b{number}` <!here> https://evil.test"),
    };
    let summary = BatchSummary {
        queue_url: format!("{CONSOLE_URL}/"),
        opened: (0..37).map(gist).collect(),
        closed: vec![gist(99)],
    };
    let mail = email::render_batch(&summary);
    assert_eq!(mail.subject, "Durward: 37 more asks wait for an answer; 1 more ask was answered or is over");
    assert!(
        mail.text.contains("\n- and 28 more\n") && !mail.text.contains("evil.test\n  https://evil"),
        "{}",
        mail.text
    );
    let text = slack::render_batch(&summary)["text"].as_str().unwrap().to_owned();
    assert!(
        !outside_code(&text).contains("here") && text.contains(&format!("<{CONSOLE_URL}/|See all of them>")),
        "{text}"
    );
    let program = webhook::render_batch(&summary, START_TIME);
    assert_eq!((&program["type"], &program["data"]["opened"]["count"]), (&json!("asks.summary"), &json!(37)));
}
