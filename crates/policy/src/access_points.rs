//! Requests that reach the objects of a bucket under another name: through an access point, or by an alias of one.
//!
//! The bucket behind the name is known to AWS alone. A forbid on the bucket, by its ARN, a pattern or a tag, would not see such a
//! request, so a permit counts for it only if it names the access point or alias: whoever writes the name has looked behind it.
//!
//! docs/adr/0020-access-points-are-permitted-by-name.md has the reasons.

use durward_core::Arn;

/// The ends of bucket names that S3 reserves for aliases, which are names of something else: access points (of Outposts and
/// directory buckets, too), Object Lambda and multi-Region access points, and the storage of tables (S3 User Guide, "General
/// purpose bucket naming rules", "Access point aliases", "Referencing access points for directory buckets").
const ALIAS_SUFFIXES: [&str; 6] = ["-s3alias", "--ol-s3", "--op-s3", "--xa-s3", "--table-s3", ".mrap"];

/// Actions on an access point itself, beside those whose names have `AccessPoint` in them.
const TAGGING_ACTIONS: [&str; 3] = ["s3:ListTagsForResource", "s3:TagResource", "s3:UntagResource"];

/// The access point or alias that an ARN begins with, as an ARN. `None`: the ARN names no such thing.
pub(crate) fn access_point_of(arn: &str) -> Option<&str> {
    let parts = Arn::parse(arn)?;
    let start = arn.len() - parts.resource.len();
    let mut segments = parts.resource.split('/');
    let is_alias = |bucket: &str| {
        let bucket = bucket.to_ascii_lowercase();
        ALIAS_SUFFIXES.iter().any(|suffix| bucket.ends_with(suffix))
    };
    let segment_count = match parts.service {
        "s3" if parts.region.is_empty() && parts.account.is_empty() => {
            usize::from(segments.next().is_some_and(is_alias))
        }
        "s3" | "s3express" | "s3-object-lambda" if segments.next() == Some("accesspoint") => 2,
        // `outpost/<id>/accesspoint/<name>`, and `outpost/<id>/object/<key>` as a copy source (S3 API Reference, CopyObject).
        "s3-outposts" if segments.next() == Some("outpost") => match segments.nth(1) {
            Some("accesspoint") => 4,
            Some("object") => 2,
            _ => 0,
        },
        _ => 0,
    };
    if segment_count == 0 {
        return None;
    }
    let length: usize = parts.resource.split('/').take(segment_count).map(|segment| segment.len() + 1).sum();
    arn.get(..(start + length).saturating_sub(1).min(arn.len()))
}

/// The access point or alias through which a permission reaches a bucket. `None`: it reaches no bucket through one.
pub(crate) fn access_point_in_use<'a>(action: &str, arn: &'a str) -> Option<&'a str> {
    let manages_access_points = action.contains("AccessPoint") || TAGGING_ACTIONS.contains(&action);
    access_point_of(arn).filter(|_| !manages_access_points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_access_point_in_every_form_of_its_name() {
        let account = "arn:aws:s3:eu-west-1:123456789012";
        for (arn, access_point) in [
            (format!("{account}:accesspoint/p/object/a/b"), format!("{account}:accesspoint/p")),
            (format!("{account}:accesspoint/p"), format!("{account}:accesspoint/p")),
            (
                "arn:aws:s3::123456789012:accesspoint/abc.mrap/object/k".to_owned(),
                "arn:aws:s3::123456789012:accesspoint/abc.mrap".to_owned(),
            ),
            (
                "arn:aws:s3-object-lambda:r:123456789012:accesspoint/o/object/k".to_owned(),
                "arn:aws:s3-object-lambda:r:123456789012:accesspoint/o".to_owned(),
            ),
            (
                "arn:aws:s3-outposts:r:123456789012:outpost/op-1/accesspoint/p/object/k".to_owned(),
                "arn:aws:s3-outposts:r:123456789012:outpost/op-1/accesspoint/p".to_owned(),
            ),
            (
                "arn:aws:s3-outposts:r:123456789012:outpost/op-1/object/k".to_owned(),
                "arn:aws:s3-outposts:r:123456789012:outpost/op-1".to_owned(),
            ),
            ("arn:aws:s3:::p-abc-s3alias/k".to_owned(), "arn:aws:s3:::p-abc-s3alias".to_owned()),
            ("arn:aws:s3:::p-abc-S3ALIAS".to_owned(), "arn:aws:s3:::p-abc-S3ALIAS".to_owned()),
            ("arn:aws-cn:s3:::o-abc--ol-s3/k".to_owned(), "arn:aws-cn:s3:::o-abc--ol-s3".to_owned()),
            ("arn:aws:s3:::p--use1-az4--xa-s3/k".to_owned(), "arn:aws:s3:::p--use1-az4--xa-s3".to_owned()),
            ("arn:aws:s3:::abc.mrap/k".to_owned(), "arn:aws:s3:::abc.mrap".to_owned()),
        ] {
            assert_eq!(access_point_of(&arn), Some(access_point.as_str()), "{arn}");
        }
        for arn in [
            "arn:aws:s3:::b/k",
            "arn:aws:s3:::b/p-abc-s3alias/k",
            "arn:aws:s3:::accesspoint/p",
            "arn:aws:s3:::s3alias",
            "arn:aws:s3:eu-west-1:123456789012:job/j",
            "arn:aws:s3express:r:123456789012:bucket/b--use1-az4--x-s3",
            "arn:aws:dynamodb:r:123456789012:table/accesspoint",
            "accesspoint/p",
        ] {
            assert_eq!(access_point_of(arn), None, "{arn}");
        }
    }

    #[test]
    fn managing_an_access_point_reaches_no_bucket() {
        let arn = "arn:aws:s3:r:123456789012:accesspoint/p";
        for action in ["s3:GetAccessPoint", "s3:PutAccessPointPolicy", "s3:TagResource"] {
            assert_eq!(access_point_in_use(action, arn), None, "{action}");
        }
        assert_eq!(access_point_in_use("s3:ListBucket", arn), Some(arn));
    }
}
