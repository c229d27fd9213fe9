//! A few copy operations (EC2 `CopySnapshot`; RDS, Neptune and DocumentDB copies and replicas) contain a second request as a
//! presigned URL. The SDK signs it with the gateway credential, which AWS does not accept, and policy has not decided that second
//! request. Such an operation is refused.

use durward_core::{Refusal, RefusalReason};
use serde_json::Value;

/// Refuses an operation that contains a presigned URL, and says how to send it without one.
pub(super) fn refuse_presigned_url(parameters: &Value) -> Result<(), Refusal> {
    let presigned_url = parameters.as_object().into_iter().flatten().find(|(name, value)| {
        name.eq_ignore_ascii_case("PresignedUrl") && value.as_str().is_none_or(|url| !url.is_empty())
    });
    match presigned_url {
        None => Ok(()),
        Some((name, _url)) => Err(Refusal::new(
            RefusalReason::Malformed,
            format!(
                "parameter `{name}` is a second request, signed with a gateway credential, which AWS does not \
                 accept; send the operation without it (an SDK adds it for `SourceRegion`; boto3 adds it to every EC2 \
                 copy_snapshot, where its handler `copy_snapshot_encrypted` can be unregistered): only an encrypted \
                 copy from another region needs it, and cannot pass this gateway yet"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::refuse_presigned_url;
    use serde_json::json;

    #[test]
    fn refuses_a_presigned_url_in_either_spelling_and_names_it() {
        for name in ["PresignedUrl", "PreSignedUrl"] {
            let refusal =
                refuse_presigned_url(&json!({ "SourceRegion": "eu-west-1", name: "https://rds.eu-west-1" }))
                    .unwrap_err();
            assert!(refusal.message.starts_with(&format!("parameter `{name}` ")));
            assert!(refuse_presigned_url(&json!({ name: ["not", "a", "string"] })).is_err());
        }
    }

    #[test]
    fn lets_copies_without_one_pass() {
        for parameters in [json!({ "SourceRegion": "eu-west-1" }), json!({ "PresignedUrl": "" }), json!(null)]
        {
            assert_eq!(refuse_presigned_url(&parameters), Ok(()));
        }
    }
}
