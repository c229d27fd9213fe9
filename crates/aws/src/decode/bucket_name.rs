//! The syntax of bucket names, and of the ARNs that S3 takes in their place.

use durward_core::{Arn, is_account_id};

/// Returns true if S3 can have a bucket of this name. Buckets of us-east-1 made before March 2018 may have up to 255 characters,
/// upper-case letters and underscores (S3 User Guide, "General purpose bucket naming rules").
pub(super) fn is_bucket_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        // `..` and a dot in front would be dot segments of a path.
        && !name.contains("..")
        && !name.starts_with('.')
}

/// Returns true if a text is the ARN of an access point, a multi-Region access point (without a region) or an access point on an
/// Outpost (S3 User Guide, "Using access points"; "ARNs for S3 on Outposts"). Anything else that begins with `arn:` names no
/// bucket: a service that reads it otherwise would act on a resource that policy did not compare.
pub(super) fn is_access_point_arn(text: &str) -> bool {
    let Some(arn) = parse_regional_arn(text) else { return false };
    match resource_parts(&arn).as_slice() {
        ["accesspoint", name] => matches!(arn.service, "s3" | "s3-object-lambda") && is_word(name),
        ["outpost", outpost, "accesspoint", name] => {
            arn.service == "s3-outposts" && is_word(outpost) && is_word(name)
        }
        _ => false,
    }
}

/// Returns true if a text is the ARN of an Outpost, which begins that of an object on it (S3 API Reference, CopyObject).
pub(super) fn is_outpost_arn(text: &str) -> bool {
    parse_regional_arn(text).is_some_and(|arn| {
        arn.service == "s3-outposts"
            && matches!(resource_parts(&arn).as_slice(), ["outpost", outpost] if is_word(outpost))
    })
}

/// An ARN with a partition, an account and a region; only a multi-Region access point has none.
fn parse_regional_arn(text: &str) -> Option<Arn<'_>> {
    Arn::parse(text).filter(|arn| {
        is_word(arn.partition)
            && is_account_id(arn.account)
            && (is_word(arn.region) || (arn.region.is_empty() && arn.service == "s3"))
    })
}

/// The parts of a resource: `/` and `:` both separate them (botocore, `S3ArnParamHandler`).
fn resource_parts<'a>(arn: &Arn<'a>) -> Vec<&'a str> {
    arn.resource.split(['/', ':']).collect()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
