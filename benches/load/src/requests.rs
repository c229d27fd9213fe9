//! The load: requests as an SDK sends them, signed ahead so that signing costs the measurement nothing.
//!
//! Each carries an `amz-sdk-invocation-id` of its own, under the signature: the gateway refuses a signature it has seen.

use crate::origin;
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_aws::sigv4::{EMPTY_SHA256, SigningKey, sha256_hex};
use durward_core::Secret;
use http::{HeaderMap, HeaderValue, Method};
use time::OffsetDateTime;
use time::macros::format_description;

pub const REGION: &str = "us-east-1";

/// About 300 bytes with its JSON around it, like a GetItem of an application.
const GET_ITEM: &str = r##"{"TableName":"orders","Key":{"customer":{"S":"c-4711-0815-2342"},"order":{"S":"2026-11-21-000017"}},"ConsistentRead":true,"ProjectionExpression":"#o,total,paid,line00,line01,line02,line03,line04,line05,line06,line07","ExpressionAttributeNames":{"#o":"order"},"ReturnConsumedCapacity":"NONE"}"##;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    GetItem,
    SmallObject,
    LargeObject,
}

impl Load {
    pub fn answer_bytes(self) -> usize {
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

    fn path(self) -> &'static str {
        match self {
            Self::GetItem => "/",
            Self::SmallObject => "/bench-bucket/objects/small",
            Self::LargeObject => "/bench-bucket/objects/large",
        }
    }
}

/// What the gateway issued.
pub struct Credential {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Secret,
}

/// Signs requests, never the same one twice.
pub struct Corpus<'a> {
    credential: &'a Credential,
    host: String,
    signed: u64,
}

impl<'a> Corpus<'a> {
    pub fn new(credential: &'a Credential, host: String) -> Self {
        Self { credential, host, signed: 0 }
    }

    /// `count` requests, as the bytes to send.
    pub fn sign(&mut self, load: Load, count: usize) -> Result<Vec<Vec<u8>>, String> {
        let at = OffsetDateTime::now_utc();
        let day = at.format(format_description!("[year][month][day]")).map_err(|error| error.to_string())?;
        let key = SigningKey::derive(&self.credential.secret_access_key, &day, REGION, load.service());
        let signer = Signer {
            access_key_id: &self.credential.access_key_id,
            session_token: Some(&self.credential.session_token),
            key: &key,
            region: REGION,
            service: load.service(),
            at,
        };
        (0..count).map(|_| self.one(load, &signer)).collect()
    }

    fn one(&mut self, load: Load, signer: &Signer<'_>) -> Result<Vec<u8>, String> {
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
        let (method, body) = match load {
            Load::GetItem => {
                put("content-type", "application/x-amz-json-1.0")?;
                put("x-amz-target", "DynamoDB_20120810.GetItem")?;
                (Method::POST, GET_ITEM)
            }
            Load::SmallObject | Load::LargeObject => (Method::GET, ""),
        };
        let hash = if body.is_empty() { EMPTY_SHA256.to_owned() } else { sha256_hex(body.as_bytes()) };
        sign(signer, &method, load.path(), "", &mut headers, &hash).map_err(|error| error.to_string())?;
        let mut bytes = format!("{method} {} HTTP/1.1\r\n", load.path()).into_bytes();
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        if method == Method::POST {
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
        all.dedup();
        assert_eq!(all.len(), 100);
    }
}
