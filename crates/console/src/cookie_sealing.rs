//! Encrypts the state of a sign-in into a cookie, so that the browser can neither read nor change it.
//!
//! The key lives as long as the process: a restart only makes a sign-in in progress start again.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// AES-256-GCM with a random nonce for each value.
pub struct CookieSealer(RandomizedNonceKey);

impl CookieSealer {
    /// `None`: the system's random number generator failed.
    pub fn with_random_key() -> Option<Self> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        rand::fill(key.as_mut()).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok().map(Self)
    }

    /// The nonce and the ciphertext in characters that a cookie may contain.
    pub fn seal(&self, text: &[u8]) -> Option<String> {
        let mut sealed = text.to_vec();
        // Random nonces are safe for 2^32 values of one key (NIST SP 800-38D section 8.3); a sign-in takes one.
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        let mut value = nonce.as_ref().to_vec();
        value.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(value))
    }

    /// The reverse of [`Self::seal`]. `None`: another key, or a changed value.
    pub fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let mut value = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = value.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.0.open_in_place(nonce, Aad::empty(), text).ok().map(|text| text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let (one, other) =
            (CookieSealer::with_random_key().unwrap(), CookieSealer::with_random_key().unwrap());
        let sealed = one.seal(b"text").unwrap();
        assert_eq!(one.open(&sealed).unwrap(), b"text");
        assert_eq!(other.open(&sealed), None);
        let changed: String = sealed.chars().rev().collect();
        assert_eq!(one.open(&changed), None);
        for short in ["", "AA", "!"] {
            assert_eq!(one.open(short), None);
        }
    }
}
