//! The fields of an ARN (IAM User Guide, "Identify AWS resources with ARNs"), patterns of ARNs, and what one ARN may be beside
//! what it says.

/// `arn:partition:service:region:account:resource`, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    /// Empty for global services and S3.
    pub region: &'a str,
    /// Empty for S3 and what AWS owns.
    pub account: &'a str,
    /// The rest, with whatever colons and slashes it has.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
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

/// Whether a text is the id of an AWS account: twelve digits (AWS Account Management Reference Guide, "View AWS account
/// identifiers").
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A log group without the `:*` that means what is in it.
fn log_group_name(resource: &str) -> &str {
    resource.strip_suffix(":*").unwrap_or(resource)
}

/// Services that fold the names of what they hold.
const CASE_INSENSITIVE_SERVICES: [&str; 5] = ["rds", "redshift", "elasticache", "memorydb", "neptune-db"];

/// Whether an ARN matches a pattern in which `*` stands for any text and `?` for one character; letter case counts where the
/// service of the ARN says it does.
pub fn arn_matches(pattern: &str, arn: &str) -> bool {
    let folded = Arn::parse(arn).is_some_and(|arn| CASE_INSENSITIVE_SERVICES.contains(&arn.service));
    matches_wildcards(pattern, arn)
        || (folded && matches_wildcards(&pattern.to_lowercase(), &arn.to_lowercase()))
}

/// Whether a request for `asked` may be about the resource whose ARN is `exact`: `asked` is a pattern that takes it in, or AWS
/// may know one resource by both.
///
/// - RDS and its like fold names.
/// - IAM: a request names what has a path without it, and names are unique in an account (IAM User Guide, "IAM identifiers").
/// - KMS: an alias stands for a key of its account and region, and a multi-Region key is one in every region (KMS Developer Guide,
///   "Aliases", "Multi-Region keys").
/// - CloudWatch Logs: a log group is `X` and `X:*`.
/// - Secrets Manager: an ARN may lack its end, a hyphen and six characters, also where it seems to have one.
pub fn arn_may_match(asked: &str, exact: &str) -> bool {
    if asked == exact || (asked.contains(['*', '?']) && arn_matches(asked, exact)) {
        return true;
    }
    let (Some(asked), Some(exact)) = (Arn::parse(asked), Arn::parse(exact)) else { return false };
    let kind_and_name = |resource: &str| {
        let (kind, rest) = resource.split_once('/')?;
        Some((kind.to_owned(), rest.rsplit('/').next().unwrap_or(rest).to_lowercase()))
    };
    (asked.service, asked.account) == (exact.service, exact.account)
        && match asked.service {
            "iam" => {
                let named = kind_and_name(asked.resource);
                named.is_some() && named == kind_and_name(exact.resource)
            }
            "kms" => {
                let is_multi_region = exact.resource.starts_with("key/mrk-");
                let is_alias = asked.resource.starts_with("alias/") && exact.resource.starts_with("key/");
                (is_alias && (asked.region == exact.region || is_multi_region))
                    || (is_multi_region && asked.resource == exact.resource)
            }
            "logs" => {
                asked.region == exact.region
                    && log_group_name(asked.resource) == log_group_name(exact.resource)
            }
            "secretsmanager" => {
                let rest = exact.resource.strip_prefix(asked.resource);
                asked.region == exact.region
                    && rest.is_some_and(|rest| rest.len() == 7 && rest.starts_with('-'))
            }
            folded if CASE_INSENSITIVE_SERVICES.contains(&folded) => {
                asked.resource.eq_ignore_ascii_case(exact.resource)
            }
            _ => false,
        }
}

fn matches_wildcards(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<char>, Vec<char>) = (pattern.chars().collect(), arn.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on when what followed the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while from < arn.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(expected) if *expected == '?' || Some(expected) == arn.get(from) => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((starred, tried)) => {
                    star = Some((starred, tried + 1));
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
    fn a_named_resource_may_have_another_arn() {
        for (asked, exact, expected) in [
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
            assert_eq!(arn_may_match(asked, exact), expected, "{asked} {exact}");
        }
    }
}
