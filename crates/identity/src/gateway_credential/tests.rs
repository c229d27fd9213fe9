use super::*;
use durward_core::CallerKind;
use proptest::prelude::*;
use std::sync::LazyLock;
use time::{Duration, macros::datetime};

pub(super) const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

pub(super) fn sample_claims() -> GatewayCredentialClaims {
    GatewayCredentialClaims {
        session: "018f3c5e7a8b7c9d8e0f112233445566".parse().expect("an id"),
        caller: Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: "agent-7".to_owned(),
            kind: CallerKind::Workload,
            groups: vec!["agents".to_owned(), "équipe".to_owned()],
            act: vec!["orchestrator".to_owned()],
        },
        connection: "prod".to_owned(),
        proved_at: NOW,
        expires_at: NOW + Duration::hours(1),
    }
}

fn seal_keys_from(first_bytes: &[u8]) -> SealKeys {
    let masters: Vec<_> = first_bytes.iter().map(|byte| Zeroizing::new([*byte; 32])).collect();
    SealKeys::from_master_keys(&masters).expect("masters")
}

fn open_credential(
    keys: &SealKeys,
    credential: &GatewayCredential,
    now: OffsetDateTime,
) -> Result<OpenedCredential, GatewayCredentialError> {
    keys.open(&credential.access_key_id, credential.session_token.expose(), now)
}

#[test]
fn opens_what_it_issued_on_any_replica_with_the_same_master() {
    let credential = seal_keys_from(&[1]).issue(&sample_claims()).expect("issued");
    let opened = open_credential(&seal_keys_from(&[1]), &credential, NOW).expect("opened");
    assert_eq!(*opened.claims, sample_claims());
    assert_eq!(opened.secret_access_key.expose(), credential.secret_access_key.expose());
    assert_eq!(credential.expires_at, sample_claims().expires_at);
}

#[test]
fn has_the_form_that_sdks_expect_of_aws_keys() {
    let credential = seal_keys_from(&[1]).issue(&sample_claims()).expect("issued");
    assert!(is_gateway_access_key_id(&credential.access_key_id), "{}", credential.access_key_id);
    let secret = credential.secret_access_key.expose();
    assert_eq!(secret.len(), 40);
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)));
    let token = credential.session_token.expose();
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert!(!token.contains("agent"));
}

#[test]
fn no_two_credentials_share_anything() {
    let keys = seal_keys_from(&[1]);
    let (one, two) =
        (keys.issue(&sample_claims()).expect("issued"), keys.issue(&sample_claims()).expect("issued"));
    assert_ne!(one.access_key_id, two.access_key_id);
    assert_ne!(one.secret_access_key.expose(), two.secret_access_key.expose());
    let nonce = |credential: &GatewayCredential| {
        URL_SAFE_NO_PAD.decode(credential.session_token.expose()).expect("base64")
            [1 + KEY_ID_BYTES..TOKEN_HEADER_BYTES]
            .to_vec()
    };
    assert_ne!(nonce(&one), nonce(&two));
    // The secret depends on the access key id and on the nonce.
    let secret = |id: &str, nonce: u8| {
        keys.keys[0].derive_secret_access_key(id, [nonce; NONCE_LEN]).expose().to_owned()
    };
    assert_ne!(secret(&one.access_key_id, 1), secret(&one.access_key_id, 2));
    assert_ne!(secret(&one.access_key_id, 1), secret(&two.access_key_id, 1));
}

#[test]
fn refuses_a_token_under_the_access_key_id_of_another() {
    let keys = seal_keys_from(&[1]);
    let (one, two) =
        (keys.issue(&sample_claims()).expect("issued"), keys.issue(&sample_claims()).expect("issued"));
    open_credential(&keys, &one, NOW).expect("opened");
    open_credential(&keys, &two, NOW).expect("opened");
    let mixed = keys.open(&one.access_key_id, two.session_token.expose(), NOW);
    assert_eq!(mixed.err(), Some(GatewayCredentialError::Foreign));
}

#[test]
fn refuses_credentials_of_another_gateway() {
    let credential = seal_keys_from(&[2]).issue(&sample_claims()).expect("issued");
    assert_eq!(
        open_credential(&seal_keys_from(&[1]), &credential, NOW).err(),
        Some(GatewayCredentialError::Foreign)
    );
    // Also a token that names our key id.
    let ours = seal_keys_from(&[1]);
    let mut token = URL_SAFE_NO_PAD.decode(credential.session_token.expose()).expect("base64");
    token[1..5].copy_from_slice(&ours.keys[0].id);
    let forged = ours.open(&credential.access_key_id, &URL_SAFE_NO_PAD.encode(token), NOW);
    assert_eq!(forged.err(), Some(GatewayCredentialError::Foreign));
}

#[test]
fn the_newest_master_issues_and_older_ones_open_until_they_are_dropped() {
    let credential = seal_keys_from(&[1]).issue(&sample_claims()).expect("issued");
    open_credential(&seal_keys_from(&[2, 1]), &credential, NOW).expect("the old master opens");
    assert_eq!(
        open_credential(&seal_keys_from(&[2]), &credential, NOW).err(),
        Some(GatewayCredentialError::Foreign)
    );
    let newer = seal_keys_from(&[2, 1]).issue(&sample_claims()).expect("issued");
    open_credential(&seal_keys_from(&[2]), &newer, NOW).expect("the newest master issued");
    assert_eq!(
        open_credential(&seal_keys_from(&[1]), &newer, NOW).err(),
        Some(GatewayCredentialError::Foreign)
    );
}

#[test]
fn expires_to_the_second_cached_or_not() {
    let keys = seal_keys_from(&[1]);
    let credential = keys.issue(&sample_claims()).expect("issued");
    let last = sample_claims().expires_at - Duration::SECOND;
    open_credential(&keys, &credential, last).expect("not yet");
    assert_eq!(keys.opened_credentials.len(), 1, "it is cached");
    assert_eq!(
        open_credential(&keys, &credential, sample_claims().expires_at).err(),
        Some(GatewayCredentialError::Expired)
    );
    assert_eq!(keys.opened_credentials.len(), 0, "an expired entry is dropped");
    assert_eq!(
        open_credential(&keys, &credential, sample_claims().expires_at).err(),
        Some(GatewayCredentialError::Expired)
    );
    assert_eq!(keys.opened_credentials.len(), 0, "an expired token is not cached");
}

#[test]
fn a_cut_issue_time_never_lengthens_a_credential() {
    let mut claims = sample_claims();
    claims.expires_at += Duration::milliseconds(900);
    let keys = seal_keys_from(&[1]);
    let credential = keys.issue(&claims).expect("issued");
    assert_eq!(credential.expires_at, NOW + Duration::hours(1));
    assert_eq!(
        open_credential(&keys, &credential, credential.expires_at).err(),
        Some(GatewayCredentialError::Expired)
    );
}

#[test]
fn refuses_malformed_pairs() {
    let keys = seal_keys_from(&[1]);
    let credential = keys.issue(&sample_claims()).expect("issued");
    let (id, token) = (credential.access_key_id.as_str(), credential.session_token.expose());
    let long = "A".repeat(MAX_SESSION_TOKEN_CHARS + 1);
    for (id, token) in [
        ("", token),
        ("AKIAABCDEFGHIJKLMNOP", token),
        ("DWRDABCDEFGHIJKLMNO", token),
        ("DWRDABCDEFGHIJKLMNOPQ", token),
        ("DWRDabcdefghijklmnop", token),
        ("DWRDABCDEFGHIJKLMNO0", token),
        ("DWRDABCDEFGHIJKLMNé", token),
        (id, ""),
        (id, "AQ"),
        (id, &token[..TOKEN_HEADER_BYTES]),
        (id, &format!("{token}=")),
        (id, &format!("{token} ")),
        (id, &format!("{token}+")),
        (id, &long),
        (id, &URL_SAFE_NO_PAD.encode([2; 200])),
    ] {
        let refused = keys.open(id, token, NOW);
        assert_eq!(refused.err(), Some(GatewayCredentialError::Malformed), "{id} {token:.40}");
    }
}

#[test]
fn does_not_issue_what_it_would_refuse_to_open() {
    let mut claims = sample_claims();
    claims.caller.groups = vec!["g".repeat(MAX_SESSION_TOKEN_CHARS)];
    assert_eq!(seal_keys_from(&[1]).issue(&claims).err(), Some(GatewayCredentialError::ClaimsTooLarge));
}

#[test]
fn needs_one_to_sixteen_different_masters() {
    let master = |byte| Zeroizing::new([byte; 32]);
    assert!(SealKeys::from_master_keys(&[]).is_none());
    assert!(SealKeys::from_master_keys(&[master(1), master(2), master(1)]).is_none());
    assert!(SealKeys::from_master_keys(&(0..17).map(master).collect::<Vec<_>>()).is_none());
}

#[test]
fn prints_no_secret() {
    let keys = seal_keys_from(&[1]);
    let credential = keys.issue(&sample_claims()).expect("issued");
    let opened = open_credential(&keys, &credential, NOW).expect("opened");
    let printed = format!("{keys:?} {credential:?} {opened:?}");
    assert!(!printed.contains(credential.secret_access_key.expose()));
    assert!(!printed.contains(credential.session_token.expose()));
    assert!(!printed.contains("[1, 1"));
}

#[test]
fn each_error_has_the_refusal_reason_that_sdks_act_on() {
    assert_eq!(GatewayCredentialError::Expired.refusal().reason, RefusalReason::ExpiredToken);
    assert_eq!(GatewayCredentialError::Foreign.refusal().reason, RefusalReason::InvalidToken);
    assert_eq!(GatewayCredentialError::Malformed.refusal().reason, RefusalReason::InvalidToken);
    assert_eq!(GatewayCredentialError::SealFailed.refusal().reason, RefusalReason::Internal);
    assert_eq!(GatewayCredentialError::ClaimsTooLarge.refusal().reason, RefusalReason::TooLarge);
}

static ISSUED_CREDENTIAL: LazyLock<(SealKeys, GatewayCredential)> = LazyLock::new(|| {
    let keys = seal_keys_from(&[1, 2]);
    let credential = keys.issue(&sample_claims()).expect("issued");
    open_credential(&keys, &credential, NOW).expect("opened, so that it is cached");
    (keys, credential)
});

proptest! {
    #[test]
    fn refuses_a_token_with_any_bit_flipped(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (keys, credential) = &*ISSUED_CREDENTIAL;
        let mut token = URL_SAFE_NO_PAD.decode(credential.session_token.expose()).expect("base64");
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        let refused = keys.open(&credential.access_key_id, &URL_SAFE_NO_PAD.encode(token), NOW);
        prop_assert!(matches!(refused, Err(GatewayCredentialError::Foreign | GatewayCredentialError::Malformed)));
    }

    #[test]
    fn refuses_a_token_cut_or_lengthened(keep in any::<prop::sample::Index>(), tail in "[A-Za-z0-9_-]{0,8}") {
        let (keys, credential) = &*ISSUED_CREDENTIAL;
        let token = credential.session_token.expose();
        let changed = format!("{}{tail}", &token[..keep.index(token.len())]);
        prop_assume!(changed != token);
        let refused = keys.open(&credential.access_key_id, &changed, NOW).err();
        prop_assert!(matches!(refused, Some(GatewayCredentialError::Foreign | GatewayCredentialError::Malformed)));
    }

    #[test]
    fn refuses_arbitrary_text(id in "(DWRD[A-Z2-7]{16}|\\PC{0,24})", token in "[A-Za-z0-9_-]{0,200}|\\PC{0,60}") {
        let refused = ISSUED_CREDENTIAL.0.open(&id, &token, NOW).err();
        prop_assert!(matches!(refused, Some(GatewayCredentialError::Foreign | GatewayCredentialError::Malformed)));
    }

    #[test]
    fn opens_any_claims_unchanged(subject in "\\PC{1,40}", groups in prop::collection::vec("\\PC{1,20}", 0..5), life in 1..43_200_i64) {
        let mut wanted = sample_claims();
        wanted.caller.subject = subject;
        wanted.caller.groups = groups;
        wanted.expires_at = NOW + Duration::seconds(life);
        let credential = ISSUED_CREDENTIAL.0.issue(&wanted).expect("issued");
        let opened = open_credential(&ISSUED_CREDENTIAL.0, &credential, NOW).expect("opened");
        prop_assert_eq!(&*opened.claims, &wanted);
    }
}
