//! The AWS SDK for Rust, unmodified: one slice of each service, configured by the environment alone.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &str = "correct horse battery staple rs";

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn gateway() -> Option<String> {
    std::env::var("DW_GATEWAY_URL").ok()
}

fn on_moto() -> bool {
    env("DW_KIND") == "moto"
}

fn account() -> String {
    env("DW_ROLE_ARN").split(':').nth(4).unwrap().to_owned()
}

async fn config() -> SdkConfig {
    aws_config::load_from_env().await
}

/// The caller who may reveal, signed in by the provider that the default chain uses.
async fn sre() -> SdkConfig {
    let answer = aws_sdk_sts::Client::new(&config().await)
        .assume_role_with_web_identity()
        .role_arn(env("DW_ROLE_ARN"))
        .role_session_name("sre")
        .web_identity_token(std::fs::read_to_string(env("DW_TOKEN_SRE")).unwrap())
        .send()
        .await
        .unwrap();
    let got = answer.credentials.unwrap();
    let credentials = aws_sdk_sts::config::Credentials::new(
        got.access_key_id,
        got.secret_access_key,
        Some(got.session_token),
        None,
        "sre",
    );
    config()
        .await
        .into_builder()
        .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(credentials))
        .build()
}

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("dw-rs-{nanos:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a sensitive value arrived as it should for the ordinary caller.
fn masked(value: &[u8]) -> bool {
    let whole = value == SECRET.as_bytes();
    if gateway().is_some() { !whole } else { whole }
}

async fn bucket(s3: &aws_sdk_s3::Client) -> String {
    let made = name();
    s3.create_bucket().bucket(&made).send().await.unwrap();
    made
}

#[tokio::test]
async fn s3_round_trip_of_odd_keys() {
    let s3 = aws_sdk_s3::Client::new(&config().await);
    let made = bucket(&s3).await;
    for key in ["plain.txt", "with space+plus", "ü/x/y %41", "quote'\"&<>", "emoji-😀", "a=b&c#d"] {
        let body = format!("body of {key}");
        let put = s3.put_object().bucket(&made).key(key).metadata("origin", "rust");
        put.body(ByteStream::from(body.clone().into_bytes())).send().await.unwrap();
        let got = s3.get_object().bucket(&made).key(key).send().await.unwrap();
        assert_eq!(got.metadata().unwrap()["origin"], "rust");
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), body.as_bytes(), "{key}");
        s3.delete_object().bucket(&made).key(key).send().await.unwrap();
    }
}

/// Over http this SDK signs each chunk and the trailer: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
#[tokio::test]
async fn s3_file_goes_up_in_signed_chunks() {
    let s3 = aws_sdk_s3::Client::new(&config().await);
    let made = bucket(&s3).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let path = scratch(&body);
    s3.put_object()
        .bucket(&made)
        .key("file")
        .body(ByteStream::from_path(&path).await.unwrap())
        .send()
        .await
        .unwrap();
    let got = s3.get_object().bucket(&made).key("file").send().await.unwrap();
    assert!(got.body.collect().await.unwrap().into_bytes() == body, "what came back is not what went up");
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn s3_multipart_up_and_ranges_down() {
    let s3 = aws_sdk_s3::Client::new(&config().await);
    let made = bucket(&s3).await;
    let body: Vec<u8> = (0..(17 << 20) as u32).map(|n| (n % 241) as u8).collect();
    let path = scratch(&body);
    let upload = s3.create_multipart_upload().bucket(&made).key("large").send().await.unwrap();
    let id = upload.upload_id().unwrap();
    let mut parts = Vec::new();
    for (index, start) in (0..body.len()).step_by(8 << 20).enumerate() {
        let length = (body.len() - start).min(8 << 20);
        let number = i32::try_from(index).unwrap() + 1;
        let piece =
            ByteStream::read_from().path(&path).offset(start as u64).length(Length::Exact(length as u64));
        let part = s3.upload_part().bucket(&made).key("large").upload_id(id).part_number(number);
        let done = part.body(piece.build().await.unwrap()).send().await.unwrap();
        let part = aws_sdk_s3::types::CompletedPart::builder().part_number(number).set_e_tag(done.e_tag);
        parts.push(part.set_checksum_crc32(done.checksum_crc32).build());
    }
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    s3.complete_multipart_upload()
        .bucket(&made)
        .key("large")
        .upload_id(id)
        .multipart_upload(parts)
        .send()
        .await
        .unwrap();
    let range =
        s3.get_object().bucket(&made).key("large").range("bytes=8388600-8388620").send().await.unwrap();
    assert_eq!(range.body.collect().await.unwrap().into_bytes(), &body[8_388_600..=8_388_620]);
    let whole = s3.get_object().bucket(&made).key("large").send().await.unwrap();
    assert!(whole.body.collect().await.unwrap().into_bytes() == body, "what came back is not what went up");
    std::fs::remove_file(path).unwrap();
}

fn scratch(body: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(name());
    std::fs::File::create(&path).unwrap().write_all(body).unwrap();
    path
}

#[tokio::test]
async fn s3_paginator_copy_and_typed_error() {
    let s3 = aws_sdk_s3::Client::new(&config().await);
    let made = bucket(&s3).await;
    for number in 0..5 {
        s3.put_object()
            .bucket(&made)
            .key(format!("page/{number}"))
            .body(ByteStream::from_static(b"x"))
            .send()
            .await
            .unwrap();
    }
    let mut pages = s3.list_objects_v2().bucket(&made).max_keys(2).into_paginator().send();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += page.unwrap().contents().len();
    }
    assert_eq!(count, 5);
    s3.copy_object().bucket(&made).key("copied").copy_source(format!("{made}/page/0")).send().await.unwrap();
    let missing = s3.get_object().bucket(&made).key("missing").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_key());
}

#[tokio::test]
async fn s3_presigned_put_and_get() {
    if on_moto() {
        return; // moto knows no presigned URL
    }
    let s3 = aws_sdk_s3::Client::new(&config().await);
    let made = bucket(&s3).await;
    let expiring = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = s3.put_object().bucket(&made).key("presigned ü").presigned(expiring.clone()).await.unwrap();
    assert!(raw("PUT", put.uri(), b"by link").starts_with("HTTP/1.1 200"));
    let get = s3.get_object().bucket(&made).key("presigned ü").presigned(expiring).await.unwrap();
    assert!(raw("GET", get.uri(), b"").ends_with("by link"));
}

/// A plain HTTP request with no credentials but those in the URL.
fn raw(method: &str, uri: &str, body: &[u8]) -> String {
    let (host, path) = uri.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = std::net::TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn dynamodb_items_and_typed_errors() {
    let dynamodb = aws_sdk_dynamodb::Client::new(&config().await);
    let table = name();
    let attribute = AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap();
    let create = dynamodb.create_table().table_name(&table).attribute_definitions(attribute).key_schema(key);
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    use aws_sdk_dynamodb::client::Waiters;
    dynamodb.wait_until_table_exists().table_name(&table).wait(Duration::from_secs(10)).await.unwrap();
    let pk = AttributeValue::S("ü <&>".to_owned());
    let put = dynamodb
        .put_item()
        .table_name(&table)
        .item("pk", pk.clone())
        .item("n", AttributeValue::N("1".to_owned()));
    let put = put.condition_expression("attribute_not_exists(pk)");
    put.clone().send().await.unwrap();
    assert!(put.send().await.unwrap_err().into_service_error().is_conditional_check_failed_exception());
    let got = dynamodb.get_item().table_name(&table).key("pk", pk).send().await.unwrap();
    assert_eq!(got.item().unwrap()["n"], AttributeValue::N("1".to_owned()));
    let missing = dynamodb.describe_table().table_name("dw-none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn sqs_and_sns() {
    let sqs = aws_sdk_sqs::Client::new(&config().await);
    let url = sqs.create_queue().queue_name(name()).send().await.unwrap().queue_url.unwrap();
    if let Some(gateway) = gateway() {
        assert!(url.starts_with(&gateway), "{url} leads around the gateway");
    }
    sqs.send_message().queue_url(&url).message_body("hello ü").send().await.unwrap();
    let got = sqs.receive_message().queue_url(&url).wait_time_seconds(2).send().await.unwrap();
    assert_eq!(got.messages()[0].body(), Some("hello ü"));
    let missing = sqs.get_queue_url().queue_name("dw-none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_queue_does_not_exist());
    let sns = aws_sdk_sns::Client::new(&config().await);
    let topic = sns.create_topic().name(name()).send().await.unwrap().topic_arn.unwrap();
    sns.publish().topic_arn(&topic).message("fan & out").send().await.unwrap();
    let missing = sns.publish().topic_arn(format!("{topic}-gone")).message("x").send().await.unwrap_err();
    assert!(missing.into_service_error().is_not_found_exception());
}

#[tokio::test]
async fn secret_is_masked_and_revealed() {
    let own = aws_sdk_secretsmanager::Client::new(&config().await);
    let secret = name();
    own.create_secret().name(&secret).secret_string(SECRET).send().await.unwrap();
    let got = own.get_secret_value().secret_id(&secret).send().await.unwrap();
    assert!(masked(got.secret_string().unwrap().as_bytes()));
    if gateway().is_some() {
        let revealing = aws_sdk_secretsmanager::Client::new(&sre().await);
        let got = revealing.get_secret_value().secret_id(&secret).send().await.unwrap();
        assert_eq!(got.secret_string(), Some(SECRET));
    }
}

#[tokio::test]
async fn ssm_and_kms() {
    let ssm = aws_sdk_ssm::Client::new(&config().await);
    let path = format!("/{}/password", name());
    let put =
        ssm.put_parameter().name(&path).value(SECRET).r#type(aws_sdk_ssm::types::ParameterType::SecureString);
    put.send().await.unwrap();
    let got = ssm.get_parameter().name(&path).with_decryption(true).send().await.unwrap();
    assert!(masked(got.parameter().unwrap().value().unwrap().as_bytes()));
    let missing = ssm.get_parameter().name("/dw/none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_parameter_not_found());
    let kms = aws_sdk_kms::Client::new(&config().await);
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap().key_id;
    let sealed =
        kms.encrypt().key_id(&key).plaintext(SECRET.as_bytes().to_vec().into()).send().await.unwrap();
    let opened =
        kms.decrypt().key_id(&key).ciphertext_blob(sealed.ciphertext_blob.unwrap()).send().await.unwrap();
    assert!(masked(opened.plaintext().unwrap().as_ref()));
}

#[tokio::test]
async fn sts_and_iam() {
    let identity = aws_sdk_sts::Client::new(&config().await).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.account(), Some(account().as_str()));
    let iam = aws_sdk_iam::Client::new(&config().await);
    let user = name();
    iam.create_user().user_name(&user).send().await.unwrap();
    let mut pages = iam.list_users().max_items(1).into_paginator().send();
    let mut found = false;
    while let Some(page) = pages.next().await {
        found |= page.unwrap().users().iter().any(|one| one.user_name() == user);
    }
    assert!(found);
    let missing = iam.get_user().user_name("dw-none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_entity_exception());
}

#[tokio::test]
async fn lambda_and_logs() {
    let lambda = aws_sdk_lambda::Client::new(&config().await);
    lambda.list_functions().send().await.unwrap();
    let missing = lambda.get_function().function_name("dw-none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let logs = aws_sdk_cloudwatchlogs::Client::new(&config().await);
    let group = name();
    logs.create_log_group().log_group_name(&group).send().await.unwrap();
    logs.create_log_stream().log_group_name(&group).log_stream_name("s").send().await.unwrap();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let event = aws_sdk_cloudwatchlogs::types::InputLogEvent::builder()
        .timestamp(now)
        .message("line")
        .build()
        .unwrap();
    logs.put_log_events().log_group_name(&group).log_stream_name("s").log_events(event).send().await.unwrap();
    let got = logs
        .get_log_events()
        .log_group_name(&group)
        .log_stream_name("s")
        .start_from_head(true)
        .send()
        .await
        .unwrap();
    assert_eq!(got.events()[0].message(), Some("line"));
    let again = logs.create_log_group().log_group_name(&group).send().await.unwrap_err();
    assert!(again.into_service_error().is_resource_already_exists_exception());
}

/// CloudWatch arrives as rpc-v2-cbor.
#[tokio::test]
async fn cloudwatch_in_cbor() {
    if on_moto() {
        return; // moto does not speak CBOR
    }
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&config().await);
    let namespace = name();
    let datum = aws_sdk_cloudwatch::types::MetricDatum::builder().metric_name("m").value(1.5).build();
    cloudwatch.put_metric_data().namespace(&namespace).metric_data(datum).send().await.unwrap();
    let listed = cloudwatch.list_metrics().namespace(&namespace).send().await.unwrap();
    assert_eq!(listed.metrics()[0].metric_name(), Some("m"));
}

/// The call was denied by policy: typed, with our message, in one attempt.
fn assert_denied<E, R>(outcome: Result<impl Debug, aws_sdk_s3::error::SdkError<E, R>>)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Debug,
{
    let error = outcome.unwrap_err();
    let service =
        error.as_service_error().unwrap_or_else(|| panic!("not an answer of the service: {error:?}"));
    let code = service.code().unwrap_or_default();
    assert!(
        code.contains("AccessDenied") || code == "UnauthorizedOperation" || code == "AuthorizationError",
        "the code is {code}"
    );
    let message = service.message().unwrap_or_default();
    assert!(message.contains("no-destruction"), "the message is {message}");
    let is_id = |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(message.split(|c: char| !c.is_ascii_alphanumeric()).any(is_id), "no exchange id in {message}");
}

#[tokio::test]
async fn denied_calls_are_typed_and_explained() {
    let Some(gateway) = gateway() else { return };
    let config = config().await;
    let denied = "dw-denied";
    assert_denied(aws_sdk_s3::Client::new(&config).delete_bucket().bucket(denied).send().await);
    assert_denied(aws_sdk_dynamodb::Client::new(&config).delete_table().table_name(denied).send().await);
    let queue = format!("{gateway}/{}/{denied}", account());
    assert_denied(aws_sdk_sqs::Client::new(&config).purge_queue().queue_url(queue).send().await);
    let topic = format!("arn:aws:sns:us-east-1:{}:{denied}", account());
    assert_denied(aws_sdk_sns::Client::new(&config).delete_topic().topic_arn(topic).send().await);
    assert_denied(
        aws_sdk_secretsmanager::Client::new(&config).delete_secret().secret_id(denied).send().await,
    );
    assert_denied(aws_sdk_ssm::Client::new(&config).delete_parameter().name(denied).send().await);
    assert_denied(aws_sdk_iam::Client::new(&config).delete_user().user_name(denied).send().await);
    assert_denied(aws_sdk_lambda::Client::new(&config).delete_function().function_name(denied).send().await);
    let key = "11111111-2222-3333-4444-555555555555";
    assert_denied(aws_sdk_kms::Client::new(&config).schedule_key_deletion().key_id(key).send().await);
    assert_denied(
        aws_sdk_cloudwatchlogs::Client::new(&config).delete_log_group().log_group_name(denied).send().await,
    );
    assert_denied(aws_sdk_cloudwatch::Client::new(&config).delete_alarms().alarm_names(denied).send().await);
}
