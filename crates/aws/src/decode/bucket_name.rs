//! The syntax of bucket names.

/// Returns true if S3 can have a bucket of this name. Buckets of us-east-1 made before March 2018 may have up to 255 characters,
/// upper-case letters and underscores (S3 User Guide, "General purpose bucket naming rules").
pub(super) fn is_bucket_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        // `..` and a dot in front would be dot segments of a path.
        && !name.contains("..")
        && !name.starts_with('.')
}
