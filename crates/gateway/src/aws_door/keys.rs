//! Signing keys that were derived before: five HMACs a request saved, on the way in and on the way out.

use durward_aws::sigv4::SigningKey;
use durward_core::Secret;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Keys kept; one credential needs one a day for each region and service it is used for.
const MOST: usize = 4096;

#[derive(Default)]
pub(super) struct KeyCache(Mutex<HashMap<String, (Secret, SigningKey)>>);

impl KeyCache {
    /// The key of a credential for one day (`YYYYMMDD`), region and service.
    pub fn key(
        &self,
        access_key_id: &str,
        secret: &Secret,
        date: &str,
        region: &str,
        service: &str,
    ) -> SigningKey {
        let name = [access_key_id, date, region, service].join("/");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = kept.get(&name)
            && of.expose() == secret.expose()
        {
            return key.clone();
        }
        let key = SigningKey::derive(secret.expose(), date, region, service);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(name, (secret.clone(), key.clone()));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_aws::sigv4::outbound::{Signer, sign};
    use http::{HeaderMap, HeaderValue, Method};

    fn signature(key: &SigningKey) -> HeaderValue {
        let mut headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("x"))]);
        let signer = Signer {
            access_key_id: "AKIA",
            session_token: None,
            key,
            region: "r",
            service: "s",
            at: time::OffsetDateTime::UNIX_EPOCH,
        };
        sign(&signer, &Method::GET, "/", "", &mut headers, "UNSIGNED-PAYLOAD").unwrap();
        headers["authorization"].clone()
    }

    #[test]
    fn gives_the_key_that_would_be_derived_also_when_an_id_comes_with_another_secret() {
        let keys = KeyCache::default();
        for (secret, region) in [("one", "r"), ("one", "r"), ("two", "r"), ("one", "r2"), ("one", "r")] {
            let key = keys.key("AKIA", &Secret::new(secret.to_owned()), "19700101", region, "s");
            assert_eq!(signature(&key), signature(&SigningKey::derive(secret, "19700101", region, "s")));
        }
    }

    #[test]
    fn is_bounded() {
        let keys = KeyCache::default();
        for number in 0..=MOST {
            keys.key("AKIA", &Secret::new("s".to_owned()), "19700101", &number.to_string(), "s");
        }
        assert!(keys.0.lock().unwrap().len() <= MOST);
    }
}
