//! Every limit the gateway enforces, with its source.

use std::time::Duration;

/// Largest request body that is read whole because its operation is in it, in bytes. The largest JSON or query request of
/// AWS is 20 MB and up only for services whose payload is a blob; 16 MiB covers DynamoDB (16 MB batch), Lambda (6 MB), SQS (1 MiB).
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Largest answer that is read whole to be masked, in bytes.
pub const MAX_MASKED_RESPONSE_BYTES: usize = 32 << 20;
/// Request head: all header bytes (AWS itself: 8 KiB for most services; long session tokens need more).
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// Header fields of one request.
pub const MAX_HEADER_FIELDS: usize = 128;
/// How long a client may take to send a request head.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes that are read and dropped from a client who still sends when its connection is closed, so that it gets its answer.
pub const MAX_LINGER_BYTES: usize = 16 << 20;
/// How long such a client is listened to (nginx: `lingering_time`, 30 s, without a limit on bytes).
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(3);
/// Memory of the requests that are held open while people are asked, in KiB: each counts [`HELD_EACH`], the bytes that it came as,
/// and three times its operation as it lies in memory. Room for some fourteen thousand small ones.
pub const MAX_HELD_REQUESTS_KIB: usize = 1 << 20;
/// What one caller may have of it: some nine hundred small ones, or three as large as [`BODY`] that people can be shown.
pub const MAX_HELD_KIB_PER_CALLER: usize = MAX_HELD_REQUESTS_KIB / 16;
/// What a small held request takes with its connection, in KiB (`cargo xtask bench --only held` measures it).
pub const HELD_REQUEST_BASE_KIB: usize = 64;
/// Longest time a request may be configured to be held open.
pub const MAX_HOLD_TIME: Duration = Duration::from_hours(1);
/// Largest answer to an approved operation that is kept for other attempts of the same call, in bytes.
pub const MAX_STORED_RESPONSE_BYTES: usize = 256 << 10;
/// Memory of all answers that are kept so, in bytes; the oldest make room.
pub const MAX_RESPONSE_CACHE_BYTES: usize = 64 << 20;
/// How long one is kept: as long as an approval waits for its use, and longer than SDKs repeat a call.
pub const STORED_RESPONSE_TTL: Duration = Duration::from_mins(10);
/// How far a signature's date may be from our clock (AWS: 15 minutes, Signature Version 4 documentation).
pub const MAX_CLOCK_SKEW: Duration = Duration::from_mins(15);
/// Largest `X-Amz-Expires` (AWS: seven days, "Authenticating requests: using query parameters").
pub const MAX_PRESIGN_EXPIRES: Duration = Duration::from_hours(7 * 24);
/// `WebIdentityToken` characters (STS API reference, AssumeRoleWithWebIdentity).
pub const MAX_WEB_IDENTITY_TOKEN_CHARS: usize = 20_000;
/// Session policy characters (STS API reference, AssumeRole `Policy`).
pub const MAX_SESSION_POLICY_CHARS: usize = 2_048;
/// Nesting of JSON, XML or CBOR that is read.
pub const MAX_NESTING_DEPTH: usize = 64;
/// Values in one body: each takes 32 bytes and more in memory, and as little as one in the body. AWS's fullest requests hold some
/// 300,000 (CloudWatch API Reference, PutMetricData: 1,000 metrics of 150 values and their counts).
pub const MAX_BODY_VALUES: usize = 500_000;
/// Parts of the names in one form (`Tags.member.1.Key` has four); each takes some 640 bytes while the form is read. Services of the
/// query protocol take 1 MiB at most.
pub const MAX_FORM_NAME_PARTS: usize = 100_000;
/// Attributes of one XML element. S3's grantee has two.
pub const MAX_XML_ATTRIBUTES: usize = 16;

// --- durward-aws ---

/// Permissions that one request may require. S3's DeleteObjects needs most: two actions on each of 1,000 keys (S3 API Reference,
/// DeleteObjects). Policy decides each, so without a limit one body of 16 MiB could name hundreds of thousands.
pub const MAX_REQUIRED_PERMISSIONS: usize = 4_000;
