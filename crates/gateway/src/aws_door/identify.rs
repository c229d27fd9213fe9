//! Who is it? A gateway credential, and an inbound signature that is verified in full before anything else is looked at.

use super::{AwsDoor, AwsWire, InboundBody};
use crate::body::read_whole;
use crate::line::{Exchange, Identity};
use crate::replay::Seen;
use crate::rooms::Rooms;
use durward_aws::sigv4::inbound::{self, Form, Head, Payload};
use durward_aws::sigv4::sha256_hex;
use durward_core::{Reason, Refusal, limits};
use http::Request;
use hyper::body::Incoming;

pub(super) async fn identify(
    door: &AwsDoor,
    rooms: &Rooms,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Result<(Identity, AwsWire), Refusal> {
    let (parts, body) = request.into_parts();
    if parts.uri.scheme().is_some() {
        return Err(Refusal::new(
            Reason::Malformed,
            "this is an endpoint, not a proxy: set AWS_ENDPOINT_URL to it, not HTTP_PROXY",
        ));
    }
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let headers = parts.headers;
    let head = Head { method: &parts.method, path: &path, query: &query, headers: &headers };
    let claimed = inbound::read(&head)?;
    claimed.check_time(exchange.at)?;
    let opened = rooms
        .seal
        .open(&claimed.access_key_id, &claimed.session_token, exchange.at)
        .map_err(durward_identity::CredentialError::refusal)?;
    let key = door.keys.key(
        &claimed.access_key_id,
        &opened.secret,
        &claimed.date,
        &claimed.region,
        &claimed.service,
    );
    let (payload_hash, body) = if let Some(text) = claimed.payload.as_text() {
        (text.to_owned(), InboundBody::Unread(body))
    } else {
        let bytes = read_whole(body, limits::BODY, "request body").await?;
        (sha256_hex(&bytes), InboundBody::Whole(bytes))
    };
    claimed.check(&head, &payload_hash, &key)?;
    if claimed.form == Form::Header {
        refuse_replay(door, exchange, &headers, &claimed)?;
    }
    let bucket = door.bucket_of(&headers);
    let wire =
        AwsWire { method: parts.method, path, query, headers, bucket, claimed, key, body, target: None };
    if !wire.is_s3() && (wire.claimed.payload.is_chunked() || wire.claimed.payload == Payload::Unsigned) {
        return Err(Refusal::new(Reason::Malformed, "only S3 takes unsigned or aws-chunked bodies"));
    }
    let claims = &opened.claims;
    let identity = Identity {
        caller: claims.caller.clone(),
        session: claims.session,
        began: durward_identity::began(claims.session).unwrap_or(claims.issued),
        connection: claims.connection.clone(),
        expires: claims.expires,
    };
    Ok((identity, wire))
}

fn refuse_replay(
    door: &AwsDoor,
    exchange: &Exchange,
    headers: &http::HeaderMap,
    claimed: &inbound::Claimed,
) -> Result<(), Refusal> {
    let bytes = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let seen = door.replay.see(
        claimed.signature.bytes(),
        bytes("amz-sdk-invocation-id"),
        bytes("amz-sdk-request"),
        claimed.at.unix_timestamp(),
        exchange.at.unix_timestamp(),
    );
    match seen {
        Seen::First => Ok(()),
        Seen::Before => {
            Err(Refusal::new(Reason::Replay, "this signature was used before; sign the request again"))
        }
        Seen::TooOld => Err(Refusal::new(
            Reason::ClockSkew,
            "the request is too old for this busy gateway; sign it again",
        )),
    }
}
