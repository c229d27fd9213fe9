//! An ARN split into the parts that a policy can read: service, resource type and name, account, bucket.

use durward_core::{Arn, is_account_id};

/// The parts of an ARN that become attributes and ancestors of an `Aws::Resource`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ArnParts<'a> {
    pub service: &'a str,
    /// The resource type as the ARN spells it (`table`, `log-group`). ARNs of S3, SNS and SQS spell none: `bucket`, `object`,
    /// `topic` or `queue`.
    pub resource_type: &'a str,
    pub resource_name: &'a str,
    /// Twelve digits, or empty.
    pub account: &'a str,
    /// For an S3 object: the ARN and the name of its bucket.
    pub bucket: Option<(&'a str, &'a str)>,
}

/// Splits an ARN. `None`: the text is not an ARN.
pub(crate) fn split_arn(arn: &str) -> Option<ArnParts<'_>> {
    let Arn { service, region, account, resource, .. } = Arn::parse(arn)?;
    let resource_start = arn.len() - resource.len();
    // ARNs of AWS-managed resources have `aws` here (`arn:aws:iam::aws:policy/...`), which is not an account.
    let account = if is_account_id(account) { account } else { "" };
    let parts = ArnParts { service, account, ..ArnParts::default() };
    // Buckets and objects have neither region nor account in their ARNs; access points, which have both, take the general
    // form below (Service Authorization Reference, "Resource types defined by Amazon S3").
    if service == "s3" && region.is_empty() && account.is_empty() {
        return Some(match resource.find('/') {
            None => ArnParts { resource_type: "bucket", resource_name: resource, ..parts },
            Some(slash) => ArnParts {
                resource_type: "object",
                resource_name: &resource[slash + 1..],
                bucket: Some((&arn[..resource_start + slash], &resource[..slash])),
                ..parts
            },
        });
    }
    // API Gateway writes `/restapis/...`.
    let resource = resource.strip_prefix('/').unwrap_or(resource);
    Some(match service {
        "sns" => ArnParts { resource_type: "topic", resource_name: resource, ..parts },
        "sqs" => ArnParts { resource_type: "queue", resource_name: resource, ..parts },
        _ => match resource.find(['/', ':']) {
            None => ArnParts { resource_name: resource, ..parts },
            Some(at) => {
                ArnParts { resource_type: &resource[..at], resource_name: &resource[at + 1..], ..parts }
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_arns_into_parts() {
        for (arn, service, resource_type, resource_name, account, bucket) in [
            ("arn:aws:s3:::b", "s3", "bucket", "b", "", None),
            ("arn:aws:s3:::b/a/c:d", "s3", "object", "a/c:d", "", Some(("arn:aws:s3:::b", "b"))),
            (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/p",
                "s3",
                "accesspoint",
                "p",
                "123456789012",
                None,
            ),
            (
                "arn:aws:dynamodb:r:123456789012:table/T/index/i",
                "dynamodb",
                "table",
                "T/index/i",
                "123456789012",
                None,
            ),
            ("arn:aws:lambda:r:123456789012:function:f:1", "lambda", "function", "f:1", "123456789012", None),
            ("arn:aws:sns:r:123456789012:t", "sns", "topic", "t", "123456789012", None),
            ("arn:aws:sqs:r:123456789012:q", "sqs", "queue", "q", "123456789012", None),
            ("arn:aws:apigateway:r::/restapis/x", "apigateway", "restapis", "x", "", None),
            ("arn:aws:iam::aws:policy/P", "iam", "policy", "P", "", None),
            ("arn:aws:ec2:r:123456789012:instance/*", "ec2", "instance", "*", "123456789012", None),
        ] {
            assert_eq!(
                split_arn(arn),
                Some(ArnParts { service, resource_type, resource_name, account, bucket }),
                "{arn}"
            );
        }
        assert_eq!(split_arn("arn:aws:s3"), None);
        assert_eq!(split_arn("b/k"), None);
    }
}
