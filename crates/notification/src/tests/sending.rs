//! What reaches receivers, and when.

use super::stage::{SECRET, Stage, slack, webhook};
use crate::channel::MailServer;
use crate::webhook::{Key, sign};
use crate::{Channel, Channels, Event};
use durward_core::Secret;
use http::Request;
use serde_json::Value;

fn types(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| body["type"].as_str().unwrap()).collect()
}

fn header<'r>(request: &'r Request<bytes::Bytes>, name: &str) -> &'r str {
    request.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn an_ask_is_announced_once_and_its_end_follows() {
    let stage = Stage::set().await;
    let notifier = stage.notifier(vec![slack("chat"), webhook("robot")]);
    notifier.settle().await;
    let ask = stage.ask("arn:aws:s3:::logs").await;
    notifier.settle().await;
    notifier.settle().await;
    let told = stage.receivers.bodies("chat.test");
    assert_eq!(told.len(), 1);
    assert!(told[0]["text"].as_str().unwrap().contains(&format!("/asks/{ask}|Look and answer>")), "{told:?}");
    let signed = stage.receivers.arrived("robot.test");
    let keys = Key::read_all(&Secret::new(SECRET)).unwrap();
    let timestamp = header(&signed[0], "webhook-timestamp").parse().unwrap();
    let signature = sign(&keys, header(&signed[0], "webhook-id"), timestamp, signed[0].body());
    assert_eq!(header(&signed[0], "webhook-signature"), signature);
    stage.deny(ask).await;
    notifier.settle().await;
    let told = stage.receivers.bodies("chat.test");
    assert!(told[0]["text"].as_str().unwrap().starts_with("Denied by `ann`: `s3:DeleteBucket`"), "{told:?}");
    assert_eq!(types(&stage.receivers.bodies("robot.test")), ["ask.closed"]);
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn what_is_answered_before_it_is_announced_is_not_announced_to_people() {
    let stage = Stage::set().await;
    let notifier = stage.notifier(vec![slack("chat"), webhook("robot")]);
    notifier.settle().await;
    stage.receivers.will_answer("chat.test", &[(500, None)]);
    stage.receivers.will_answer("robot.test", &[(500, None)]);
    let ask = stage.ask("arn:aws:s3:::logs").await;
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 1, "it was tried");
    stage.receivers.arrived("robot.test");
    stage.deny(ask).await;
    stage.pass(3_600);
    notifier.settle().await;
    assert_eq!(stage.receivers.bodies("chat.test"), [] as [Value; 0]);
    assert_eq!(
        types(&stage.receivers.bodies("robot.test")),
        ["ask.closed"],
        "a program is told all that is still true"
    );
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_later_with_the_same_id() {
    let stage = Stage::set().await;
    let notifier = stage.notifier(vec![webhook("robot")]);
    notifier.settle().await;
    stage.receivers.will_answer("robot.test", &[(500, None), (0, None), (429, Some("60"))]);
    stage.ask("arn:aws:s3:::logs").await;
    let mut ids = Vec::new();
    for (wait, wanted) in [(0, 1), (4, 0), (1, 1), (29, 0), (1, 1), (119, 0), (1, 1), (9_999, 0)] {
        stage.pass(wait);
        notifier.settle().await;
        let arrived = stage.receivers.arrived("robot.test");
        assert_eq!(arrived.len(), wanted, "after {wait} s more");
        ids.extend(arrived.iter().map(|request| header(request, "webhook-id").to_owned()));
        if ids.len() == 4 {
            break;
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "receivers tell repeats by the id: {ids:?}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_with_its_reason() {
    let stage = Stage::set().await;
    let channels = vec![slack("chat")];
    let status = Channels::new(stage.store.clone(), &channels);
    let notifier = stage.notifier(channels);
    notifier.settle().await;
    stage.receivers.will_answer("chat.test", &[(404, None)]);
    stage.ask("arn:aws:s3:::logs").await;
    notifier.settle().await;
    stage.pass(7_200);
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 1);
    let now = status.status().await.unwrap();
    assert_eq!((now[0].waiting, now[0].last_error.as_deref()), (0, Some("it answered 404")));
    assert!(now[0].failing_since.is_some() && now[0].last_success.is_none());
}

#[tokio::test]
async fn a_dead_channel_is_visible_and_another_still_gets_its_messages() {
    let stage = Stage::set().await;
    let channels = vec![slack("dead"), slack("chat")];
    let status = Channels::new(stage.store.clone(), &channels);
    let notifier = stage.notifier(channels);
    notifier.settle().await;
    stage.receivers.will_answer("dead.test", &[(0, None); 100]);
    for number in 0..3 {
        stage.ask(&format!("arn:aws:s3:::b{number}")).await;
    }
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 3);
    let now = status.status().await.unwrap();
    assert_eq!((now[0].name.as_str(), now[0].waiting, now[1].waiting), ("dead", 3, 0));
    assert!(
        now[0].failing_since.is_some() && now[1].failing_since.is_none() && now[1].last_success.is_some()
    );
    let error = now[0].last_error.clone().unwrap();
    assert!(error.contains("connection refused") && !error.contains("token"), "{error}");
    stage.receivers.will_answer("dead.test", &[]);
    stage.pass(5);
    notifier.settle().await;
    let now = status.status().await.unwrap();
    assert_eq!((now[0].waiting, now[0].failing_since, now[0].last_error.clone()), (0, None, None));
}

#[tokio::test]
async fn a_flood_is_told_in_ten_messages_a_minute() {
    let stage = Stage::set().await;
    let notifier = stage.notifier(vec![slack("chat")]);
    notifier.settle().await;
    for number in 0..150 {
        stage.ask(&format!("arn:aws:s3:::b{number}")).await;
    }
    notifier.settle().await;
    let told = stage.receivers.bodies("chat.test");
    assert_eq!(told.len(), 10);
    let last = told[9]["text"].as_str().unwrap();
    assert!(last.starts_with("141 more asks wait for an answer\n<https://durward.example.com/|"), "{last}");
    let more = stage.ask("arn:aws:s3:::one-more").await;
    stage.pass(59);
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 0);
    stage.break_glass(more).await;
    notifier.settle().await;
    let loud = stage.receivers.bodies("chat.test");
    assert!(
        loud.len() == 1 && loud[0]["text"].as_str().unwrap().contains("BREAK-GLASS by `fred`"),
        "{loud:?}"
    );
    stage.ask("arn:aws:s3:::another").await;
    stage.pass(1);
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 1);
}

#[tokio::test]
async fn two_processes_on_one_store_tell_once_and_one_that_died_is_stood_in_for() {
    let stage = Stage::set().await;
    let (one, two) = (stage.notifier(vec![slack("chat")]), stage.notifier(vec![slack("chat")]));
    one.settle().await;
    for number in 0..8 {
        stage.ask(&format!("arn:aws:s3:::b{number}")).await;
    }
    tokio::join!(one.settle(), two.settle());
    assert_eq!(stage.receivers.arrived("chat.test").len(), 8);
    // As one that was killed between the store and the network.
    stage.ask("arn:aws:s3:::left").await;
    one.take_and_die().await;
    two.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 0, "it may be on its way");
    stage.pass(15);
    two.settle().await;
    assert_eq!(stage.receivers.arrived("chat.test").len(), 1);
}

#[tokio::test]
async fn what_was_asked_while_nobody_ran_is_told_at_the_next_start() {
    let stage = Stage::set().await;
    stage.notifier(vec![slack("chat")]).settle().await;
    let over = stage.ask("arn:aws:s3:::over").await;
    stage.ask("arn:aws:s3:::waits").await;
    stage.deny(over).await;
    let notifier = stage.notifier(vec![slack("chat"), webhook("new")]);
    notifier.settle().await;
    let told = stage.receivers.bodies("chat.test");
    assert!(told.len() == 1 && told[0]["text"].as_str().unwrap().contains("waits"), "{told:?}");
    assert_eq!(
        types(&stage.receivers.bodies("new.test")),
        ["ask.opened"],
        "a new channel hears of what waits"
    );
}

#[tokio::test]
async fn a_channel_gets_what_its_groups_may_answer_and_the_events_it_wants() {
    let stage = Stage::set().await;
    let url = |host: &str| Secret::new(format!("https://{host}.test/x"));
    let group = |name: &str| vec![name.to_owned()];
    let channels = vec![
        Channel::slack("mine", group("platform-oncall"), &url("mine")).unwrap(),
        Channel::slack("other", group("database-oncall"), &url("other")).unwrap(),
        Channel::webhook("ends", Vec::new(), &url("ends"), &Secret::new(SECRET), vec![Event::Closed])
            .unwrap(),
    ];
    let notifier = stage.notifier(channels);
    notifier.settle().await;
    let ask = stage.ask("arn:aws:s3:::logs").await;
    notifier.settle().await;
    stage.deny(ask).await;
    notifier.settle().await;
    assert_eq!(stage.receivers.arrived("mine.test").len(), 2);
    assert_eq!(stage.receivers.arrived("other.test").len(), 0);
    assert_eq!(types(&stage.receivers.bodies("ends.test")), ["ask.closed"]);
}

#[test]
fn addresses_are_secret_and_travel_encrypted() {
    for (url, wanted) in [
        ("http://hooks.example.com/s3cret", "in the clear"),
        ("hooks.example.com/s3cret", "is not a URL"),
        ("ftp://hooks.example.com/s3cret", "is not a URL"),
        ("https://user:s3cret@hooks.example.com/", "leave them out"),
    ] {
        let error = Channel::slack("c", Vec::new(), &Secret::new(url)).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("s3cret"), "{error}");
    }
    let channel = Channel::slack("c", Vec::new(), &Secret::new("http://127.0.0.1:9/s3cret\n")).unwrap();
    assert!(!format!("{channel:?}").contains("s3cret"));
    assert_eq!(channel.origin().as_deref(), Some("http://127.0.0.1:9"));
    for (url, wanted) in [
        ("smtp://mail.example.com", Some(("mail.example.com", 587, false))),
        ("smtps://[::1]", Some(("::1", 465, true))),
        ("smtp://127.0.0.1:2525", Some(("127.0.0.1", 2525, false))),
        ("smtp://user@mail.example.com", None),
        ("mail.example.com:25", None),
        ("smtp://mail.example.com/x", None),
    ] {
        let server = MailServer::parse(url).ok();
        assert_eq!(
            server.as_ref().map(|server| (server.host.as_str(), server.port, server.tls)),
            wanted,
            "{url}"
        );
    }
}
