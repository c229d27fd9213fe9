//! Nothing that a request names beside something else is hidden by that.

use super::*;

const PLACE: &str = "eu-west-1:111122223333";

/// Whether a request demands something on this resource.
fn demanded(call: &Request, resource: &str) {
    let read = call.decode().unwrap().operation;
    let found = demands(&read).iter().any(|one| one.ends_with(&format!(" {resource}")));
    assert!(found, "{resource} is not in {:?}", demands(&read));
}

#[test]
fn the_arn_of_what_a_resource_is_in_does_not_stand_for_it() {
    let ecs = |cluster: &str| {
        let body = format!(r#"{{"cluster":"{cluster}","service":"svc"}}"#);
        json_call("ecs", "AmazonEC2ContainerServiceV20141113.DeleteService", &body)
    };
    let service = format!("arn:aws:ecs:{PLACE}:service/prod/svc");
    demanded(&ecs("prod"), &service);
    demanded(&ecs(&format!("arn:aws:ecs:{PLACE}:cluster/prod")), &service);
    demanded(&ecs("arn:aws:ecs:eu-west-1:999988887777:cluster/prod"), "*");
    demanded(&ecs("arn:aws:ecs"), "*");
    let layer = format!(
        "/2018-10-31/layers/arn%3Aaws%3Alambda%3A{}%3Alayer%3Aprod/versions/1",
        PLACE.replace(':', "%3A")
    );
    demanded(&get("lambda", &layer), &format!("arn:aws:lambda:{PLACE}:layer:prod:1"));
}

#[test]
fn a_rule_is_on_its_bus_and_an_event_goes_to_it() {
    let bus = format!("arn:aws:events:{PLACE}:event-bus/own");
    let rule = format!("arn:aws:events:{PLACE}:rule/own/r");
    for named in ["own", bus.as_str()] {
        let delete = format!(r#"{{"Name":"r","EventBusName":"{named}"}}"#);
        let delete = json_call("events", "AWSEvents.DeleteRule", &delete);
        demanded(&delete, &rule);
        assert_eq!(demands(&delete.decode().unwrap().operation).len(), 1);
        let targets = format!(r#"{{"Rule":"r","EventBusName":"{named}","Ids":["1"]}}"#);
        demanded(&json_call("events", "AWSEvents.RemoveTargets", &targets), &rule);
        let put = format!(r#"{{"Entries":[{{"Detail":"{{}}"}},{{"EventBusName":"{named}"}}]}}"#);
        let put = json_call("events", "AWSEvents.PutEvents", &put);
        demanded(&put, &bus);
        demanded(&put, &format!("arn:aws:events:{PLACE}:event-bus/default"));
    }
    let plain = json_call("events", "AWSEvents.DeleteRule", r#"{"Name":"r"}"#);
    demanded(&plain, &format!("arn:aws:events:{PLACE}:rule/r"));
}

#[test]
fn what_is_restored_or_copied_is_demanded() {
    let restore = r#"{"SourceTableName":"prod","TargetTableName":"mine"}"#;
    let restore = json_call("dynamodb", "DynamoDB_20120810.RestoreTableToPointInTime", restore);
    for table in ["prod", "mine"] {
        demanded(&restore, &format!("arn:aws:dynamodb:{PLACE}:table/{table}"));
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
        demanded(&form("rds", &body), &format!("arn:aws:rds:{PLACE}:{resource}"));
    }
    for (beside, cluster) in [("&SnapshotClusterIdentifier=prod", "prod"), ("", "*")] {
        let body = format!(
            "Action=RestoreFromClusterSnapshot&Version=2012-12-01&ClusterIdentifier=mine&SnapshotIdentifier=s{beside}"
        );
        demanded(&form("redshift", &body), &format!("arn:aws:redshift:{PLACE}:snapshot:{cluster}/s"));
    }
    let create = r#"{"ClusterName":"mine","NodeType":"n","ACLName":"a","SnapshotName":"prod"}"#;
    let create = json_call("memorydb", "AmazonMemoryDB.CreateCluster", create);
    demanded(&create, &format!("arn:aws:memorydb:{PLACE}:snapshot/prod"));
}

#[test]
fn a_stream_named_beside_an_arn_is_demanded_too() {
    let both = format!(r#"{{"StreamName":"prod","StreamARN":"arn:aws:kinesis:{PLACE}:stream/own"}}"#);
    let both = json_call("kinesis", "Kinesis_20131202.DeleteStream", &both);
    for stream in ["prod", "own"] {
        demanded(&both, &format!("arn:aws:kinesis:{PLACE}:stream/{stream}"));
    }
}

#[test]
fn names_stand_in_the_arn_where_aws_puts_them() {
    for (given, wanted) in [("web:7", "web:7"), ("web", "web:*")] {
        let run = format!(r#"{{"cluster":"c","taskDefinition":"{given}"}}"#);
        let run = json_call("ecs", "AmazonEC2ContainerServiceV20141113.RunTask", &run);
        demanded(&run, &format!("arn:aws:ecs:{PLACE}:task-definition/{wanted}"));
    }
    let delete =
        form("autoscaling", "Action=DeleteAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=prod");
    demanded(&delete, &format!("arn:aws:autoscaling:{PLACE}:autoScalingGroup:*:autoScalingGroupName/prod"));
    let secret = format!("arn:aws:secretsmanager:{PLACE}:secret:prod/db");
    for (given, wanted) in [("", "-??????"), ("-AbCd12", "-AbCd12")] {
        let read = format!(r#"{{"SecretId":"{secret}{given}"}}"#);
        demanded(
            &json_call("secretsmanager", "secretsmanager.GetSecretValue", &read),
            &format!("{secret}{wanted}"),
        );
    }
}

#[test]
fn what_names_more_than_it_seems_is_demanded_on_all() {
    let mapping = put("lambda", "/2015-03-31/event-source-mappings/0123").body(r#"{"FunctionName":"prod"}"#);
    demanded(&mapping, &format!("arn:aws:lambda:{PLACE}:function:prod"));
    let set =
        format!("arn:aws:cloudformation:{PLACE}:changeSet/c/0123").replace(':', "%3A").replace('/', "%2F");
    let execute = format!("Action=ExecuteChangeSet&Version=2010-05-15&StackName=own&ChangeSetName={set}");
    demanded(&form("cloudformation", &execute), "*");
    for text in ["SOURCE '/prod' | fields @message", "source logGroups()"] {
        let query = format!(r#"{{"logGroupName":"own","startTime":0,"endTime":1,"queryString":"{text}"}}"#);
        demanded(&json_call("logs", "Logs_20140328.StartQuery", &query), "*");
    }
    let query = r#"{"logGroupName":"own","startTime":0,"endTime":1,"queryString":"fields @message"}"#;
    let query = json_call("logs", "Logs_20140328.StartQuery", query).decode().unwrap().operation;
    assert_eq!(demands(&query).len(), 1);
}
