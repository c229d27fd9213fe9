//! The load: requests as an SDK sends them, signed ahead so that signing costs the measurement nothing.
//!
//! Each carries an `amz-sdk-invocation-id` of its own, under the signature: the gateway refuses a signature it has seen.

use crate::origin;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{EMPTY_SHA256, SigningKey, sha256_hex};
use durward_core::Secret;
use http::{HeaderMap, HeaderValue, Method};
use time::OffsetDateTime;
use time::macros::format_description;

pub const REGION: &str = "us-east-1";

/// The order that [`GET_ITEM`] reads.
const ORDER: &str = "2026-11-21-000017";

/// About 300 bytes with its JSON around it, like a GetItem of an application.
const GET_ITEM: &str = r##"{"TableName":"orders","Key":{"customer":{"S":"c-4711-0815-2342"},"order":{"S":"2026-11-21-000017"}},"ConsistentRead":true,"ProjectionExpression":"#o,total,paid,line00,line01,line02,line03,line04,line05,line06,line07","ExpressionAttributeNames":{"#o":"order"},"ReturnConsumedCapacity":"NONE"}"##;

/// One request before it is signed.
struct Call {
    method: Method,
    path: &'static str,
    /// For DynamoDB: the operation.
    target: Option<&'static str>,
    body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    GetItem,
    SmallObject,
    LargeObject,
}

impl Load {
    pub fn response_bytes(self) -> usize {
        match self {
            Self::GetItem => origin::ITEM,
            Self::SmallObject => origin::SMALL,
            Self::LargeObject => origin::LARGE,
        }
    }

    pub fn service(self) -> &'static str {
        match self {
            Self::GetItem => "dynamodb",
            Self::SmallObject | Self::LargeObject => "s3",
        }
    }

    fn call(self) -> Call {
        let object = |path| Call { method: Method::GET, path, target: None, body: String::new() };
        match self {
            Self::GetItem => Call {
                method: Method::POST,
                path: "/",
                target: Some("DynamoDB_20120810.GetItem"),
                body: GET_ITEM.to_owned(),
            },
            Self::SmallObject => object("/bench-bucket/objects/small"),
            Self::LargeObject => object("/bench-bucket/objects/large"),
        }
    }
}

/// What the gateway issued.
#[derive(Clone)]
pub struct Credential {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Secret,
}

/// Signs requests, never the same one twice.
pub struct Corpus {
    credential: Credential,
    host: String,
    signed: u64,
}

impl Corpus {
    pub fn new(credential: &Credential, host: String) -> Self {
        Self { credential: credential.clone(), host, signed: 0 }
    }

    /// `count` requests, as the bytes to send.
    pub fn sign(&mut self, load: Load, count: usize) -> Result<Vec<Vec<u8>>, String> {
        self.sign_calls(load.service(), &load.call(), count)
    }

    /// `attempts` requests for the same operation, which deletes one item.
    pub fn sign_delete(&mut self, item: usize, attempts: usize) -> Result<Vec<Vec<u8>>, String> {
        let call = Call {
            method: Method::POST,
            path: "/",
            target: Some("DynamoDB_20120810.DeleteItem"),
            body: format!(
                r##"{{"TableName":"orders","Key":{{"customer":{{"S":"c-4711-0815-2342"}},"order":{{"S":"2026-11-21-{item:06}"}}}},"ConditionExpression":"#o = :order AND attribute_exists(total)","ExpressionAttributeNames":{{"#o":"order"}},"ExpressionAttributeValues":{{":order":{{"S":"2026-11-21-{item:06}"}}}}}}"##
            ),
        };
        self.sign_calls("dynamodb", &call, attempts)
    }

    /// One GetItem of this order.
    pub fn sign_get(&mut self, order: &str) -> Result<Vec<u8>, String> {
        let body = GET_ITEM.replace(ORDER, order);
        self.sign_item_call("DynamoDB_20120810.GetItem", body)
    }

    /// One PutItem whose item has this many bytes and some.
    pub fn sign_put_item(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        let padding = "p".repeat(bytes);
        let body = format!(
            r#"{{"TableName":"orders","Item":{{"order":{{"S":"{ORDER}"}},"padding":{{"S":"{padding}"}}}}}}"#
        );
        self.sign_item_call("DynamoDB_20120810.PutItem", body)
    }

    fn sign_item_call(&mut self, target: &'static str, body: String) -> Result<Vec<u8>, String> {
        let call = Call { method: Method::POST, path: "/", target: Some(target), body };
        self.sign_one("dynamodb", &call)
    }

    /// One PutObject of this many bytes.
    pub fn sign_put_object(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        let path = "/bench-bucket/objects/upload";
        self.sign_one("s3", &Call { method: Method::PUT, path, target: None, body: "u".repeat(bytes) })
    }

    /// One GetObject of the large object.
    pub fn sign_get_large(&mut self) -> Result<Vec<u8>, String> {
        self.sign_one("s3", &Load::LargeObject.call())
    }

    fn sign_one(&mut self, service: &str, call: &Call) -> Result<Vec<u8>, String> {
        self.sign_calls(service, call, 1)?.pop().ok_or_else(|| "nothing was signed".to_owned())
    }

    fn sign_calls(&mut self, service: &str, call: &Call, count: usize) -> Result<Vec<Vec<u8>>, String> {
        let at = OffsetDateTime::now_utc();
        let day = at.format(format_description!("[year][month][day]")).map_err(|error| error.to_string())?;
        let credential = self.credential.clone();
        let key = SigningKey::derive(&credential.secret_access_key, &day, REGION, service);
        let signer = SigningParams {
            access_key_id: &credential.access_key_id,
            session_token: Some(&credential.session_token),
            signing_key: &key,
            region: REGION,
            service,
            signing_time: at,
        };
        (0..count).map(|_| self.one(call, &signer)).collect()
    }

    fn one(&mut self, call: &Call, signer: &SigningParams<'_>) -> Result<Vec<u8>, String> {
        self.signed += 1;
        let invocation = format!("6f1c2d3e-0000-4000-8000-{:012x}", self.signed);
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|value| drop(headers.insert(name, value)))
                .map_err(|error| format!("header `{name}`: {error}"))
        };
        put("host", &self.host)?;
        put(
            "user-agent",
            "Boto3/1.43.106 md/Botocore#1.43.106 ua/2.1 os/linux lang/python#3.11.7 durward-bench",
        )?;
        put("accept-encoding", "identity")?;
        put("amz-sdk-invocation-id", &invocation)?;
        put("amz-sdk-request", "attempt=1; max=3")?;
        if let Some(target) = call.target {
            put("content-type", "application/x-amz-json-1.0")?;
            put("x-amz-target", target)?;
        }
        let Call { method, path, body, .. } = call;
        let hash = if body.is_empty() { EMPTY_SHA256.to_owned() } else { sha256_hex(body.as_bytes()) };
        sign_request(signer, method, path, "", &mut headers, &hash).map_err(|error| error.to_string())?;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        if *method != Method::GET {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_signed_twice() {
        let credential = Credential {
            access_key_id: "ASIATEST".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: Secret::new("token"),
        };
        let mut corpus = Corpus::new(&credential, "127.0.0.1:1".to_owned());
        let mut all = corpus.sign(Load::GetItem, 50).unwrap();
        all.extend(corpus.sign(Load::GetItem, 50).unwrap());
        all.sort();
        all.extend(corpus.sign_delete(7, 2).unwrap());
        all.extend([corpus.sign_get("o").unwrap(), corpus.sign_get("o").unwrap()]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 104);
    }
}
