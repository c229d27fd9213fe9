//! The embedded index: its consistency, and facts that policies rely on.

use super::*;
use crate::service_model::{AwsProtocol, MemberLocation, RequiredAction, ShapeKind};
use durward_core::AccessLevel;

fn embedded_service(id: &str) -> Arc<ServiceModel> {
    Catalog::embedded().service(id).expect("the service is in the index")
}

fn required_actions(id: &str, operation: &str) -> Vec<RequiredAction> {
    embedded_service(id).operation(operation).expect("the operation is in the model").required_actions.clone()
}

fn action_names(id: &str, operation: &str) -> Vec<String> {
    let mut actions: Vec<String> =
        required_actions(id, operation).into_iter().map(|one| one.action).collect();
    actions.dedup();
    actions
}

fn read_manifest() -> serde_json::Value {
    serde_json::from_str(include_str!("../../data/manifest.json")).expect("the manifest is JSON")
}

#[test]
fn every_frame_unpacks_and_the_manifest_counts_match() {
    let catalog = Catalog::embedded();
    let (mut operations, mut without, mut shapes) = (0, 0, 0);
    for entry in catalog.service_entries() {
        let service = embedded_service(&entry.id);
        assert_eq!(service.operations.len(), entry.operation_count as usize, "{}", entry.id);
        assert_eq!(
            (&service.iam_prefix, &service.signing_name),
            (&entry.iam_prefix, &entry.signing_name),
            "{}",
            entry.id
        );
        assert!(service.operations.is_sorted_by(|a, b| a.name < b.name), "{}", entry.id);
        operations += service.operations.len();
        without += service.operations.iter().filter(|one| one.required_actions.is_empty()).count();
        shapes += service.shapes.len();
    }
    let manifest = read_manifest();
    assert_eq!(manifest["services"], catalog.service_entries().len());
    assert_eq!(manifest["operations"], operations);
    assert_eq!(manifest["operations_without_action"], without);
    assert_eq!(manifest["shapes"], shapes);
    assert_eq!(manifest["iam_prefixes"], catalog.iam_prefixes().count());
    let actions: usize = catalog.iam_prefixes().map(|prefix| catalog.actions_of(prefix).count()).sum();
    assert_eq!(manifest["iam_actions"], actions);
    assert_eq!(manifest["index_bytes"], EMBEDDED_INDEX.len());
}

#[test]
fn no_more_operations_are_without_an_action_than_were_reviewed() {
    // At most 2 %: these take tokens instead of IAM credentials, or are of services that the authorization data does not have yet.
    let services = Catalog::embedded().service_entries().iter().map(|entry| embedded_service(&entry.id));
    let (mut without, mut all) = (0, 0);
    for service in services {
        all += service.operations.len();
        without += service.operations.iter().filter(|one| one.required_actions.is_empty()).count();
    }
    assert!(all > 0 && without * 100 <= all * 2, "{without} of {all} operations have no action");
}

#[test]
fn every_shape_an_operation_reaches_is_in_its_service() {
    for entry in Catalog::embedded().service_entries() {
        let service = embedded_service(&entry.id);
        let known = |id: u32| (id as usize) < service.shapes.len();
        for operation in &service.operations {
            assert!(
                operation.input_shape.is_none_or(known) && operation.output_shape.is_none_or(known),
                "{}",
                operation.name
            );
        }
        for shape in &service.shapes {
            let holds = match &shape.kind {
                ShapeKind::Structure { members, .. } => members.iter().all(|member| known(member.shape)),
                ShapeKind::List { member, .. } => known(*member),
                ShapeKind::Map { key, value, .. } => known(*key) && known(*value),
                _ => true,
            };
            assert!(holds, "{}", entry.id);
        }
    }
}

#[test]
fn every_action_an_operation_needs_is_an_iam_action_of_that_level() {
    let catalog = Catalog::embedded();
    for entry in catalog.service_entries() {
        for operation in &embedded_service(&entry.id).operations {
            for needed in &operation.required_actions {
                assert_eq!(
                    catalog.access_level_of(&needed.action),
                    Some(needed.access_level),
                    "{}",
                    needed.action
                );
            }
        }
    }
}

#[test]
fn every_member_a_template_names_is_in_the_input() {
    for entry in Catalog::embedded().service_entries() {
        let service = embedded_service(&entry.id);
        for operation in &service.operations {
            let members = operation.input_shape.map(|id| service.structure_members(id)).unwrap_or_default();
            for needed in &operation.required_actions {
                let fills = needed
                    .resources
                    .iter()
                    .flat_map(|arn| arn.placeholder_members.iter().map(|(_, path)| path));
                let arns = needed.resources.iter().filter_map(|arn| arn.arn_member.as_ref());
                for path in fills.chain(arns).chain(&needed.required_if_member) {
                    let first = path.split(['.', '[', '{']).next().expect("split gives one part");
                    let known = members.iter().any(|member| member.name == first);
                    assert!(known, "{}:{} has no member {path}", entry.id, operation.name);
                }
                for (placeholder, _) in needed.resources.iter().flat_map(|arn| &arn.placeholder_members) {
                    let open = format!("${{{placeholder}}}");
                    assert!(needed.resources.iter().any(|arn| arn.template.contains(&open)), "{open}");
                }
            }
        }
    }
}

#[test]
fn every_action_of_the_overlay_is_an_iam_action() {
    fn collect_strings(value: &toml::Value, out: &mut Vec<String>) {
        match value {
            toml::Value::String(text) => out.push(text.clone()),
            toml::Value::Array(items) => items.iter().for_each(|item| collect_strings(item, out)),
            toml::Value::Table(table) => table.iter().for_each(|(_, item)| collect_strings(item, out)),
            _ => {}
        }
    }
    let overlay: toml::Table =
        toml::from_str(include_str!("../../data/overlay.toml")).expect("the overlay is TOML");
    let services = overlay.get("service").and_then(toml::Value::as_table).expect("the overlay has services");
    let mut seen = 0;
    for (id, service) in services {
        let mut named = Vec::new();
        if let Some(operations) = service.get("operations") {
            collect_strings(operations, &mut named);
        }
        for one in service.get("uses").and_then(toml::Value::as_array).into_iter().flatten() {
            named.extend(one.get("action").and_then(toml::Value::as_str).map(str::to_owned));
        }
        for action in named {
            assert!(Catalog::embedded().access_level_of(&action).is_some(), "[service.{id}] {action}");
            seen += 1;
        }
    }
    assert!(seen > 100, "the overlay names {seen} actions");
}

#[test]
fn maps_operations_whose_action_has_another_name() {
    for (id, operation, expected) in [
        ("s3", "ListBuckets", "s3:ListAllMyBuckets"),
        ("s3", "HeadObject", "s3:GetObject"),
        ("s3", "ListObjectsV2", "s3:ListBucket"),
        ("s3", "UploadPart", "s3:PutObject"),
        ("s3", "DeleteBucketEncryption", "s3:PutEncryptionConfiguration"),
        ("lambda", "Invoke", "lambda:InvokeFunction"),
        ("lambda", "InvokeWithResponseStream", "lambda:InvokeFunction"),
        ("sqs", "SendMessageBatch", "sqs:SendMessage"),
        ("sqs", "DeleteMessageBatch", "sqs:DeleteMessage"),
        ("sns", "PublishBatch", "sns:Publish"),
        ("cloudwatch", "PutMetricData", "cloudwatch:PutMetricData"),
        ("logs", "PutLogEvents", "logs:PutLogEvents"),
        ("ec2", "DescribeInstances", "ec2:DescribeInstances"),
        ("resourcegroupstaggingapi", "TagResources", "tag:TagResources"),
        ("apigateway", "DeleteRestApi", "apigateway:DELETE"),
    ] {
        assert_eq!(action_names(id, operation), [expected], "{id}:{operation}");
    }
    assert_eq!(action_names("kms", "ReEncrypt"), ["kms:ReEncryptFrom", "kms:ReEncryptTo"]);
    assert_eq!(action_names("s3", "GetObjectAttributes"), ["s3:GetObject", "s3:GetObjectAttributes"]);
    assert_eq!(
        action_names("dynamodb", "TransactWriteItems"),
        ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"]
    );
}

#[test]
fn templates_name_the_members_that_fill_them() {
    for (id, operation, template, fill) in [
        (
            "s3",
            "GetObject",
            "arn:${Partition}:s3:::${BucketName}/${ObjectName}",
            &[("BucketName", "Bucket"), ("ObjectName", "Key")][..],
        ),
        ("s3", "ListObjectsV2", "arn:${Partition}:s3:::${BucketName}", &[("BucketName", "Bucket")]),
        (
            "dynamodb",
            "PutItem",
            "arn:${Partition}:dynamodb:${Region}:${Account}:table/${TableName}",
            &[("TableName", "TableName")],
        ),
        (
            "dynamodb",
            "BatchGetItem",
            "arn:${Partition}:dynamodb:${Region}:${Account}:table/${TableName}",
            &[("TableName", "RequestItems{}")],
        ),
        (
            "sqs",
            "SendMessage",
            "arn:${Partition}:sqs:${Region}:${Account}:${QueueName}",
            &[("Account", "QueueUrl"), ("QueueName", "QueueUrl")],
        ),
        (
            "secretsmanager",
            "GetSecretValue",
            "arn:${Partition}:secretsmanager:${Region}:${Account}:secret:${SecretId}-??????",
            &[("SecretId", "SecretId")],
        ),
        (
            "logs",
            "DeleteLogGroup",
            "arn:${Partition}:logs:${Region}:${Account}:log-group:${LogGroupName}:*",
            &[("LogGroupName", "logGroupName")],
        ),
        (
            "iam",
            "DeleteRole",
            "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}",
            &[("RoleNameWithPath", "RoleName")],
        ),
        ("kms", "Decrypt", "arn:${Partition}:kms:${Region}:${Account}:key/${KeyId}", &[("KeyId", "KeyId")]),
        (
            "ec2",
            "TerminateInstances",
            "arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}",
            &[("InstanceId", "InstanceIds[]")],
        ),
        (
            "lambda",
            "DeleteFunction",
            "arn:${Partition}:lambda:${Region}:${Account}:function:${FunctionName}",
            &[("FunctionName", "FunctionName")],
        ),
        (
            "ssm",
            "GetParameters",
            "arn:${Partition}:ssm:${Region}:${Account}:parameter/${ParameterNameWithoutLeadingSlash}",
            &[("ParameterNameWithoutLeadingSlash", "Names[]")],
        ),
        (
            "cloudwatch",
            "DeleteAlarms",
            "arn:${Partition}:cloudwatch:${Region}:${Account}:alarm:${AlarmName}",
            &[("AlarmName", "AlarmNames[]")],
        ),
        (
            "s3",
            "DeleteObjects",
            "arn:${Partition}:s3:::${BucketName}/${ObjectName}",
            &[("BucketName", "Bucket"), ("ObjectName", "Delete.Objects[].Key")],
        ),
    ] {
        let uses = required_actions(id, operation);
        let arn = &uses.first().expect("a use").resources.first().expect("a template");
        assert_eq!(arn.template, template, "{id}:{operation}");
        let expected: Vec<(String, String)> =
            fill.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(arn.placeholder_members, expected, "{id}:{operation}");
    }
    assert_eq!(required_actions("sts", "AssumeRole")[0].resources[0].arn_member.as_deref(), Some("RoleArn"));
    assert_eq!(
        required_actions("sns", "PublishBatch")[0].resources[0].arn_member.as_deref(),
        Some("TopicArn")
    );
}

#[test]
fn passing_a_role_is_an_action_of_its_own() {
    for (id, operation, member) in [
        ("lambda", "CreateFunction", "Role"),
        ("lambda", "UpdateFunctionConfiguration", "Role"),
        ("ecs", "RegisterTaskDefinition", "taskRoleArn"),
        ("stepfunctions", "CreateStateMachine", "roleArn"),
        ("ec2", "RunInstances", "IamInstanceProfile"),
    ] {
        let passes = required_actions(id, operation);
        let pass = passes
            .iter()
            .find(|one| one.action == "iam:PassRole" && one.required_if_member.as_deref() == Some(member));
        assert!(pass.is_some(), "{id}:{operation} does not pass {member}");
    }
    assert!(!action_names("sts", "AssumeRole").contains(&"iam:PassRole".to_owned()));
    assert!(!action_names("iam", "GetRole").contains(&"iam:PassRole".to_owned()));
}

#[test]
fn a_role_inside_the_input_is_passed_if_it_is_present() {
    let passed = |id, operation| -> Vec<Option<String>> {
        let uses = required_actions(id, operation).into_iter().filter(|one| one.action == "iam:PassRole");
        uses.map(|one| one.required_if_member).collect()
    };
    assert!(passed("events", "PutTargets").contains(&Some("Targets[].RoleArn".to_owned())));
    assert!(passed("ecs", "RunTask").contains(&Some("overrides.taskRoleArn".to_owned())));
    assert!(passed("events", "ListTargetsByRule").is_empty());
}

#[test]
fn distinguishes_actions_without_resources_from_requests_that_name_none() {
    let any = |id, operation| {
        let uses = required_actions(id, operation);
        let first = uses.first().expect("an action");
        (
            first.resources.iter().all(|arn| arn.placeholder_members.is_empty()),
            first.has_resource_level_permissions,
        )
    };
    assert_eq!(any("sts", "GetCallerIdentity"), (true, false));
    assert_eq!(any("ec2", "CreateInternetGateway"), (true, true));
    assert_eq!(any("iam", "GetUser"), (false, true));
}

#[test]
fn a_service_is_found_by_the_name_that_its_endpoints_sign_with() {
    assert_eq!(Catalog::embedded().service_ids_signing_as("IngestionService"), ["importexport"]);
}

#[test]
fn finds_the_nearest_operation_to_a_misspelling() {
    let near = |service: &str, name: &str| Catalog::embedded().nearest_operation(service, name);
    assert_eq!(near("s3", "DeletObject"), Some(("s3".to_owned(), "DeleteObject".to_owned())));
    assert_eq!(near("iam", "create-loginprofil"), Some(("iam".to_owned(), "CreateLoginProfile".to_owned())));
    assert_eq!(near("s3", "Frobnicate"), None);
    assert_eq!(near("nosuchservice", "DeleteObject"), None);
}

#[test]
fn finds_services_by_signing_name() {
    let catalog = Catalog::embedded();
    assert_eq!(catalog.service_ids_signing_as("monitoring"), ["cloudwatch"]);
    assert_eq!(catalog.service_ids_signing_as("s3"), ["s3", "s3control"]);
    for alias in ["s3express", "s3-outposts", "s3-object-lambda"] {
        let ids = catalog.service_ids_signing_as(alias);
        assert!(ids.contains(&"s3") && ids.contains(&"s3control"), "{alias} gives {ids:?}");
    }
    let ses: Vec<String> = catalog.services_signing_as("ses").iter().map(|one| one.id.clone()).collect();
    assert!(ses.contains(&"ses".to_owned()) && ses.contains(&"sesv2".to_owned()));
    assert!(catalog.services_signing_as("nosuch").is_empty());
    assert!(catalog.service("nosuch").is_none());
}

#[test]
fn loads_a_service_once() {
    assert!(Arc::ptr_eq(&embedded_service("sqs"), &embedded_service("sqs")));
}

#[test]
fn knows_routes_protocols_and_shapes() {
    let s3 = embedded_service("s3");
    let list = s3.operation("ListObjectsV2").expect("s3 lists objects");
    assert_eq!((list.http_method.as_str(), list.path_template.as_str()), ("GET", "/{Bucket}"));
    assert_eq!(list.query_literals, [("list-type".to_owned(), Some("2".to_owned()))]);
    let put = s3.operation("PutObject").expect("s3 puts objects");
    let input = put.input_shape.expect("PutObject has an input");
    let key = s3.find_member(input, "Key").expect("PutObject has a key");
    assert!(key.is_required && key.location == MemberLocation::Uri);
    assert_eq!(
        s3.find_member(input, "Metadata").map(|member| member.location),
        Some(MemberLocation::PrefixHeaders)
    );
    let body = s3.find_member(input, "Body").and_then(|member| s3.shape(member.shape));
    assert!(matches!(body.map(|shape| &shape.kind), Some(ShapeKind::Blob { is_streaming: true })));
    assert_eq!(embedded_service("sqs").protocols, [AwsProtocol::Json10, AwsProtocol::Query]);
    assert_eq!(
        embedded_service("cloudwatch").protocols,
        [AwsProtocol::Json10, AwsProtocol::RpcV2Cbor, AwsProtocol::Query]
    );
    assert!(embedded_service("sqs").is_query_compatible && !embedded_service("sns").is_query_compatible);
    assert_eq!(embedded_service("ec2").protocols, [AwsProtocol::Ec2]);
    assert_eq!(
        embedded_service("stepfunctions")
            .operation("StartSyncExecution")
            .and_then(|one| one.host_prefix.clone())
            .as_deref(),
        Some("sync-")
    );
    assert!(
        embedded_service("sts").operation("AssumeRoleWithWebIdentity").is_some_and(|one| one.is_unsigned)
    );
    assert!(embedded_service("sts").operation("AssumeRole").is_some_and(|one| !one.is_unsigned));
}

#[test]
fn marks_secrets_that_the_models_do_not() {
    for (id, operation, path) in [
        ("sts", "AssumeRole", &["Credentials", "SessionToken"][..]),
        ("sts", "AssumeRole", &["Credentials", "SecretAccessKey"]),
        ("apigateway", "GetApiKey", &["value"]),
        ("secretsmanager", "GetSecretValue", &["SecretString"]),
    ] {
        let service = embedded_service(id);
        let mut at = service
            .operation(operation)
            .and_then(|one| one.output_shape)
            .expect("the operation has an output");
        let mut sensitive = false;
        for name in path {
            let member = service.find_member(at, name).expect("the output has the member");
            sensitive =
                member.is_sensitive || service.shape(member.shape).is_some_and(|shape| shape.is_sensitive);
            at = member.shape;
        }
        assert!(sensitive, "{id}:{operation} {path:?}");
    }
}

#[test]
fn marks_operations_with_risky_traits() {
    let traits = |id: &str, name: &str| {
        embedded_service(id).operation(name).expect("the operation is in the model").traits
    };
    assert!(traits("s3", "DeleteObject").irreversible);
    assert!(traits("ec2", "TerminateInstances").irreversible);
    assert!(traits("kms", "ScheduleKeyDeletion").irreversible);
    assert!(!traits("sqs", "DeleteMessage").irreversible);
    assert!(!traits("ec2", "DescribeInstances").irreversible);
    for name in [
        "CreateAccessKey",
        "PutUserPolicy",
        "AttachRolePolicy",
        "UpdateAssumeRolePolicy",
        "CreateLoginProfile",
    ] {
        assert!(traits("iam", name).escalates, "{name}");
    }
    assert!(traits("lambda", "UpdateFunctionCode").escalates);
    assert!(traits("lambda", "CreateFunction").escalates, "it always passes a role");
    assert!(!traits("s3", "PutObject").escalates, "only its ACL could");
    assert!(!traits("iam", "GetUser").escalates);
    assert!(traits("ssm", "SendCommand").indirect && traits("lambda", "Invoke").indirect);
    assert!(traits("ec2", "RunInstances").indirect && !traits("ec2", "StopInstances").indirect);
    for (id, name) in [
        ("sts", "AssumeRole"),
        ("iam", "CreateAccessKey"),
        ("secretsmanager", "GetSecretValue"),
        ("ecr", "GetAuthorizationToken"),
    ] {
        assert!(traits(id, name).returns_credentials, "{id}:{name}");
    }
    assert!(!traits("sts", "GetCallerIdentity").returns_credentials);
}

#[test]
fn working_links_keys_and_tokens_are_credentials() {
    let returns_credentials = |id: &str, name: &str| {
        let service = Catalog::embedded().service(id).unwrap();
        service.operation(name).unwrap().traits.returns_credentials
    };
    for (id, name) in [
        ("appsync", "ListApiKeys"),
        ("kinesisanalyticsv2", "CreateApplicationPresignedUrl"),
        ("emr-serverless", "GetDashboardForJobRun"),
        ("emr-serverless", "GetSessionEndpoint"),
        ("emr", "GetPersistentAppUIPresignedURL"),
        ("athena", "GetResourceDashboard"),
        ("athena", "GetSessionEndpoint"),
        ("lambda", "GetFunction"),
        ("lambda", "GetLayerVersionByArn"),
        ("ecr", "GetDownloadUrlForLayer"),
        ("ecr", "GetAuthorizationToken"),
        ("quicksight", "GenerateEmbedUrlForAnonymousUser"),
        ("quicksight", "GetDashboardEmbedUrl"),
        ("acm", "ExportCertificate"),
        ("datazone", "GetEnvironmentCredentials"),
        ("datazone", "GetConnection"),
        ("codepipeline", "GetThirdPartyJobDetails"),
        ("redshift", "GetIdentityCenterAuthToken"),
        ("redshift", "GetClusterCredentials"),
        ("sagemaker", "CreatePresignedDomainUrl"),
        ("appstream", "CreateStreamingURL"),
        ("connectparticipant", "CreateParticipantConnection"),
        ("devicefarm", "ListArtifacts"),
    ] {
        assert!(returns_credentials(id, name), "{id}:{name}");
    }
    // Everyday reads have tokens of pages, ids and masked settings in them, and none of these is a credential.
    for (id, name) in [
        ("rds", "DescribeDBInstances"),
        ("ec2", "DescribeInstances"),
        ("elbv2", "DescribeListeners"),
        ("eks", "DescribeCluster"),
        ("lambda", "GetFunctionConfiguration"),
        ("lambda", "GetFunctionUrlConfig"),
        ("sqs", "GetQueueUrl"),
        ("s3", "GetObject"),
        ("s3", "ListObjectsV2"),
        ("glue", "GetJobs"),
        ("codebuild", "BatchGetProjects"),
        ("ecr", "DescribeImages"),
        ("kms", "ListKeys"),
        ("cloudformation", "DescribeStacks"),
    ] {
        assert!(!returns_credentials(id, name), "{id}:{name}");
    }
}

#[test]
fn invocations_and_message_reads_are_no_reads() {
    let level = |action: &str| Catalog::embedded().access_level_of(action);
    for action in [
        "bedrock:InvokeModel",
        "bedrock:InvokeAgent",
        "sagemaker:InvokeEndpoint",
        "lambda:InvokeFunction",
        "qbusiness:ChatSync",
        "sqs:ReceiveMessage",
        "kinesis:GetRecords",
        "logs:Unmask",
    ] {
        assert_eq!(level(action), Some(AccessLevel::Write), "{action}");
    }
    for action in ["kinesis:DescribeStream", "sqs:GetQueueAttributes", "logs:GetLogEvents", "logs:StartQuery"]
    {
        assert!(level(action).is_some_and(|level| level <= AccessLevel::Read), "{action}");
    }
}

#[test]
fn finds_actions_and_the_nearest_one_to_a_misspelling() {
    let catalog = Catalog::embedded();
    assert_eq!(catalog.access_level_of("s3:GetObject"), Some(AccessLevel::Read));
    assert_eq!(catalog.access_level_of("s3:PutBucketTagging"), Some(AccessLevel::Tagging));
    assert_eq!(catalog.access_level_of("iam:PassRole"), Some(AccessLevel::Write));
    assert_eq!(catalog.access_level_of("s3:PutBucketPolicy"), Some(AccessLevel::PermissionsManagement));
    assert_eq!(catalog.access_level_of("s3:getobject"), None);
    assert_eq!(catalog.access_level_of("s3"), None);
    for (wrong, right) in [
        ("s3:GetObjct", "s3:GetObject"),
        ("s3:getobject", "s3:GetObject"),
        ("dynamodb:PutItems", "dynamodb:PutItem"),
        ("sqss:SendMessage", "sqs:SendMessage"),
    ] {
        assert_eq!(catalog.nearest_action(wrong).as_deref(), Some(right), "{wrong}");
    }
    assert_eq!(catalog.nearest_action("s3:MakeMeCoffeeWithMilkPlease"), None);
    assert_eq!(catalog.nearest_action("nothing"), None);
    let s3: Vec<(String, AccessLevel)> = catalog.actions_of("s3").collect();
    assert!(s3.contains(&("s3:ListAllMyBuckets".to_owned(), AccessLevel::List)) && s3.len() > 150);
    assert_eq!(catalog.actions_of("nosuch").count(), 0);
}

#[test]
fn lists_the_operations_that_need_an_action() {
    let needing = Catalog::embedded().operations_needing("s3:GetObject");
    for name in ["GetObject", "HeadObject", "SelectObjectContent"] {
        assert!(needing.contains(&("s3".to_owned(), name.to_owned())), "{name}");
    }
    assert!(Catalog::embedded().operations_needing("s3:NoSuchAction").is_empty());
}

#[test]
fn resolves_endpoints_and_the_region_that_signs() {
    let catalog = Catalog::embedded();
    for (id, region, host, signing_region, signing_name) in [
        ("s3", "eu-west-1", "s3.eu-west-1.amazonaws.com", "eu-west-1", "s3"),
        ("s3", "us-east-1", "s3.us-east-1.amazonaws.com", "us-east-1", "s3"),
        ("s3control", "eu-west-1", "s3-control.eu-west-1.amazonaws.com", "eu-west-1", "s3"),
        ("sqs", "eu-west-1", "sqs.eu-west-1.amazonaws.com", "eu-west-1", "sqs"),
        ("sts", "us-east-1", "sts.us-east-1.amazonaws.com", "us-east-1", "sts"),
        ("cloudwatch", "eu-central-1", "monitoring.eu-central-1.amazonaws.com", "eu-central-1", "monitoring"),
        ("dynamodb", "us-west-2", "dynamodb.us-west-2.amazonaws.com", "us-west-2", "dynamodb"),
        ("iam", "eu-west-1", "iam.amazonaws.com", "us-east-1", "iam"),
        ("iam", "cn-north-1", "iam.cn-north-1.amazonaws.com.cn", "cn-north-1", "iam"),
        ("iam", "us-gov-east-1", "iam.us-gov.amazonaws.com", "us-gov-west-1", "iam"),
        ("route53", "eu-west-1", "route53.amazonaws.com", "us-east-1", "route53"),
        ("cloudfront", "eu-west-1", "cloudfront.amazonaws.com", "us-east-1", "cloudfront"),
        ("organizations", "eu-west-1", "organizations.us-east-1.amazonaws.com", "us-east-1", "organizations"),
        ("ec2", "cn-north-1", "ec2.cn-north-1.amazonaws.com.cn", "cn-north-1", "ec2"),
        ("lambda", "us-iso-east-1", "lambda.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "lambda"),
        ("lambda", "eu-nowhere-9", "lambda.eu-nowhere-9.amazonaws.com", "eu-nowhere-9", "lambda"),
    ] {
        let endpoint = catalog
            .resolve_endpoint(id, region)
            .unwrap_or_else(|| panic!("{id} has no endpoint in {region}"));
        assert_eq!(
            (endpoint.host.as_str(), endpoint.signing_region.as_str(), endpoint.signing_name.as_str()),
            (host, signing_region, signing_name),
            "{id} {region}"
        );
    }
}

#[test]
fn text_that_is_no_region_has_no_endpoint() {
    for region in [
        "",
        "evil.example",
        "eu-west-1.evil.example/",
        "eu-west-1/../",
        "us-",
        "xx-west-1",
        "EU-west-1",
        "eu-w@st-1",
    ] {
        assert_eq!(Catalog::embedded().resolve_endpoint("sqs", region), None, "{region:?}");
    }
    assert_eq!(Catalog::embedded().resolve_endpoint("nosuch", "eu-west-1"), None);
}

#[test]
fn no_character_of_a_region_changes_the_host() {
    let catalog = Catalog::embedded();
    for (at, _) in "eu-west-1".char_indices() {
        for character in ('\0'..='\u{ff}').chain(['\u{ff0e}', '\u{3002}', '\u{2024}']) {
            let mut region = "eu-west-1".to_owned();
            region.insert(at, character);
            if let Some(endpoint) = catalog.resolve_endpoint("sqs", &region) {
                assert_eq!(endpoint.host, format!("sqs.{region}.amazonaws.com"), "{region:?}");
                assert!(character.is_ascii_lowercase() || character.is_ascii_digit(), "{region:?}");
            }
        }
    }
}

#[test]
fn finds_the_partition_of_a_region() {
    let catalog = Catalog::embedded();
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("us-gov-west-1", "aws-us-gov"),
        ("cn-north-1", "aws-cn"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
        ("sa-newplace-4", "aws"),
        ("somewhere", "aws"),
    ] {
        assert_eq!(catalog.partition_of_region(region), partition, "{region}");
    }
}

#[test]
fn bytes_that_are_no_index_are_an_error() {
    assert!(matches!(Catalog::from_bytes(b"not an index"), Err(IndexError::BadMagic)));
    assert!(Catalog::from_bytes(EMBEDDED_INDEX.get(..40).expect("the index is longer")).is_err());
    assert!(Catalog::from_bytes(EMBEDDED_INDEX.get(..10).expect("the index is longer")).is_err());
}

#[test]
fn a_missing_frame_makes_its_service_unknown() {
    let half = EMBEDDED_INDEX.get(..EMBEDDED_INDEX.len() / 2).expect("half of the index");
    let catalog = Catalog::from_bytes(half).expect("the table of contents is whole");
    let (mut known, mut unknown) = (0, 0);
    for entry in catalog.service_entries() {
        let end = catalog.frames_offset + (entry.frame.offset + entry.frame.packed_bytes) as usize;
        let is_known = catalog.service(&entry.id).is_some();
        assert_eq!(is_known, end <= half.len(), "{}", entry.id);
        *(if is_known { &mut known } else { &mut unknown }) += 1;
    }
    assert!(known > 0 && unknown > 0, "{known} {unknown}");
    // The frame of the actions is the first after the services.
    assert_eq!(catalog.access_level_of("s3:GetObject"), None);
}

#[test]
fn distinguishes_actions_with_resources_from_those_without() {
    let catalog = Catalog::embedded();
    for (action, expected) in [
        ("kms:Decrypt", true),
        ("secretsmanager:GetSecretValue", true),
        ("ec2:DeleteSecurityGroup", true),
        ("logs:StartQuery", true),
        ("s3:*unknown*", true),
        ("s3:ListAllMyBuckets", false),
        ("ec2:DescribeInstances", false),
        ("dynamodb:ListTables", false),
        ("sts:GetCallerIdentity", false),
    ] {
        assert_eq!(catalog.may_have_resources(action), expected, "{action}");
    }
}
