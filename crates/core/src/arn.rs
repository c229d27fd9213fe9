//! The fields of an ARN (IAM User Guide, "Identify AWS resources with ARNs").

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
