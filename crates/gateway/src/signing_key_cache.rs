//! A cache of derived SigV4 signing keys. It saves the derivation, a chain of four HMACs (IAM User Guide, "Create a signed AWS
//! API request"), for each inbound and outbound request.

use durward_aws::sigv4::SigningKey;
use durward_core::Secret;
use std::collections::HashMap;
use std::sync::Mutex;

/// A credential needs one key a day for each region and service that it is used for.
const MAX_CACHED_KEYS: usize = 4096;

#[derive(Default)]
pub(super) struct SigningKeyCache(Mutex<HashMap<String, (Secret, SigningKey)>>);

impl SigningKeyCache {
    /// The key of a credential for one day (`YYYYMMDD`), region and service.
    pub fn get_or_derive(
        &self,
        access_key_id: &str,
        secret: &Secret,
        date: &str,
        region: &str,
        service: &str,
    ) -> SigningKey {
        let name = [access_key_id, date, region, service].join("/");
        let mut cache = durward_core::lock_ignoring_poison(&self.0);
        // The access key id comes from the request: a hit must be for the same secret, too.
        if let Some((cached_secret, key)) = cache.get(&name)
            && cached_secret.expose() == secret.expose()
        {
            return key.clone();
        }
        let key = SigningKey::derive(secret.expose(), date, region, service);
        if cache.len() >= MAX_CACHED_KEYS {
            // To derive a key again costs some 8 us (measured), so a full cache needs no finer rule.
            cache.clear();
        }
        cache.insert(name, (secret.clone(), key.clone()));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_aws::sigv4::outbound::{SigningParams, sign_request};
    use http::{HeaderMap, HeaderValue, Method};

    fn sign_test_request(key: &SigningKey) -> HeaderValue {
        let mut headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("x"))]);
        let signer = SigningParams {
            access_key_id: "AKIA",
            session_token: None,
            signing_key: key,
            region: "r",
            service: "s",
            signing_time: time::OffsetDateTime::UNIX_EPOCH,
        };
        sign_request(&signer, &Method::GET, "/", "", &mut headers, "UNSIGNED-PAYLOAD").unwrap();
        headers["authorization"].clone()
    }

    #[test]
    fn returns_the_derived_key_even_when_an_access_key_id_changes_its_secret() {
        let cache = SigningKeyCache::default();
        for (secret, region) in [("one", "r"), ("one", "r"), ("two", "r"), ("one", "r2"), ("one", "r")] {
            let key = cache.get_or_derive("AKIA", &Secret::new(secret.to_owned()), "19700101", region, "s");
            assert_eq!(
                sign_test_request(&key),
                sign_test_request(&SigningKey::derive(secret, "19700101", region, "s"))
            );
        }
    }

    #[test]
    fn is_bounded() {
        let cache = SigningKeyCache::default();
        for number in 0..=MAX_CACHED_KEYS {
            cache.get_or_derive("AKIA", &Secret::new("s".to_owned()), "19700101", &number.to_string(), "s");
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_CACHED_KEYS);
    }
}
