//! S3: versions have actions of their own, headers add actions, copies read their source, access points are ARNs.

use super::super::resources::{Context, by_templates, demand, demand_any, push};
use super::super::text::{decode_percent, malformed, quote};
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

use AccessLevel::{List, PermissionsManagement, Read, Tagging, Write};

/// Operations on one object: action, action with a version id, level.
const OBJECT: [(&str, &str, &str, AccessLevel); 30] = [
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

/// Operations on one bucket whose action has another name.
const BUCKET: [(&str, &str, AccessLevel); 24] = [
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

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let name = context.op.name.as_str();
    let mut out = Vec::new();
    if name == "ListBuckets" {
        return Ok(Some(vec![demand_any("s3:ListAllMyBuckets", List)]));
    }
    if name == "ListDirectoryBuckets" {
        return Ok(Some(vec![demand_any("s3express:ListAllMyDirectoryBuckets", List)]));
    }
    if name == "WriteGetObjectResponse" {
        return Ok(Some(vec![demand_any("s3-object-lambda:WriteGetObjectResponse", Write)]));
    }
    let Some(bucket) = context.text("Bucket") else { return Ok(None) };
    if name == "DeleteObjects" {
        delete_objects(context, bucket, &mut out)?;
    } else if let Some((_, action, level)) = BUCKET.iter().find(|(op, _, _)| *op == name) {
        push(&mut out, demand(action, *level, bucket_arn(context, bucket)));
        if name == "CreateBucket" {
            create_bucket(context, bucket, &mut out);
        }
    } else if let (Some((_, plain, version, level)), Some(key)) =
        (OBJECT.iter().find(|(op, _, _, _)| *op == name), context.text("Key"))
    {
        let arn = object_arn(context, bucket, key);
        let action = if context.text("VersionId").is_some() { version } else { plain };
        push(&mut out, demand(action, *level, arn.clone()));
        object_extras(context, bucket, &arn, &mut out)?;
    } else {
        out = by_templates(context);
    }
    if bucket.ends_with("--x-s3") {
        // S3 Express authorises by session; the action on the object above is still decided here.
        let arn = format!(
            "arn:{}:s3express:{}:{}:bucket/{bucket}",
            context.partition, context.scope.region, context.scope.account
        );
        push(&mut out, demand("s3express:CreateSession", Write, arn));
    }
    Ok(Some(out))
}

/// The actions that headers of an object operation add.
fn object_extras(
    context: &Context<'_>,
    bucket: &str,
    arn: &str,
    out: &mut Vec<Demand>,
) -> Result<(), Refusal> {
    let name = context.op.name.as_str();
    let writes = matches!(name, "PutObject" | "CopyObject" | "CreateMultipartUpload");
    if writes {
        const GRANTS: [&str; 5] = ["ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"];
        if GRANTS.iter().any(|member| context.has(member)) {
            push(out, demand("s3:PutObjectAcl", PermissionsManagement, arn.to_owned()));
        }
        if context.text("Tagging").is_some() {
            push(out, demand("s3:PutObjectTagging", Tagging, arn.to_owned()));
        }
        if context.has("ObjectLockMode") || context.has("ObjectLockRetainUntilDate") {
            push(out, demand("s3:PutObjectRetention", Write, arn.to_owned()));
        }
        if context.has("ObjectLockLegalHoldStatus") {
            push(out, demand("s3:PutObjectLegalHold", Write, arn.to_owned()));
        }
    }
    if bypasses(context) {
        push(out, demand("s3:BypassGovernanceRetention", PermissionsManagement, arn.to_owned()));
    }
    match name {
        "GetObjectAttributes" => {
            let action =
                if context.text("VersionId").is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
            push(out, demand(action, Read, arn.to_owned()));
        }
        "CopyObject" | "UploadPartCopy" => {
            let source = context
                .text("CopySource")
                .ok_or_else(|| malformed("the header x-amz-copy-source names no object"))?;
            let (source, version) = copy_source(context, source)?;
            let action = if version { "s3:GetObjectVersion" } else { "s3:GetObject" };
            push(out, demand(action, Read, source));
        }
        "RenameObject" => {
            let source = context
                .text("RenameSource")
                .ok_or_else(|| malformed("the header x-amz-rename-source names no object"))?;
            let source = decode_percent(source, false)?;
            let key = source.strip_prefix('/').unwrap_or(&source);
            let key = key.strip_prefix(&format!("{bucket}/")).unwrap_or(key);
            push(out, demand("s3:GetObject", Read, object_arn(context, bucket, key)));
            push(out, demand("s3:DeleteObject", Write, object_arn(context, bucket, key)));
        }
        _ => {}
    }
    Ok(())
}

fn bypasses(context: &Context<'_>) -> bool {
    context.has("BypassGovernanceRetention")
        && context.parameters.get("BypassGovernanceRetention") != Some(&Value::Bool(false))
}

/// The keys are in the body; each is a resource of its own.
fn delete_objects(context: &Context<'_>, bucket: &str, out: &mut Vec<Demand>) -> Result<(), Refusal> {
    let objects = context
        .parameters
        .get("Delete")
        .and_then(|delete| delete.get("Objects"))
        .and_then(Value::as_array)
        .filter(|objects| !objects.is_empty())
        .ok_or_else(|| malformed("the body of DeleteObjects names no object"))?;
    let mut seen = std::collections::HashSet::new();
    for object in objects {
        let key = object
            .get("Key")
            .and_then(Value::as_str)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| malformed("an object of DeleteObjects has no key"))?;
        let version = object.get("VersionId").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        if !seen.insert((key, version)) {
            continue;
        }
        let arn = object_arn(context, bucket, key);
        let action = if version { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
        if bypasses(context) {
            out.push(demand("s3:BypassGovernanceRetention", PermissionsManagement, arn.clone()));
        }
        out.push(demand(action, Write, arn));
    }
    Ok(())
}

fn create_bucket(context: &Context<'_>, bucket: &str, out: &mut Vec<Demand>) {
    let arn = bucket_arn(context, bucket);
    const GRANTS: [&str; 6] =
        ["ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP"];
    if GRANTS.iter().any(|member| context.has(member)) {
        push(out, demand("s3:PutBucketAcl", PermissionsManagement, arn.clone()));
    }
    if context.parameters.get("ObjectLockEnabledForBucket") == Some(&Value::Bool(true)) {
        push(out, demand("s3:PutBucketObjectLockConfiguration", Write, arn.clone()));
        push(out, demand("s3:PutBucketVersioning", Write, arn.clone()));
    }
    if context.has("ObjectOwnership") {
        push(out, demand("s3:PutBucketOwnershipControls", Write, arn.clone()));
    }
    let tags = context.parameters.get("CreateBucketConfiguration").and_then(|config| config.get("Tags"));
    if tags.and_then(Value::as_array).is_some_and(|tags| !tags.is_empty()) {
        push(out, demand("s3:TagResource", Tagging, arn));
    }
}

fn bucket_arn(context: &Context<'_>, bucket: &str) -> String {
    if bucket.starts_with("arn:") {
        return bucket.to_owned();
    }
    if bucket.ends_with("--x-s3") {
        return context.arn("s3express", &format!("bucket/{bucket}"));
    }
    format!("arn:{}:s3:::{bucket}", context.partition)
}

fn object_arn(context: &Context<'_>, bucket: &str, key: &str) -> String {
    if bucket.starts_with("arn:") {
        // An access point's objects.
        return format!("{bucket}/object/{key}");
    }
    format!("arn:{}:s3:::{bucket}/{key}", context.partition)
}

/// The object of `x-amz-copy-source` and whether a version of it is meant: `[/]bucket/key[?versionId=id]`, URL-encoded, or an
/// access point ARN with `/object/`.
fn copy_source(context: &Context<'_>, raw: &str) -> Result<(String, bool), Refusal> {
    if raw.contains('+') {
        return Err(malformed("the copy source holds a bare `+`; send %2B or %20"));
    }
    let (path, version) = match raw.split_once('?') {
        Some((path, query)) => match query.strip_prefix("versionId=") {
            Some(id) if !id.is_empty() && !id.contains(['&', '?']) => (path, true),
            _ => return Err(malformed("the copy source has a query other than one versionId")),
        },
        None => (raw, false),
    };
    let path = decode_percent(path, false)?;
    if path.starts_with("arn:") || path.starts_with("/arn:") {
        let arn = path.trim_start_matches('/');
        if !arn.contains("/object/") {
            return Err(malformed("the copy source is an arn that names no object"));
        }
        return Ok((arn.to_owned(), version));
    }
    // An encoded question mark is part of a key for some readers and begins the version for others.
    if path.contains("?versionId=") {
        return Err(malformed("the copy source holds an encoded `?versionId=`"));
    }
    let path = path.strip_prefix('/').unwrap_or(&path);
    match path.split_once('/') {
        Some((bucket, key)) if !key.is_empty() && bucket_like(bucket) => {
            Ok((object_arn(context, bucket, key), version))
        }
        _ => Err(malformed(format!("the copy source `{}` is not <bucket>/<key>", quote(raw)))),
    }
}

fn bucket_like(bucket: &str) -> bool {
    bucket.len() >= 3
        && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !bucket.contains("..")
        && !bucket.starts_with('.')
}
