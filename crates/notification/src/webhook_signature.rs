//! Signatures of webhooks as Standard Webhooks specifies them: `v1`, HMAC-SHA256 over id, timestamp and body
//! (standardwebhooks.com, "Signature scheme").

use crate::ChannelError;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_core::Secret;

/// One secret to sign with.
#[derive(Clone)]
pub(crate) struct WebhookSigningKey(hmac::Key);

impl std::fmt::Debug for WebhookSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSigningKey(…)")
    }
}

impl WebhookSigningKey {
    /// Parses one `whsec_<base64>` a line, each of 24 to 64 bytes. Every key signs, so that a receiver can change its secret.
    pub(crate) fn parse_all(secrets: &Secret) -> Result<Vec<Self>, ChannelError> {
        let lines = secrets.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Self> = lines.map(Self::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(ChannelError::InvalidSigningSecret) } else { Ok(keys) }
    }

    fn parse(text: &str) -> Result<Self, ChannelError> {
        let encoded = text.strip_prefix("whsec_").ok_or(ChannelError::InvalidSigningSecret)?;
        let mut bytes = STANDARD.decode(encoded).map_err(|_error| ChannelError::InvalidSigningSecret)?;
        // The lengths that Standard Webhooks permits: a shorter secret could be guessed offline from one signed message.
        let key = (24..=64).contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        // The key has its own copy.
        bytes.fill(0);
        key.ok_or(ChannelError::InvalidSigningSecret)
    }
}

/// The value of `webhook-signature`.
pub(crate) fn sign_message(keys: &[WebhookSigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signature = |key: &WebhookSigningKey| {
        let mut context = hmac::Context::with_key(&key.0);
        // Id and timestamp are signed along with the body, so that a receiver can detect a replay.
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(signature).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example that Standard Webhooks and its libraries publish.
    #[test]
    fn signs_the_published_example() {
        let keys = WebhookSigningKey::parse_all(&Secret::new(format!("{EXAMPLE_SECRET}\n"))).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = sign_message(&keys, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = WebhookSigningKey::parse_all(&Secret::new(format!(
            "whsec_{}\n{EXAMPLE_SECRET}",
            STANDARD.encode([7; 32])
        )))
        .unwrap();
        let both = sign_message(&two, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {signed}")), "{both}");
    }

    #[test]
    fn refuses_an_invalid_secret_without_printing_it() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64", &short, &long] {
            let error = WebhookSigningKey::parse_all(&Secret::new(text)).unwrap_err().to_string();
            assert!(error.contains("24 to 64") && (text.is_empty() || !error.contains(text)), "{error}");
        }
    }
}
