//! Operations that the catalog does not have are decided under an action that no policy permits by accident.

use super::*;
use durward_core::AccessLevel;

#[test]
fn an_operation_newer_than_the_catalog_requires_an_action_of_its_own() {
    let calls = [
        json_request("dynamodb", "DynamoDB_20120810.EatTable", r#"{"TableName":"t","Deep":{"er":[1]}}"#),
        form_request("sts", "Action=EatTable&Version=2011-06-15&TableName=t&Deep.er.1=1"),
        post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/EatTable")
            .with_header("smithy-protocol", "rpc-v2-cbor")
            .with_header("content-type", "application/cbor")
            .with_body(b"\xa2\x69TableName\x61t\x64Deep\xf6"),
    ];
    for (call, prefix) in calls.iter().zip(["dynamodb", "sts", "cloudwatch"]) {
        let decoded = call.decode().unwrap();
        assert!(decoded.operation_model().is_none() && decoded.operation_index == UNKNOWN_OPERATION_INDEX);
        let operation = decoded.operation;
        assert_eq!((operation.service.as_str(), operation.name.as_str()), (prefix, "EatTable"));
        assert_eq!(permission_texts(&operation), [format!("{prefix}:*unknown* *")]);
        assert_eq!(operation.access_level(), AccessLevel::PermissionsManagement);
        assert!(operation.traits.irreversible && operation.traits.escalates);
        // Unknown parameters are kept, and masked in recordings.
        assert_eq!(operation.parameters["TableName"], "t");
        for list in [&operation.sensitive_pointers, &operation.uninspected_parts] {
            assert!(
                list.contains(&"/TableName".to_owned()) && list.contains(&"/Deep".to_owned()),
                "{list:?}"
            );
        }
    }
}

#[test]
fn an_invalid_operation_name_is_refused() {
    let long = "x".repeat(200);
    for name in ["", "Eat Table", "1Eat", "Eat*", "Eat\u{202e}Table", "*unknown*", long.as_str()] {
        let target = format!("DynamoDB_20120810.{name}");
        let call = post_request("dynamodb", "/")
            .with_header("content-type", "application/x-amz-json-1.0")
            .with_body("{}");
        let mut call = call;
        call.headers.append("x-amz-target", HeaderValue::from_bytes(target.as_bytes()).unwrap());
        call.expect_refused();
        let name: String =
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        form_request("sts", &format!("Action={name}&Version=2011-06-15")).expect_refused();
    }
    // Another version of the service is another model.
    form_request("sts", "Action=EatTable&Version=2031-06-15").expect_refused();
}

#[test]
fn an_unknown_path_of_a_rest_service_is_refused() {
    assert_eq!(
        get_request("lambda", "/2031-01-01/eat/functions").expect_refused(),
        RefusalReason::UnknownOperation
    );
    assert_eq!(get_request("s3", "/bucket/key?eat").expect_refused(), RefusalReason::UnknownOperation);
    assert_eq!(get_request("nosuchservice", "/").expect_refused(), RefusalReason::UnknownOperation);
}

#[test]
fn an_operation_without_a_known_action_requires_the_unknown_one() {
    let operation = put_request("codecatalyst", "/v1/spaces/s/projects")
        .with_body(r#"{"displayName":"p"}"#)
        .expect_decoded();
    assert_eq!(operation.name, "CreateProject");
    assert_eq!(permission_texts(&operation), ["codecatalyst:*unknown* *"]);
}
