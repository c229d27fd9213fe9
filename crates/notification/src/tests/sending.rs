//! What reaches receivers, and when.

use super::test_notifications::{SIGNING_SECRET, TestNotifications, slack_channel, webhook_channel};
use crate::webhook_signature::{WebhookSigningKey, sign_message};
use crate::{ChannelStatusReader, MailServer, NotificationChannel, NotificationEvent};
use durward_core::Secret;
use http::Request;
use serde_json::Value;
use std::sync::Arc;

fn event_types(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| body["type"].as_str().unwrap()).collect()
}

fn header_value<'r>(request: &'r Request<bytes::Bytes>, name: &str) -> &'r str {
    request.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn a_request_is_announced_once_and_its_end_follows() {
    let fixture = TestNotifications::new().await;
    let notifier = fixture.notifier(vec![slack_channel("chat"), webhook_channel("robot")]);
    notifier.run_until_idle().await;
    let request = fixture.request_approval("arn:aws:s3:::logs").await;
    notifier.run_until_idle().await;
    notifier.run_until_idle().await;
    let messages = fixture.receivers.take_bodies("chat.test");
    assert_eq!(messages.len(), 1);
    assert!(
        messages[0]["text"].as_str().unwrap().contains("risk 85 (severe)"),
        "the risk is stored: {messages:?}"
    );
    assert!(
        messages[0]["text"].as_str().unwrap().contains(&format!("/approvals/{request}|Review and vote>")),
        "{messages:?}"
    );
    let signed = fixture.receivers.take_received("robot.test");
    let keys = WebhookSigningKey::parse_all(&Secret::new(SIGNING_SECRET)).unwrap();
    let timestamp = header_value(&signed[0], "webhook-timestamp").parse().unwrap();
    let signature = sign_message(&keys, header_value(&signed[0], "webhook-id"), timestamp, signed[0].body());
    assert_eq!(header_value(&signed[0], "webhook-signature"), signature);
    fixture.deny(request).await;
    notifier.run_until_idle().await;
    let messages = fixture.receivers.take_bodies("chat.test");
    assert!(
        messages[0]["text"].as_str().unwrap().starts_with("Denied by `ann`: `s3:DeleteBucket`"),
        "{messages:?}"
    );
    assert_eq!(event_types(&fixture.receivers.take_bodies("robot.test")), ["approval_request.closed"]);
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn a_request_decided_before_its_announcement_is_not_announced_to_people() {
    let fixture = TestNotifications::new().await;
    let notifier = fixture.notifier(vec![slack_channel("chat"), webhook_channel("robot")]);
    notifier.run_until_idle().await;
    fixture.receivers.set_responses("chat.test", &[(500, None)]);
    fixture.receivers.set_responses("robot.test", &[(500, None)]);
    let request = fixture.request_approval("arn:aws:s3:::logs").await;
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 1, "the announcement was tried");
    fixture.receivers.take_received("robot.test");
    fixture.deny(request).await;
    fixture.advance_clock(3_600);
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_bodies("chat.test"), [] as [Value; 0]);
    assert_eq!(
        event_types(&fixture.receivers.take_bodies("robot.test")),
        ["approval_request.closed"],
        "a program gets every event that is still true"
    );
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_later_with_the_same_id() {
    let fixture = TestNotifications::new().await;
    let notifier = fixture.notifier(vec![webhook_channel("robot")]);
    notifier.run_until_idle().await;
    fixture.receivers.set_responses("robot.test", &[(500, None), (0, None), (429, Some("60"))]);
    fixture.request_approval("arn:aws:s3:::logs").await;
    let mut ids = Vec::new();
    for (wait, expected) in [(0, 1), (4, 0), (1, 1), (29, 0), (1, 1), (119, 0), (1, 1), (9_999, 0)] {
        fixture.advance_clock(wait);
        notifier.run_until_idle().await;
        let arrived = fixture.receivers.take_received("robot.test");
        assert_eq!(arrived.len(), expected, "after {wait} s more");
        ids.extend(arrived.iter().map(|request| header_value(request, "webhook-id").to_owned()));
        if ids.len() == 4 {
            break;
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "receivers recognise repeats by the id: {ids:?}");
}

#[tokio::test]
async fn a_permanent_refusal_is_given_up_with_its_reason() {
    let fixture = TestNotifications::new().await;
    let channels = vec![slack_channel("chat")];
    let status = ChannelStatusReader::new(fixture.store.clone(), &channels);
    let notifier = fixture.notifier(channels);
    notifier.run_until_idle().await;
    fixture.receivers.set_responses("chat.test", &[(404, None)]);
    fixture.request_approval("arn:aws:s3:::logs").await;
    notifier.run_until_idle().await;
    fixture.advance_clock(7_200);
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 1);
    let now = status.read_all().await.unwrap();
    assert_eq!((now[0].pending_messages, now[0].last_error.as_deref()), (0, Some("HTTP status 404")));
    assert!(now[0].failing_since.is_some() && now[0].last_success.is_none());
}

#[tokio::test]
async fn a_dead_channel_is_visible_and_another_still_gets_its_messages() {
    let fixture = TestNotifications::new().await;
    let channels = vec![slack_channel("dead"), slack_channel("chat")];
    let status = ChannelStatusReader::new(fixture.store.clone(), &channels);
    let notifier = fixture.notifier(channels);
    notifier.run_until_idle().await;
    fixture.receivers.set_responses("dead.test", &[(0, None); 100]);
    for number in 0..3 {
        fixture.request_approval(&format!("arn:aws:s3:::b{number}")).await;
    }
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 3);
    let now = status.read_all().await.unwrap();
    assert_eq!((now[0].name.as_str(), now[0].pending_messages, now[1].pending_messages), ("dead", 3, 0));
    assert!(
        now[0].failing_since.is_some() && now[1].failing_since.is_none() && now[1].last_success.is_some()
    );
    let error = now[0].last_error.clone().unwrap();
    assert!(error.contains("connection refused") && !error.contains("token"), "{error}");
    fixture.receivers.set_responses("dead.test", &[]);
    fixture.advance_clock(5);
    notifier.run_until_idle().await;
    let now = status.read_all().await.unwrap();
    assert_eq!((now[0].pending_messages, now[0].failing_since, now[0].last_error.clone()), (0, None, None));
}

#[tokio::test]
async fn a_flood_is_sent_as_ten_messages_a_minute() {
    let fixture = TestNotifications::new().await;
    let notifier = fixture.notifier(vec![slack_channel("chat")]);
    notifier.run_until_idle().await;
    for number in 0..150 {
        fixture.request_approval(&format!("arn:aws:s3:::b{number}")).await;
    }
    notifier.run_until_idle().await;
    let messages = fixture.receivers.take_bodies("chat.test");
    assert_eq!(messages.len(), 10);
    let last = messages[9]["text"].as_str().unwrap();
    assert!(
        last.starts_with("141 more approval requests are pending\n<https://durward.example.com/|"),
        "{last}"
    );
    let more = fixture.request_approval("arn:aws:s3:::one-more").await;
    fixture.advance_clock(59);
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 0);
    fixture.break_glass(more).await;
    notifier.run_until_idle().await;
    let break_glass = fixture.receivers.take_bodies("chat.test");
    assert!(
        break_glass.len() == 1 && break_glass[0]["text"].as_str().unwrap().contains("BREAK-GLASS by `fred`"),
        "{break_glass:?}"
    );
    fixture.request_approval("arn:aws:s3:::another").await;
    fixture.advance_clock(1);
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_send_once_and_one_takes_over_from_the_other() {
    let fixture = TestNotifications::new().await;
    let [one, two] = [(); 2].map(|()| Arc::new(fixture.notifier(vec![slack_channel("chat")])));
    one.run_until_idle().await;
    for number in 0..8 {
        fixture.request_approval(&format!("arn:aws:s3:::b{number}")).await;
    }
    let racers = [&one, &two].map(|notifier| {
        let notifier = Arc::clone(notifier);
        tokio::spawn(async move { notifier.run_until_idle().await })
    });
    for racer in racers {
        racer.await.unwrap();
    }
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 8);
    // Like a process that was killed between the store and the network.
    fixture.request_approval("arn:aws:s3:::left").await;
    one.claim_and_abandon().await;
    two.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 0, "it may still be sent by the other");
    fixture.advance_clock(15);
    two.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("chat.test").len(), 1);
}

#[tokio::test]
async fn requests_made_while_down_are_announced_at_the_next_start() {
    let fixture = TestNotifications::new().await;
    fixture.notifier(vec![slack_channel("chat")]).run_until_idle().await;
    let closed = fixture.request_approval("arn:aws:s3:::over").await;
    fixture.request_approval("arn:aws:s3:::waits").await;
    fixture.deny(closed).await;
    let notifier = fixture.notifier(vec![slack_channel("chat"), webhook_channel("new")]);
    notifier.run_until_idle().await;
    let messages = fixture.receivers.take_bodies("chat.test");
    assert!(messages.len() == 1 && messages[0]["text"].as_str().unwrap().contains("waits"), "{messages:?}");
    assert_eq!(
        event_types(&fixture.receivers.take_bodies("new.test")),
        ["approval_request.opened"],
        "a new channel begins with what is pending"
    );
}

#[tokio::test]
async fn a_channel_gets_the_requests_of_its_groups_and_its_events() {
    let fixture = TestNotifications::new().await;
    let url = |host: &str| Secret::new(format!("https://{host}.test/x"));
    let group = |name: &str| vec![name.to_owned()];
    let channels = vec![
        NotificationChannel::slack("mine", group("platform-oncall"), &url("mine")).unwrap(),
        NotificationChannel::slack("other", group("database-oncall"), &url("other")).unwrap(),
        NotificationChannel::webhook(
            "ends",
            Vec::new(),
            &url("ends"),
            &Secret::new(SIGNING_SECRET),
            vec![NotificationEvent::Closed],
        )
        .unwrap(),
    ];
    let notifier = fixture.notifier(channels);
    notifier.run_until_idle().await;
    let request = fixture.request_approval("arn:aws:s3:::logs").await;
    notifier.run_until_idle().await;
    fixture.deny(request).await;
    notifier.run_until_idle().await;
    assert_eq!(fixture.receivers.take_received("mine.test").len(), 2);
    assert_eq!(fixture.receivers.take_received("other.test").len(), 0);
    assert_eq!(event_types(&fixture.receivers.take_bodies("ends.test")), ["approval_request.closed"]);
}

#[test]
fn addresses_are_secret_and_travel_encrypted() {
    for (url, expected) in [
        ("http://hooks.example.com/s3cret", "unencrypted"),
        ("hooks.example.com/s3cret", "is not a URL"),
        ("ftp://hooks.example.com/s3cret", "is not a URL"),
        ("https://user:s3cret@hooks.example.com/", "leave them out"),
    ] {
        let error = NotificationChannel::slack("c", Vec::new(), &Secret::new(url)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
    }
    let channel =
        NotificationChannel::slack("c", Vec::new(), &Secret::new("http://127.0.0.1:9/s3cret\n")).unwrap();
    assert!(!format!("{channel:?}").contains("s3cret"));
    assert_eq!(channel.origin().map(|origin| origin.url()).as_deref(), Some("http://127.0.0.1:9"));
    for (url, expected) in [
        ("smtp://mail.example.com", Some(("mail.example.com", 587, false))),
        ("smtps://[::1]", Some(("::1", 465, true))),
        ("smtp://127.0.0.1:2525", Some(("127.0.0.1", 2525, false))),
        ("smtp://user@mail.example.com", None),
        ("mail.example.com:25", None),
        ("smtp://mail.example.com/x", None),
    ] {
        let server = MailServer::parse(url).ok();
        assert_eq!(
            server.as_ref().map(|server| (server.host.as_str(), server.port, server.implicit_tls)),
            expected,
            "{url}"
        );
    }
}
