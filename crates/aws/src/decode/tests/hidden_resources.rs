//! No resource of a request hides another.

use super::*;

const REGION_AND_ACCOUNT: &str = "eu-west-1:111122223333";

/// Asserts that a request requires a permission on this resource.
fn assert_requires_resource(call: &TestRequest, resource: &str) {
    let read = call.decode().unwrap().operation;
    let found = permission_texts(&read).iter().any(|one| one.ends_with(&format!(" {resource}")));
    assert!(found, "{resource} is not in {:?}", permission_texts(&read));
}

#[test]
fn the_arn_of_an_outer_resource_does_not_replace_the_resource() {
    let ecs = |cluster: &str| {
        let body = format!(r#"{{"cluster":"{cluster}","service":"svc"}}"#);
        json_request("ecs", "AmazonEC2ContainerServiceV20141113.DeleteService", &body)
    };
    let service = format!("arn:aws:ecs:{REGION_AND_ACCOUNT}:service/prod/svc");
    assert_requires_resource(&ecs("prod"), &service);
    assert_requires_resource(&ecs(&format!("arn:aws:ecs:{REGION_AND_ACCOUNT}:cluster/prod")), &service);
    assert_requires_resource(&ecs("arn:aws:ecs:eu-west-1:999988887777:cluster/prod"), "*");
    assert_requires_resource(&ecs("arn:aws:ecs"), "*");
    let layer = format!(
        "/2018-10-31/layers/arn%3Aaws%3Alambda%3A{}%3Alayer%3Aprod/versions/1",
        REGION_AND_ACCOUNT.replace(':', "%3A")
    );
    assert_requires_resource(
        &get_request("lambda", &layer),
        &format!("arn:aws:lambda:{REGION_AND_ACCOUNT}:layer:prod:1"),
    );
}

#[test]
fn a_rule_and_an_event_require_their_event_bus() {
    let bus = format!("arn:aws:events:{REGION_AND_ACCOUNT}:event-bus/own");
    let rule = format!("arn:aws:events:{REGION_AND_ACCOUNT}:rule/own/r");
    for named in ["own", bus.as_str()] {
        let delete = format!(r#"{{"Name":"r","EventBusName":"{named}"}}"#);
        let delete = json_request("events", "AWSEvents.DeleteRule", &delete);
        assert_requires_resource(&delete, &rule);
        assert_eq!(permission_texts(&delete.decode().unwrap().operation).len(), 1);
        let targets = format!(r#"{{"Rule":"r","EventBusName":"{named}","Ids":["1"]}}"#);
        assert_requires_resource(&json_request("events", "AWSEvents.RemoveTargets", &targets), &rule);
        let put = format!(r#"{{"Entries":[{{"Detail":"{{}}"}},{{"EventBusName":"{named}"}}]}}"#);
        let put = json_request("events", "AWSEvents.PutEvents", &put);
        assert_requires_resource(&put, &bus);
        assert_requires_resource(&put, &format!("arn:aws:events:{REGION_AND_ACCOUNT}:event-bus/default"));
    }
    let plain = json_request("events", "AWSEvents.DeleteRule", r#"{"Name":"r"}"#);
    assert_requires_resource(&plain, &format!("arn:aws:events:{REGION_AND_ACCOUNT}:rule/r"));
}

#[test]
fn a_restored_or_copied_source_is_required() {
    let restore = r#"{"SourceTableName":"prod","TargetTableName":"mine"}"#;
    let restore = json_request("dynamodb", "DynamoDB_20120810.RestoreTableToPointInTime", restore);
    for table in ["prod", "mine"] {
        assert_requires_resource(&restore, &format!("arn:aws:dynamodb:{REGION_AND_ACCOUNT}:table/{table}"));
    }
    let mine = "DBInstanceIdentifier=mine&OptionGroupName=o&DBParameterGroupName=p&DBSubnetGroupName=s";
    for (action, source, resource) in [
        ("RestoreDBInstanceFromDBSnapshot", "DBSnapshotIdentifier=prod", "snapshot:prod"),
        ("CreateDBInstanceReadReplica", "SourceDBInstanceIdentifier=prod", "db:prod"),
        (
            "RestoreDBInstanceToPointInTime",
            "SourceDBInstanceIdentifier=prod&TargetDBInstanceIdentifier=mine",
            "db:prod",
        ),
    ] {
        let body = format!("Action={action}&Version=2014-10-31&{mine}&{source}");
        assert_requires_resource(
            &form_request("rds", &body),
            &format!("arn:aws:rds:{REGION_AND_ACCOUNT}:{resource}"),
        );
    }
    for (beside, cluster) in [("&SnapshotClusterIdentifier=prod", "prod"), ("", "*")] {
        let body = format!(
            "Action=RestoreFromClusterSnapshot&Version=2012-12-01&ClusterIdentifier=mine&SnapshotIdentifier=s{beside}"
        );
        assert_requires_resource(
            &form_request("redshift", &body),
            &format!("arn:aws:redshift:{REGION_AND_ACCOUNT}:snapshot:{cluster}/s"),
        );
    }
    let create = r#"{"ClusterName":"mine","NodeType":"n","ACLName":"a","SnapshotName":"prod"}"#;
    let create = json_request("memorydb", "AmazonMemoryDB.CreateCluster", create);
    assert_requires_resource(&create, &format!("arn:aws:memorydb:{REGION_AND_ACCOUNT}:snapshot/prod"));
}

#[test]
fn a_stream_name_beside_an_arn_is_required_too() {
    let both =
        format!(r#"{{"StreamName":"prod","StreamARN":"arn:aws:kinesis:{REGION_AND_ACCOUNT}:stream/own"}}"#);
    let both = json_request("kinesis", "Kinesis_20131202.DeleteStream", &both);
    for stream in ["prod", "own"] {
        assert_requires_resource(&both, &format!("arn:aws:kinesis:{REGION_AND_ACCOUNT}:stream/{stream}"));
    }
}

#[test]
fn names_have_their_position_in_the_arn() {
    for (given, wanted) in [("web:7", "web:7"), ("web", "web:*")] {
        let run = format!(r#"{{"cluster":"c","taskDefinition":"{given}"}}"#);
        let run = json_request("ecs", "AmazonEC2ContainerServiceV20141113.RunTask", &run);
        assert_requires_resource(&run, &format!("arn:aws:ecs:{REGION_AND_ACCOUNT}:task-definition/{wanted}"));
    }
    let delete = form_request(
        "autoscaling",
        "Action=DeleteAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=prod",
    );
    assert_requires_resource(
        &delete,
        &format!("arn:aws:autoscaling:{REGION_AND_ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/prod"),
    );
    let secret = format!("arn:aws:secretsmanager:{REGION_AND_ACCOUNT}:secret:prod/db");
    for (given, wanted) in [("", "-??????"), ("-AbCd12", "-AbCd12")] {
        let read = format!(r#"{{"SecretId":"{secret}{given}"}}"#);
        assert_requires_resource(
            &json_request("secretsmanager", "secretsmanager.GetSecretValue", &read),
            &format!("{secret}{wanted}"),
        );
    }
}

#[test]
fn a_request_that_may_reach_unnamed_resources_requires_any_resource() {
    let mapping = put_request("lambda", "/2015-03-31/event-source-mappings/0123")
        .with_body(r#"{"FunctionName":"prod"}"#);
    assert_requires_resource(&mapping, &format!("arn:aws:lambda:{REGION_AND_ACCOUNT}:function:prod"));
    let set = format!("arn:aws:cloudformation:{REGION_AND_ACCOUNT}:changeSet/c/0123")
        .replace(':', "%3A")
        .replace('/', "%2F");
    let execute = format!("Action=ExecuteChangeSet&Version=2010-05-15&StackName=own&ChangeSetName={set}");
    assert_requires_resource(&form_request("cloudformation", &execute), "*");
    for text in ["SOURCE '/prod' | fields @message", "source logGroups()"] {
        let query = format!(r#"{{"logGroupName":"own","startTime":0,"endTime":1,"queryString":"{text}"}}"#);
        assert_requires_resource(&json_request("logs", "Logs_20140328.StartQuery", &query), "*");
    }
    let query = r#"{"logGroupName":"own","startTime":0,"endTime":1,"queryString":"fields @message"}"#;
    let query = json_request("logs", "Logs_20140328.StartQuery", query).decode().unwrap().operation;
    assert_eq!(permission_texts(&query).len(), 1);
}

#[test]
fn an_arn_with_a_wildcard_before_its_resource_is_refused() {
    let table = |arn: &str| {
        json_request("dynamodb", "DynamoDB_20120810.DeleteTable", &format!(r#"{{"TableName":"{arn}"}}"#))
    };
    for arn in [
        "arn:aws:dynamodb:*:111122223333:table/orders",
        "arn:aws:dynamodb:eu-west-?:111122223333:table/orders",
        "arn:aws:dynamodb:eu-west-1:*:table/orders",
        "arn:aws:dynamodb:eu-west-1:11112222333?:table/orders",
        "arn:*:dynamodb:eu-west-1:111122223333:table/orders",
        "arn:aws:*:eu-west-1:111122223333:table/orders",
    ] {
        let refusal = table(arn).decode().unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Malformed, "{arn}");
        assert!(refusal.message.contains(arn), "{}", refusal.message);
    }
    table("arn:aws:dynamodb:eu-west-1:111122223333:table/orders").expect_decoded();
    for call in [
        json_request("kms", "TrentService.DisableKey", r#"{"KeyId":"arn:aws:kms:eu-west-1:*:key/k"}"#),
        form_request("iam", "Action=GetPolicy&Version=2010-05-08&PolicyArn=arn:aws:iam::*:policy/p"),
        form_request(
            "sns",
            "Action=Publish&Version=2010-03-31&TopicArn=arn:aws:sns:*:111122223333:t&Message=m",
        ),
        get_request("lambda", "/2015-03-31/functions/arn%3Aaws%3Alambda%3A*%3A111122223333%3Afunction%3Af"),
        get_request("lambda", "/2015-03-31/functions/*%3Afunction%3Af"),
        json_request(
            "dynamodb",
            "DynamoDB_20120810.ExecuteStatement",
            r#"{"Statement":"SELECT * FROM \"arn:aws:dynamodb:eu-west-1:*:table/orders\""}"#,
        ),
    ] {
        assert_eq!(call.expect_refused(), RefusalReason::Malformed);
    }
    // Conditions of a policy may have wildcards there: they name no resource of the request.
    let permission = r#"{"StatementId":"s","Action":"lambda:InvokeFunction","Principal":"events.amazonaws.com","SourceArn":"arn:aws:events:*:111122223333:rule/r"}"#;
    post_request("lambda", "/2015-03-31/functions/f/policy")
        .with_header("content-type", "application/json")
        .with_body(permission)
        .expect_decoded();
}
