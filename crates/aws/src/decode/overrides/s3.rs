//! S3: versions have actions of their own, headers require more actions, copies also read their source, and access points are
//! given as ARNs (Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3").

use super::super::bucket_name::{is_access_point_arn, is_bucket_name, is_outpost_arn};
use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, permissions_by_templates,
};
use crate::form::{PlusSign, decode_escapes};
use crate::refusals::{malformed_request, quote_for_message};
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;
use std::borrow::Cow;

use AccessLevel::{List, PermissionsManagement, Read, Tagging, Write};

/// Operations on one object: the action, the action with a version id, and the access level.
const OBJECT_ACTIONS: [(&str, &str, &str, AccessLevel); 30] = [
    ("DeleteObjectAnnotation", "s3:DeleteObjectAnnotation", "s3:DeleteObjectAnnotation", Write),
    ("GetObjectAnnotation", "s3:GetObjectAnnotation", "s3:GetObjectAnnotation", Read),
    ("ListObjectAnnotations", "s3:ListObjectAnnotations", "s3:ListObjectAnnotations", List),
    ("PutObjectAnnotation", "s3:PutObjectAnnotation", "s3:PutObjectAnnotation", Write),
    ("AbortMultipartUpload", "s3:AbortMultipartUpload", "s3:AbortMultipartUpload", Write),
    ("CompleteMultipartUpload", "s3:PutObject", "s3:PutObject", Write),
    ("CopyObject", "s3:PutObject", "s3:PutObject", Write),
    ("CreateMultipartUpload", "s3:PutObject", "s3:PutObject", Write),
    ("DeleteObject", "s3:DeleteObject", "s3:DeleteObjectVersion", Write),
    ("DeleteObjectTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging", Tagging),
    ("GetObject", "s3:GetObject", "s3:GetObjectVersion", Read),
    ("GetObjectAcl", "s3:GetObjectAcl", "s3:GetObjectVersionAcl", Read),
    ("GetObjectAttributes", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes", Read),
    ("GetObjectLegalHold", "s3:GetObjectLegalHold", "s3:GetObjectLegalHold", Read),
    ("GetObjectRetention", "s3:GetObjectRetention", "s3:GetObjectRetention", Read),
    ("GetObjectTagging", "s3:GetObjectTagging", "s3:GetObjectVersionTagging", Read),
    ("GetObjectTorrent", "s3:GetObjectTorrent", "s3:GetObjectVersionTorrent", Read),
    ("HeadObject", "s3:GetObject", "s3:GetObjectVersion", Read),
    ("ListParts", "s3:ListMultipartUploadParts", "s3:ListMultipartUploadParts", Read),
    ("PutObject", "s3:PutObject", "s3:PutObject", Write),
    ("PutObjectAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl", PermissionsManagement),
    ("PutObjectLegalHold", "s3:PutObjectLegalHold", "s3:PutObjectLegalHold", Write),
    ("PutObjectRetention", "s3:PutObjectRetention", "s3:PutObjectRetention", Write),
    ("PutObjectTagging", "s3:PutObjectTagging", "s3:PutObjectVersionTagging", Tagging),
    ("RestoreObject", "s3:RestoreObject", "s3:RestoreObject", Write),
    ("SelectObjectContent", "s3:GetObject", "s3:GetObject", Read),
    ("UpdateObjectEncryption", "s3:UpdateObjectEncryption", "s3:UpdateObjectEncryption", Write),
    ("UploadPart", "s3:PutObject", "s3:PutObject", Write),
    ("UploadPartCopy", "s3:PutObject", "s3:PutObject", Write),
    ("RenameObject", "s3:PutObject", "s3:PutObject", Write),
];

/// Operations on one bucket: the action and the access level.
const BUCKET_ACTIONS: [(&str, &str, AccessLevel); 24] = [
    ("DeleteBucketAnalyticsConfiguration", "s3:PutAnalyticsConfiguration", Write),
    ("DeleteBucketEncryption", "s3:PutEncryptionConfiguration", Write),
    ("DeleteBucketIntelligentTieringConfiguration", "s3:PutIntelligentTieringConfiguration", Write),
    ("DeleteBucketInventoryConfiguration", "s3:PutInventoryConfiguration", Write),
    ("DeleteBucketLifecycle", "s3:PutLifecycleConfiguration", Write),
    ("DeleteBucketMetricsConfiguration", "s3:PutMetricsConfiguration", Write),
    ("DeleteBucketReplication", "s3:PutReplicationConfiguration", Write),
    ("DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock", PermissionsManagement),
    ("GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration", Read),
    ("GetBucketNotificationConfiguration", "s3:GetBucketNotification", Read),
    ("ListBucketAnalyticsConfigurations", "s3:GetAnalyticsConfiguration", Read),
    ("ListBucketIntelligentTieringConfigurations", "s3:GetIntelligentTieringConfiguration", Read),
    ("ListBucketInventoryConfigurations", "s3:GetInventoryConfiguration", Read),
    ("ListBucketMetricsConfigurations", "s3:GetMetricsConfiguration", Read),
    ("PutBucketLifecycleConfiguration", "s3:PutLifecycleConfiguration", Write),
    ("PutBucketNotificationConfiguration", "s3:PutBucketNotification", Write),
    ("HeadBucket", "s3:ListBucket", List),
    ("ListObjects", "s3:ListBucket", List),
    ("ListObjectsV2", "s3:ListBucket", List),
    ("ListObjectVersions", "s3:ListBucketVersions", List),
    ("ListMultipartUploads", "s3:ListBucketMultipartUploads", List),
    ("CreateBucket", "s3:CreateBucket", Write),
    ("DeleteBucket", "s3:DeleteBucket", Write),
    ("CreateSession", "s3express:CreateSession", Write),
];

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let name = context.operation_model.name.as_str();
    let mut out = Vec::new();
    if name == "ListBuckets" {
        return Ok(Some(vec![permission_on_any("s3:ListAllMyBuckets", List)]));
    }
    if name == "ListDirectoryBuckets" {
        return Ok(Some(vec![permission_on_any("s3express:ListAllMyDirectoryBuckets", List)]));
    }
    if name == "WriteGetObjectResponse" {
        return Ok(Some(vec![permission_on_any("s3-object-lambda:WriteGetObjectResponse", Write)]));
    }
    let Some(bucket) = context.text_parameter("Bucket") else { return Ok(None) };
    if name == "DeleteObjects" {
        push_delete_permissions(context, bucket, &mut out)?;
    } else if let Some((_, action, level)) =
        BUCKET_ACTIONS.iter().find(|(operation, _, _)| *operation == name)
    {
        out.push(permission_on_arn(action, *level, bucket_arn(context, bucket)));
        if name == "CreateBucket" {
            push_create_bucket_permissions(context, bucket, &mut out);
        }
    } else if let (Some((_, plain, version, level)), Some(key)) =
        (OBJECT_ACTIONS.iter().find(|(operation, _, _, _)| *operation == name), context.text_parameter("Key"))
    {
        let arn = object_arn(context, bucket, key);
        let action = if context.text_parameter("VersionId").is_some() { version } else { plain };
        out.push(permission_on_arn(action, *level, arn.clone()));
        push_object_header_permissions(context, bucket, &arn, &mut out)?;
    } else {
        out = permissions_by_templates(context);
    }
    if bucket.ends_with("--x-s3") {
        // A directory bucket. AWS checks only s3express:CreateSession; policy also decides the action on the object.
        let arn = format!(
            "arn:{}:s3express:{}:{}:bucket/{bucket}",
            context.partition, context.scope.region, context.scope.account
        );
        out.push(permission_on_arn("s3express:CreateSession", Write, arn));
    }
    Ok(Some(out))
}

/// Adds the permissions that the headers of an object operation require.
fn push_object_header_permissions(
    context: &PermissionContext<'_>,
    bucket: &str,
    arn: &str,
    out: &mut Vec<RequiredPermission>,
) -> Result<(), Refusal> {
    let name = context.operation_model.name.as_str();
    let writes = matches!(name, "PutObject" | "CopyObject" | "CreateMultipartUpload");
    if writes {
        const OBJECT_GRANT_PARAMS: [&str; 5] =
            ["ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"];
        if OBJECT_GRANT_PARAMS.iter().any(|member| context.has_parameter(member)) {
            out.push(permission_on_arn("s3:PutObjectAcl", PermissionsManagement, arn.to_owned()));
        }
        if context.text_parameter("Tagging").is_some() {
            out.push(permission_on_arn("s3:PutObjectTagging", Tagging, arn.to_owned()));
        }
        if context.has_parameter("ObjectLockMode") || context.has_parameter("ObjectLockRetainUntilDate") {
            out.push(permission_on_arn("s3:PutObjectRetention", Write, arn.to_owned()));
        }
        if context.has_parameter("ObjectLockLegalHoldStatus") {
            out.push(permission_on_arn("s3:PutObjectLegalHold", Write, arn.to_owned()));
        }
    }
    if bypasses_governance_retention(context) {
        out.push(permission_on_arn("s3:BypassGovernanceRetention", PermissionsManagement, arn.to_owned()));
    }
    match name {
        "GetObjectAttributes" => {
            // GetObjectAttributes also needs the permission to read the object (S3 API Reference, GetObjectAttributes).
            let action = if context.text_parameter("VersionId").is_some() {
                "s3:GetObjectVersion"
            } else {
                "s3:GetObject"
            };
            out.push(permission_on_arn(action, Read, arn.to_owned()));
        }
        "CopyObject" | "UploadPartCopy" => {
            let source = context
                .text_parameter("CopySource")
                .ok_or_else(|| malformed_request("the header x-amz-copy-source names no object"))?;
            let (source, version) = parse_copy_source(context, source)?;
            let action = if version { "s3:GetObjectVersion" } else { "s3:GetObject" };
            out.push(permission_on_arn(action, Read, source));
        }
        "RenameObject" => {
            let source = context
                .text_parameter("RenameSource")
                .ok_or_else(|| malformed_request("the header x-amz-rename-source names no object"))?;
            let source = decode_escapes(source, PlusSign::Literal).map(Cow::into_owned)?;
            let key = source.strip_prefix('/').unwrap_or(&source);
            let key = key.strip_prefix(&format!("{bucket}/")).unwrap_or(key);
            out.push(permission_on_arn("s3:GetObject", Read, object_arn(context, bucket, key)));
            // A rename takes the object away from its old key.
            out.push(permission_on_arn("s3:DeleteObject", Write, object_arn(context, bucket, key)));
        }
        _ => {}
    }
    Ok(())
}

fn bypasses_governance_retention(context: &PermissionContext<'_>) -> bool {
    context.has_parameter("BypassGovernanceRetention")
        && context.parameters.get("BypassGovernanceRetention") != Some(&Value::Bool(false))
}

/// DeleteObjects has its keys in the body; each is a resource of its own.
fn push_delete_permissions(
    context: &PermissionContext<'_>,
    bucket: &str,
    out: &mut Vec<RequiredPermission>,
) -> Result<(), Refusal> {
    let objects = context
        .parameters
        .get("Delete")
        .and_then(|delete| delete.get("Objects"))
        .and_then(Value::as_array)
        .filter(|objects| !objects.is_empty())
        .ok_or_else(|| malformed_request("the body of DeleteObjects names no object"))?;
    for object in objects {
        let key = object
            .get("Key")
            .and_then(Value::as_str)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| malformed_request("an object of DeleteObjects has no key"))?;
        let version = object.get("VersionId").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        let arn = object_arn(context, bucket, key);
        let action = if version { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
        if bypasses_governance_retention(context) {
            out.push(permission_on_arn("s3:BypassGovernanceRetention", PermissionsManagement, arn.clone()));
        }
        out.push(permission_on_arn(action, Write, arn));
    }
    Ok(())
}

fn push_create_bucket_permissions(
    context: &PermissionContext<'_>,
    bucket: &str,
    out: &mut Vec<RequiredPermission>,
) {
    let arn = bucket_arn(context, bucket);
    const BUCKET_GRANT_PARAMS: [&str; 6] =
        ["ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP"];
    if BUCKET_GRANT_PARAMS.iter().any(|member| context.has_parameter(member)) {
        out.push(permission_on_arn("s3:PutBucketAcl", PermissionsManagement, arn.clone()));
    }
    if context.parameters.get("ObjectLockEnabledForBucket") == Some(&Value::Bool(true)) {
        out.push(permission_on_arn("s3:PutBucketObjectLockConfiguration", Write, arn.clone()));
        out.push(permission_on_arn("s3:PutBucketVersioning", Write, arn.clone()));
    }
    if context.has_parameter("ObjectOwnership") {
        out.push(permission_on_arn("s3:PutBucketOwnershipControls", Write, arn.clone()));
    }
    let tags = context.parameters.get("CreateBucketConfiguration").and_then(|config| config.get("Tags"));
    if tags.and_then(Value::as_array).is_some_and(|tags| !tags.is_empty()) {
        out.push(permission_on_arn("s3:TagResource", Tagging, arn));
    }
}

fn bucket_arn(context: &PermissionContext<'_>, bucket: &str) -> String {
    if bucket.starts_with("arn:") {
        return bucket.to_owned();
    }
    if bucket.ends_with("--x-s3") {
        return context.build_arn("s3express", &format!("bucket/{bucket}"));
    }
    format!("arn:{}:s3:::{bucket}", context.partition)
}

fn object_arn(context: &PermissionContext<'_>, bucket: &str, key: &str) -> String {
    if bucket.starts_with("arn:") {
        // An object behind an access point.
        return format!("{bucket}/object/{key}");
    }
    format!("arn:{}:s3:::{bucket}/{key}", context.partition)
}

/// Returns true for the ARN of an object behind an access point, or on an Outpost (S3 API Reference, CopyObject,
/// `x-amz-copy-source`). Anything else would be decided as an object that AWS does not read.
fn is_access_point_object(arn: &str) -> bool {
    let (owner, key) = arn.split_once("/object/").unwrap_or_default();
    !key.is_empty() && (is_access_point_arn(owner) || is_outpost_arn(owner))
}

/// The ARN of the object in `x-amz-copy-source`, and whether it names a version. The header is `[/]bucket/key[?versionId=id]`,
/// URL-encoded, or an access point ARN with `/object/` (S3 API Reference, CopyObject).
fn parse_copy_source(context: &PermissionContext<'_>, raw: &str) -> Result<(String, bool), Refusal> {
    if raw.contains('+') {
        return Err(malformed_request("the copy source holds a bare `+`; send %2B or %20"));
    }
    let (path, version) = match raw.split_once('?') {
        Some((path, query)) => match query.strip_prefix("versionId=") {
            Some(id) if !id.is_empty() && !id.contains(['&', '?']) => (path, true),
            _ => return Err(malformed_request("the copy source has a query other than one versionId")),
        },
        None => (raw, false),
    };
    let path = decode_escapes(path, PlusSign::Literal).map(Cow::into_owned)?;
    if path.starts_with("arn:") || path.starts_with("/arn:") {
        let arn = path.strip_prefix('/').unwrap_or(&path);
        if !is_access_point_object(arn) {
            return Err(malformed_request(
                "the copy source is an ARN, but not that of an object behind an access point; an object of a bucket is \
                 <bucket>/<key>",
            ));
        }
        return Ok((arn.to_owned(), version));
    }
    // Some readers take an encoded question mark as part of the key, others as the start of the version.
    if path.contains("?versionId=") {
        return Err(malformed_request("the copy source holds an encoded `?versionId=`"));
    }
    let path = path.strip_prefix('/').unwrap_or(&path);
    match path.split_once('/') {
        Some((bucket, key)) if !key.is_empty() && is_bucket_name(bucket) => {
            Ok((object_arn(context, bucket, key), version))
        }
        _ => Err(malformed_request(format!(
            "the copy source `{}` is not <bucket>/<key>",
            quote_for_message(raw)
        ))),
    }
}
