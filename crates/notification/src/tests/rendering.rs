//! What a message says, and that nothing an agent wrote is more than text in it.

use super::stage::{CONSOLE, START, ask, happened, new_ask, vote};
use crate::brief::{Brief, Gist, Summary};
use crate::{Event, mail, slack, webhook};
use durward_approval::{Ask, State};
use durward_core::is_hidden;
use serde_json::{Value, json};

const URL: &str = "https://durward.example.com/asks/0193498c0b1e7d3c8f0e5d1a2b3c4d60";

fn brief(ask: &Ask, event: Event) -> Brief {
    Brief::of(ask, event, CONSOLE, START)
}

fn plain() -> Ask {
    ask(new_ask("arn:aws:s3:::prod-logs", |_ask| {}))
}

#[test]
fn a_mail_says_what_who_risk_and_until_when_in_its_subject() {
    let mail = mail::render(&brief(&plain(), Event::Opened));
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
    let message = slack::render(&brief(&plain(), Event::Opened));
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
fn hostile() -> Ask {
    const EVIL: &str = "x`*b* <!channel> <https://evil.test|ok> @here [y](https://evil.test) www.evil.test &amp;\
        \r\nBcc: eve@evil.test\n\nApproved \u{202e}gnihton\u{200b}\u{1b}[31m";
    let mut hostile = ask(new_ask(&format!("arn:aws:s3:::{EVIL}"), |ask| {
        ask["caller"]["subject"] = json!(EVIL);
        ask["caller"]["act"] = json!([EVIL, EVIL]);
        ask["operation"]["name"] = json!(EVIL);
        ask["operation"]["region"] = json!(EVIL);
        ask["operation"]["demands"][0]["action"] = json!(EVIL);
        ask["operation"]["uninspected"] = json!([EVIL]);
        ask["requirements"][0]["policy"] = json!(EVIL);
        ask["requirements"][0]["group"] = json!(EVIL);
        ask["reason"] = json!(EVIL);
        ask["tags"] = json!({"x": {EVIL: EVIL}});
    }));
    hostile.risk.reasons.push(EVIL.to_owned());
    hostile.votes = vec![vote(EVIL, false, Some(EVIL))];
    hostile
}

/// The texts of a message without its code spans.
fn outside_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

#[test]
fn nothing_breaks_out_of_a_slack_message() {
    for (event, state) in
        [(Event::Opened, State::Pending), (Event::Closed, State::Denied), (Event::BreakGlass, State::Denied)]
    {
        let message = slack::render(&brief(&Ask { state, ..hostile() }, event));
        let text = message["text"].as_str().unwrap();
        assert_eq!(text.matches('<').count(), 1, "one link, ours: {text}");
        assert!(text.contains(&format!("<{URL}|Look")), "{text}");
        assert_eq!(text.matches('`').count() % 2, 0, "{text}");
        let outside = outside_code(text);
        for mark in ["evil", "@here", "[y]", "Bcc", "gnihton", "\\u{"] {
            assert!(!outside.contains(mark), "{mark} outside of a code span: {outside}");
        }
        assert!(!text.chars().any(|character| character != '\n' && is_hidden(character)), "{text:?}");
        assert!(text.contains("\\u{60}") && text.contains("\\u{202e}gnihton\\u{200b}"), "{text}");
        for block in message["blocks"].as_array().unwrap() {
            let length = block["text"]["text"].as_str().unwrap_or_default().chars().count();
            assert!(length <= 3_000, "Slack refuses {length} characters");
        }
    }
}

#[test]
fn nothing_breaks_out_of_a_mail() {
    let honest = mail::render(&brief(&plain(), Event::Opened)).text.lines().count();
    let mail = mail::render(&brief(&hostile(), Event::Opened));
    assert!(!mail.subject.chars().any(is_hidden), "{:?}", mail.subject);
    assert!(!mail.text.chars().any(|character| character != '\n' && is_hidden(character)));
    let links: Vec<&str> =
        mail.text.lines().filter(|line| line.contains("://") || line.contains("www.")).collect();
    assert_eq!(links, [format!("Look and answer: {URL}")]);
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
    let brief = brief(&ask(new_ask(&format!("arn:aws:s3:::{name}"), |_ask| {})), Event::Opened);
    let subject = mail::render(&brief).subject;
    assert!(subject.contains("aaa...") && subject.contains("-production, asked by"), "{subject}");
    assert!(
        subject.chars().count() < 250 && subject.ends_with("answer by 03:12:05 UTC (in 5 min)"),
        "{subject}"
    );
}

#[test]
fn what_was_not_inspected_and_what_is_not_listed_is_said() {
    let many = ask(new_ask("arn:aws:s3:::b/0", |ask| {
        let demand = |number: usize| json!({"access_level": "Write", "action": "s3:DeleteObject", "resource": {"arn": format!("arn:aws:s3:::b/{number}")}});
        ask["operation"]["demands"] = (0..9).map(demand).collect::<Value>();
        ask["operation"]["uninspected"] = json!(["body"]);
    }));
    let brief = brief(&many, Event::Opened);
    assert!(
        brief.headline().starts_with("s3:DeleteBucket on b/0 and 8 more, asked by"),
        "{}",
        brief.headline()
    );
    let mail = mail::render(&brief).text;
    assert!(mail.contains("NOT INSPECTED: nobody can say what is in it\n              - body\n"), "{mail}");
    assert!(mail.contains("and 4 more"), "{mail}");
    let slack = slack::render(&brief).to_string();
    assert!(
        slack.contains("*Not inspected*, nobody can say what is in it: `body`")
            && slack.contains("and 4 more")
    );
}

#[test]
fn how_an_ask_ended_is_said_first() {
    let end = |change: &dyn Fn(&mut Ask), event| {
        let mut ask = plain();
        change(&mut ask);
        brief(&ask, event).headline()
    };
    let denied = end(
        &|ask| {
            ask.state = State::Denied;
            ask.votes = vec![vote("Ann", false, Some("not now"))];
        },
        Event::Closed,
    );
    assert!(denied.starts_with("Denied by Ann: s3:DeleteBucket on prod-logs, asked by"), "{denied}");
    let approved = end(
        &|ask| {
            ask.state = State::Used;
            ask.votes = vec![vote("Ann", true, None), vote("Bob", true, None)];
        },
        Event::Closed,
    );
    assert!(approved.starts_with("Approved by Ann, Bob: "), "{approved}");
    let late = end(&|ask| ask.state = State::TimedOut, Event::Closed);
    assert!(late.starts_with("Not answered in time: "), "{late}");
    let replaced = end(
        &|ask| {
            ask.state = State::Expired;
            ask.history.push(happened("superseded"));
        },
        Event::Closed,
    );
    assert!(replaced.starts_with("Replaced: "), "{replaced}");
    let broken = end(
        &|ask| {
            ask.state = State::Approved;
            ask.break_glass = true;
            let mut vote = vote("Fred", true, Some("it burns"));
            vote.break_glass = true;
            ask.votes = vec![vote];
        },
        Event::BreakGlass,
    );
    assert!(broken.starts_with("BREAK-GLASS by Fred: s3:DeleteBucket"), "{broken}");
}

#[test]
fn a_queued_ask_after_its_deadline_says_that_it_may_still_be_approved() {
    let ask = plain();
    let late = Brief::of(&ask, Event::Opened, CONSOLE, ask.deadline);
    assert!(late.headline().ends_with("no longer held, may still be approved"), "{}", late.headline());
}

#[test]
fn a_program_gets_every_fact_as_it_is() {
    let ask = plain();
    let message = webhook::render(&ask, &brief(&ask, Event::Opened), Event::Opened);
    assert_eq!(message["type"], "ask.opened");
    assert_eq!(message["timestamp"], "2026-11-21T03:07:05Z");
    let data = &message["data"];
    assert_eq!((&data["url"], &data["ask"]["id"]), (&json!(URL), &json!("0193498c0b1e7d3c8f0e5d1a2b3c4d60")));
    assert_eq!(data["ask"]["demands"][0]["resource"], "arn:aws:s3:::prod-logs");
    assert_eq!(data["ask"]["missing"], json!([{"group": "platform-oncall", "people": 2}]));
    assert_eq!(data["ask"]["caller"]["act"], json!(["alice"]));
}

#[test]
fn a_summary_counts_and_names_the_first() {
    let gist = |number: usize| Gist {
        ask: number.to_string(),
        url: format!("{CONSOLE}/asks/{number}"),
        headline: format!("s3:DeleteBucket on b{number}` <!here> https://evil.test"),
    };
    let summary =
        Summary { url: format!("{CONSOLE}/"), opened: (0..37).map(gist).collect(), closed: vec![gist(99)] };
    let mail = mail::render_summary(&summary);
    assert_eq!(mail.subject, "Durward: 37 more asks wait for an answer; 1 more ask was answered or is over");
    assert!(
        mail.text.contains("\n- and 28 more\n") && !mail.text.contains("evil.test\n  https://evil"),
        "{}",
        mail.text
    );
    let text = slack::render_summary(&summary)["text"].as_str().unwrap().to_owned();
    assert!(
        !outside_code(&text).contains("here") && text.contains(&format!("<{CONSOLE}/|See all of them>")),
        "{text}"
    );
    let program = webhook::render_summary(&summary, START);
    assert_eq!((&program["type"], &program["data"]["opened"]["count"]), (&json!("asks.summary"), &json!(37)));
}
