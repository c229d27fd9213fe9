//! The fields of an ARN (IAM User Guide, "Identify AWS resources with ARNs"), patterns of ARNs, and whether two different ARNs may
//! mean the same resource.

/// `arn:partition:service:region:account:resource`, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    /// Empty for global services and S3.
    pub region: &'a str,
    /// Empty for S3 and for resources that AWS owns.
    pub account: &'a str,
    /// The rest, with its colons and slashes.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        // At most six: the resource may contain colons itself (`log-group:name:*`, S3 keys).
        let mut fields = text.splitn(6, ':');
        if fields.next() != Some("arn") {
            return None;
        }
        Some(Self {
            partition: fields.next()?,
            service: fields.next()?,
            region: fields.next()?,
            account: fields.next()?,
            resource: fields.next()?,
        })
    }
}

/// Returns true if a text is the id of an AWS account: twelve digits (AWS Account Management Reference Guide, "View AWS account
/// identifiers").
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A log group without the `:*` that means what is in it.
fn log_group_name(resource: &str) -> &str {
    resource.strip_suffix(":*").unwrap_or(resource)
}

/// Services that store the names of their resources in lower case, so that a request may spell them in any case (RDS API
/// Reference, `DBInstanceIdentifier`: "stored as a lowercase string").
const CASE_INSENSITIVE_SERVICES: [&str; 5] = ["rds", "redshift", "elasticache", "memorydb", "neptune-db"];

/// Returns true if an ARN matches a pattern in which `*` matches any text and `?` one character. Letter case does not
/// count for services whose names have none.
pub fn arn_matches(pattern: &str, arn: &str) -> bool {
    let ignores_case = Arn::parse(arn).is_some_and(|arn| CASE_INSENSITIVE_SERVICES.contains(&arn.service));
    matches_wildcards(pattern, arn)
        || (ignores_case && matches_wildcards(&pattern.to_lowercase(), &arn.to_lowercase()))
}

/// Returns true if a request for `requested` may be about the resource whose ARN is `exact`: `requested` is a pattern that
/// matches it, or AWS accepts both for one resource. Otherwise a policy that forbids a resource by its ARN could be evaded by
/// another name.
///
/// - RDS and similar services ignore the case of names.
/// - IAM: a request names a resource without its path, and names are unique in an account (IAM User Guide, "IAM identifiers").
/// - KMS: an alias stands for a key of its account and region, and a multi-Region key has one id in every region (KMS Developer
///   Guide, "Aliases", "Multi-Region keys").
/// - CloudWatch Logs: `X` and `X:*` are the same log group.
/// - Secrets Manager: an ARN may be given without its end, a hyphen and six random characters. A name that itself ends so
///   looks complete (Secrets Manager User Guide, "Finding a secret from a partial ARN").
pub fn arn_may_match(requested: &str, exact: &str) -> bool {
    if requested == exact || (requested.contains(['*', '?']) && arn_matches(requested, exact)) {
        return true;
    }
    let (Some(requested), Some(exact)) = (Arn::parse(requested), Arn::parse(exact)) else { return false };
    let kind_and_name = |resource: &str| {
        let (kind, rest) = resource.split_once('/')?;
        Some((kind.to_owned(), rest.rsplit('/').next().unwrap_or(rest).to_lowercase()))
    };
    (requested.service, requested.account) == (exact.service, exact.account)
        && match requested.service {
            // IAM does not distinguish names by case (IAM User Guide, "IAM and AWS STS quotas", name requirements), hence the
            // lower case above.
            "iam" => {
                let named = kind_and_name(requested.resource);
                named.is_some() && named == kind_and_name(exact.resource)
            }
            "kms" => {
                let is_multi_region = exact.resource.starts_with("key/mrk-");
                let is_alias = requested.resource.starts_with("alias/") && exact.resource.starts_with("key/");
                (is_alias && (requested.region == exact.region || is_multi_region))
                    || (is_multi_region && requested.resource == exact.resource)
            }
            "logs" => {
                requested.region == exact.region
                    && log_group_name(requested.resource) == log_group_name(exact.resource)
            }
            "secretsmanager" => {
                let rest = exact.resource.strip_prefix(requested.resource);
                requested.region == exact.region
                    && rest.is_some_and(|rest| rest.len() == 7 && rest.starts_with('-'))
            }
            service if CASE_INSENSITIVE_SERVICES.contains(&service) => {
                requested.resource.eq_ignore_ascii_case(exact.resource)
            }
            _ => false,
        }
}

fn matches_wildcards(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<char>, Vec<char>) = (pattern.chars().collect(), arn.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where matching resumes if the text after the last star does not match: with one more character for the star. Only the last
    // star needs to be retried, so the time is bounded by the product of the lengths, whatever the pattern.
    let mut last_star: Option<(usize, usize)> = None;
    while from < arn.len() {
        match pattern.get(at) {
            Some('*') => {
                last_star = Some((at, from));
                at += 1;
            }
            Some(expected) if *expected == '?' || Some(expected) == arn.get(from) => {
                at += 1;
                from += 1;
            }
            _ => match last_star {
                Some((starred, tried)) => {
                    last_star = Some((starred, tried + 1));
                    at = starred + 1;
                    from = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_iam() {
        for (pattern, arn, expected) in [
            ("arn:aws:s3:::prod-*", "arn:aws:s3:::prod-a", true),
            ("arn:aws:s3:::prod-*", "arn:aws:s3:::prod-a/k", true),
            ("arn:aws:s3:::prod-*", "arn:aws:s3:::test-prod-a", false),
            ("arn:aws:s3:::b", "arn:aws:s3:::b", true),
            ("arn:aws:s3:::b", "arn:aws:s3:::bb", false),
            ("arn:aws:s3:::b", "arn:aws:s3:::", false),
            ("*", "arn:aws:s3:::b", true),
            ("arn:*:table/*-prod", "arn:aws:dynamodb:r:1:table/a-prod-b-prod", true),
            ("arn:*:table/*-prod", "arn:aws:dynamodb:r:1:table/a-prod-b", false),
            ("arn:aws:s3:::b?", "arn:aws:s3:::b1", true),
            ("arn:aws:s3:::b?", "arn:aws:s3:::b", false),
            ("arn:aws:rds:*:*:db:guarded-*", "arn:aws:rds:r:1:db:Guarded-x", true),
            ("arn:aws:s3:::b/guarded-*", "arn:aws:s3:::b/Guarded-x", false),
        ] {
            assert_eq!(arn_matches(pattern, arn), expected, "{pattern} {arn}");
        }
    }

    #[test]
    fn one_resource_may_have_several_arns() {
        for (requested, exact, expected) in [
            (
                "arn:aws:secretsmanager:r:1:secret:db-??????",
                "arn:aws:secretsmanager:r:1:secret:db-AbCdEf",
                true,
            ),
            (
                "arn:aws:secretsmanager:r:1:secret:db-??????",
                "arn:aws:secretsmanager:r:1:secret:db2-AbCdEf",
                false,
            ),
            ("arn:aws:iam::1:role/deploy", "arn:aws:iam::1:role/team/a/Deploy", true),
            ("arn:aws:iam::1:role/deploy", "arn:aws:iam::1:user/team/deploy", false),
            ("arn:aws:iam::1:role/deploy", "arn:aws:iam::2:role/team/deploy", false),
            ("arn:aws:iam::1:root", "arn:aws:iam::1:user/root", false),
            ("arn:aws:kms:r:1:alias/a", "arn:aws:kms:r:1:key/1", true),
            ("arn:aws:kms:r:1:alias/a", "arn:aws:kms:s:1:key/1", false),
            ("arn:aws:kms:r:1:alias/a", "arn:aws:kms:r:1:alias/b", false),
            ("arn:aws:kms:r:1:key/mrk-1", "arn:aws:kms:s:1:key/mrk-1", true),
            ("arn:aws:kms:r:1:key/1", "arn:aws:kms:s:1:key/1", false),
            ("arn:aws:kms:r:1:alias/a", "arn:aws:kms:s:1:key/mrk-1", true),
            ("arn:aws:logs:r:1:log-group:/a:*", "arn:aws:logs:r:1:log-group:/a", true),
            ("arn:aws:logs:r:1:log-group:/a", "arn:aws:logs:r:1:log-group:/a:*", true),
            ("arn:aws:logs:r:1:log-group:/a:*", "arn:aws:logs:r:1:log-group:/b", false),
            (
                "arn:aws:secretsmanager:r:1:secret:db-master",
                "arn:aws:secretsmanager:r:1:secret:db-master-AbCdEf",
                true,
            ),
            (
                "arn:aws:secretsmanager:r:1:secret:db",
                "arn:aws:secretsmanager:r:1:secret:db-master-AbCdEf",
                false,
            ),
            ("arn:aws:rds:r:1:db:PROD", "arn:aws:rds:r:1:db:prod", true),
            ("arn:aws:s3:::b/k", "arn:aws:s3:::b/*", false),
        ] {
            assert_eq!(arn_may_match(requested, exact), expected, "{requested} {exact}");
        }
    }
}
