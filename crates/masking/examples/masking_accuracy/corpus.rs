//! Made-up responses: without secrets, as AWS and MCP servers return them, and with secrets of real formats. Every value comes from a
//! fixed seed.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use durward_catalog::{AwsProtocol, Catalog, ServiceModel};
use durward_masking::{BodyFormat, MaskedBody, Masker, MaskingPlan};
use serde_json::{Value, json};
use std::sync::Arc;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    pub fn text(&mut self, alphabet: &str, len: usize) -> String {
        let letters = alphabet.as_bytes();
        (0..len).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn hex(&mut self, len: usize) -> String {
        self.text("0123456789abcdef", len)
    }

    fn uuid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|len| self.hex(len)).join("-")
    }

    /// Base64 of random bytes, in every second one with the beginning of a secret somewhere inside.
    fn base64(&mut self, len: usize) -> String {
        let mut text = STANDARD.encode(self.bytes(len));
        if self.below(2) == 0 && text.len() > 40 {
            let at = 1 + self.below(text.len() - 30);
            let beginning = self.pick(&["IQoJ", "FwoG", "FQoG", "AKIA", "ASIA", "eyJh", "AIza"]);
            text.replace_range(at..at + 4, beginning);
        }
        text
    }

    fn base64url(&mut self, len: usize) -> String {
        self.base64(len).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
    }

    /// The bytes of an image, an archive, or anything, or a JSON document.
    fn blob(&mut self, len: usize) -> String {
        match self.below(4) {
            0 => STANDARD.encode([b"\x89PNG\r\n\x1a\n".to_vec(), self.bytes(len)].concat()),
            1 => STANDARD.encode([b"PK\x03\x04".to_vec(), self.bytes(len)].concat()),
            2 => {
                let document =
                    json!({"id": self.uuid(), "sha256": self.hex(64), "data": self.base64(len / 2)});
                STANDARD.encode(document.to_string())
            }
            _ => self.base64(len),
        }
    }
}

/// A response, and how it is masked.
pub struct Response {
    pub body: Vec<u8>,
    pub kind: ResponseKind,
    /// Values in it that a false positive could damage.
    pub values: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    DynamoDb,
    Kinesis,
    Sqs,
    S3Listing,
    Mcp,
}

impl ResponseKind {
    pub const ALL: [Self; 5] = [Self::DynamoDb, Self::Kinesis, Self::Sqs, Self::S3Listing, Self::Mcp];
}

/// The masker and the models of the corpus.
pub struct Accuracy {
    masker: Masker,
    services: Vec<(ResponseKind, Arc<ServiceModel>, &'static str, AwsProtocol)>,
}

impl Accuracy {
    pub fn new() -> Self {
        let services = [
            (ResponseKind::DynamoDb, "dynamodb", "GetItem", AwsProtocol::Json10),
            (ResponseKind::Kinesis, "kinesis", "GetRecords", AwsProtocol::Json11),
            (ResponseKind::Sqs, "sqs", "ReceiveMessage", AwsProtocol::Json10),
            (ResponseKind::S3Listing, "s3", "ListObjectsV2", AwsProtocol::RestXml),
        ];
        let services = services
            .into_iter()
            .map(|(kind, id, operation, protocol)| {
                (kind, Catalog::embedded().service(id).expect("the catalog has it"), operation, protocol)
            })
            .collect();
        Self { masker: Masker::default(), services }
    }

    /// The masked body; `None` if it is unchanged.
    pub fn mask(&self, body: &[u8], kind: ResponseKind) -> Option<Vec<u8>> {
        let model = self.services.iter().find(|(service_kind, ..)| *service_kind == kind);
        let plan = match model {
            Some((_, service, operation, protocol)) => {
                let operation = service.operation(operation).expect("the service has it");
                MaskingPlan::new(service, operation.input_shape, operation.output_shape, *protocol)
            }
            None => MaskingPlan::for_mcp(),
        };
        let format = if kind == ResponseKind::S3Listing { BodyFormat::Xml } else { BodyFormat::Json };
        match self.masker.mask_body(body, format, Some(&plan), &|_| false).expect("the corpus is well-formed")
        {
            MaskedBody::Changed { body, .. } => Some(body),
            MaskedBody::Unchanged => None,
        }
    }
}

/// A response of this kind without a secret. `size` is about the size of each large value.
pub fn harmless_response(kind: ResponseKind, size: usize, random: &mut Random) -> Response {
    let (body, values) = match kind {
        ResponseKind::DynamoDb => (
            json!({"Item": {
                "id": {"S": random.uuid()},
                "b": {"B": random.blob(size)},
                "bs": {"BS": [random.blob(64), random.blob(200)]},
                "m": {"M": {"sha": {"S": random.hex(64)}, "thumb": {"S": random.base64(size / 4)}}},
                "l": {"L": [{"S": random.base64url(size / 8)}, {"N": "17"}]},
            }})
            .to_string(),
            7,
        ),
        ResponseKind::Kinesis => {
            let record = |random: &mut Random| {
                json!({"Data": random.blob(size / 2), "PartitionKey": random.uuid(),
                "SequenceNumber": random.text("0123456789", 56), "ApproximateArrivalTimestamp": 1.7e9})
            };
            let records = [record(random), record(random)];
            (
                json!({"Records": records, "NextShardIterator": random.base64(260), "MillisBehindLatest": 0})
                    .to_string(),
                7,
            )
        }
        ResponseKind::Sqs => {
            let inner = json!({"eventId": random.uuid(), "payload": random.base64(size / 2), "digest": random.hex(40)});
            let message = json!({"MessageId": random.uuid(), "ReceiptHandle": random.base64(210), "Body": inner.to_string(),
                "MD5OfBody": random.hex(32), "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": random.blob(size / 4)}}});
            (json!({"Messages": [message]}).to_string(), 7)
        }
        ResponseKind::S3Listing => {
            let mut keys = String::new();
            let count = (size / 300).clamp(2, 1000);
            for _ in 0..count {
                let name = match random.below(4) {
                    0 => format!("{}/{}.jpg", random.uuid(), random.hex(32)),
                    1 => format!("objects/{}", random.base64url(90)),
                    // Where a secret begins is where the name of an object begins.
                    2 => {
                        format!("backups/{}{}", random.pick(&["IQoJ", "FwoG", "FQoG"]), random.base64url(110))
                    }
                    _ => format!(
                        "AKIA{}/2026/11/{}.tar.gz",
                        random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
                        random.uuid()
                    ),
                };
                let etag = random.hex(32);
                for part in [
                    "<Contents><Key>",
                    &name,
                    "</Key><ETag>&quot;",
                    &etag,
                    "&quot;</ETag><Size>1</Size></Contents>",
                ] {
                    keys.push_str(part);
                }
            }
            let token = random.base64(90);
            (
                format!(
                    r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><NextContinuationToken>{token}</NextContinuationToken>{keys}</ListBucketResult>"#
                ),
                2 * count + 1,
            )
        }
        ResponseKind::Mcp => {
            let lines: Vec<String> = (0..size / 200)
                .map(|_| random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 76))
                .collect();
            let text = format!(
                "commit {}\nsha256:{}\ndata:image/png;base64,{}\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
                random.hex(40),
                random.hex(64),
                random.base64(size / 8),
                lines.join("\n")
            );
            (
                json!({"jsonrpc": "2.0", "id": 1, "result": {"nextCursor": random.base64url(120), "content": [
                    {"type": "image", "data": random.blob(size), "mimeType": "image/png"},
                    {"type": "resource", "resource": {"uri": format!("x://{}", random.base64url(80)), "blob": random.blob(size / 4)}},
                    {"type": "text", "text": text},
                ], "structuredContent": {"etag": random.hex(32), "blob": random.base64(size / 8)}}})
                .to_string(),
                9,
            )
        }
    };
    Response { body: body.into_bytes(), kind, values }
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub const SECRET_KINDS: [&str; 14] = [
    "access key id",
    "secret access key",
    "session token",
    "RSA private key",
    "OpenSSH private key",
    "PGP private key",
    "GitHub token",
    "GitHub fine-grained token",
    "Slack token",
    "Google API key",
    "Stripe key",
    "JWT",
    "JWE",
    "bearer token",
];

/// A made-up secret in its usual surroundings, and the part that must not be left.
pub fn secret(kind: &str, random: &mut Random) -> (String, String) {
    let alone = |text: String| (text.clone(), text);
    let pem = |label: &str, random: &mut Random| {
        let lines: Vec<String> = (0..20).map(|_| random.text(BASE64, 64)).collect();
        let body = lines.join("\n");
        (format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----"), lines[7].clone())
    };
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    match kind {
        "access key id" => {
            let prefix = random.pick(&["AKIA", "ASIA", "ABIA", "ACCA"]);
            alone(format!("{prefix}{}", random.text(&format!("{UPPER}234567"), 16)))
        }
        "secret access key" => {
            let key = random.text(BASE64, 40);
            let name =
                random.pick(&["aws_secret_access_key = ", "AWS_SECRET_ACCESS_KEY=", "SecretAccessKey: "]);
            (format!("{name}{key}"), key)
        }
        "session token" => {
            let start: &[u8] = match random.below(3) {
                0 => b"\x21\x0a\x09origin_ec\x10",
                1 => b"\x17\x0a\x06er/aws\x10",
                _ => b"\x15\x0a\x06er/aws\x10",
            };
            let len = 200 + random.below(500);
            alone(STANDARD.encode([start, &random.bytes(len)].concat()))
        }
        "RSA private key" => pem("RSA PRIVATE KEY", random),
        "OpenSSH private key" => pem("OPENSSH PRIVATE KEY", random),
        "PGP private key" => pem("PGP PRIVATE KEY BLOCK", random),
        "GitHub token" => {
            let prefix = random.pick(&["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]);
            alone(format!("{prefix}{}", random.text(ALPHANUMERIC, 36)))
        }
        "GitHub fine-grained token" => {
            let (id, rest) = (random.text(ALPHANUMERIC, 22), random.text(ALPHANUMERIC, 59));
            alone(format!("github_pat_{id}_{rest}"))
        }
        "Slack token" => {
            let prefix = random.pick(&["xoxb", "xoxp", "xoxa"]);
            let (one, two) = (random.text("123456789", 12), random.text("123456789", 12));
            alone(format!("{prefix}-{one}-{two}-{}", random.text(ALPHANUMERIC, 24)))
        }
        "Google API key" => alone(format!("AIza{}", random.text(&format!("{ALPHANUMERIC}_-"), 35))),
        "Stripe key" => alone(format!("sk_live_{}", random.text(ALPHANUMERIC, 24))),
        "JWT" => {
            let head = json!({"alg": random.pick(&["HS256", "RS256", "ES256"]), "typ": "JWT"});
            let claims = json!({"sub": random.uuid(), "exp": 1_700_000_000});
            alone(format!("{}.{}.{}", part(head), part(claims), URL_SAFE_NO_PAD.encode(random.bytes(32))))
        }
        "JWE" => {
            let head = part(json!({"alg": "RSA-OAEP", "enc": "A256GCM"}));
            let rest = [256, 12, 120, 16].map(|len| URL_SAFE_NO_PAD.encode(random.bytes(len)));
            alone(format!("{head}.{}", rest.join(".")))
        }
        _ => {
            let token = format!("{}7{}", random.text(ALPHANUMERIC, 20), random.text(ALPHANUMERIC, 19));
            (format!("Authorization: Bearer {token}"), token)
        }
    }
}

pub const PLACES: [&str; 13] = [
    "a JSON value",
    "prose",
    "a document in a string",
    "a document in a document",
    "a URL",
    "base64 in a string",
    "wrapped base64 in a string",
    "a binary attribute of DynamoDB",
    "a record of Kinesis",
    "a body of SQS",
    "the text of an MCP result",
    "a blob of MCP",
    "structured content of MCP",
];

/// A response with `text` in one of [`PLACES`]; and what a client reads there in the masked body.
pub fn response_with(place: &str, text: &str) -> (Vec<u8>, ResponseKind) {
    let percent: String =
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    let file = STANDARD.encode(format!("# configuration of the service\n{text}\nport = 17\n"));
    let lines: Vec<&str> =
        file.as_bytes().chunks(76).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let document = json!({"user": "a", "value": text}).to_string();
    let item = |value: Value| (json!({"Item": {"v": value}}), ResponseKind::DynamoDb);
    let mcp = |result: Value| (json!({"jsonrpc": "2.0", "id": 1, "result": result}), ResponseKind::Mcp);
    let (body, kind) = match place {
        "a JSON value" => item(json!({ "S": text })),
        "prose" => item(json!({"S": format!("Please use \"{text}\" from now on.")})),
        "a document in a string" => item(json!({ "S": document })),
        "a document in a document" => item(json!({"S": json!({"inner": document}).to_string()})),
        "a URL" => item(json!({"S": format!("https://x.example/a?value={percent}&page=2")})),
        "base64 in a string" => item(json!({ "S": file })),
        "wrapped base64 in a string" => item(json!({"S": lines.join("\r\n")})),
        "a binary attribute of DynamoDB" => item(json!({"B": file})),
        "a record of Kinesis" => (
            json!({"Records": [{"Data": STANDARD.encode(document), "SequenceNumber": "1"}]}),
            ResponseKind::Kinesis,
        ),
        "a body of SQS" => (json!({"Messages": [{"Body": document, "MessageId": "1"}]}), ResponseKind::Sqs),
        "the text of an MCP result" => mcp(json!({"content": [{"type": "text", "text": text}]})),
        "a blob of MCP" => mcp(json!({"contents": [{"uri": "file:///a", "blob": file}]})),
        _ => mcp(json!({"structuredContent": {"value": text}})),
    };
    (body.to_string().into_bytes(), kind)
}

/// Everything that a client could read in a body: as it is, and with each encoding resolved, in layers.
pub fn readable_texts(body: &[u8]) -> Vec<Vec<u8>> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return vec![body.to_vec()] };
    let mut texts = Vec::new();
    collect_texts(&value, &mut texts);
    texts
}

fn collect_texts(value: &Value, texts: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(members) => members.values().for_each(|member| collect_texts(member, texts)),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::String(text) => {
            texts.push(text.clone().into_bytes());
            texts.push(percent_decode(text));
            let joined: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            texts.extend(STANDARD.decode(&joined));
            for inner in [Some(text.clone().into_bytes()), STANDARD.decode(joined).ok()].into_iter().flatten()
            {
                if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice(&inner) {
                    collect_texts(&inner, texts);
                }
            }
        }
        _ => {}
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%');
        out.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    out
}

pub fn contains(text: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(text, needle).is_some()
}
