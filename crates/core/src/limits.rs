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

// === identity ===

/// How far the clock of an identity provider may differ from ours. A token is accepted this long after its `exp`, and this
/// long before its `nbf` and `iat`. RFC 7519 section 4.1.4 permits "usually no more than a few minutes".
pub const CLOCK_LEEWAY: Duration = Duration::from_mins(1);
/// How long a provider's signing keys are used after the last successful fetch. It outlives an outage of the provider. It is
/// bounded because an attacker who cuts the connection to the provider could otherwise keep a withdrawn key in use.
pub const MAX_STALE_KEY_SET_AGE: Duration = Duration::from_hours(24);
/// How often the revocation list is read from the store: a revocation on one replica holds on the others after this long.
pub const REVOCATION_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How old the revocation list may be. Beyond this the gateway refuses every request, because it cannot know who is revoked.
pub const MAX_REVOCATION_STALENESS: Duration = Duration::from_secs(5);
/// How long the revocation of a session is kept. No gateway credential lives longer than a day; the rest is for auditors.
pub const REVOCATION_RETENTION: Duration = Duration::from_hours(90 * 24);

// === credential ===

/// How long a session policy permits anything (its `aws:CurrentTime` condition). STS issues credentials for 900 seconds at
/// least (STS API Reference, AssumeRole, `DurationSeconds`), so this is what makes a stolen one useless sooner.
pub const SESSION_POLICY_LIFETIME: Duration = Duration::from_mins(1);
/// How long STS may take for one call.
pub const STS_TIMEOUT: Duration = Duration::from_secs(10);
/// Issued credentials that are cached at once.
pub const MAX_CACHED_CREDENTIALS: usize = 4_096;

// === journal ===

/// Largest text of one journal record. The largest request body that is read whole is [`MAX_BODY_BYTES`], and JSON may escape it.
/// The format knows no larger record (FORMAT.md), so raising this is a new version of the format.
pub const MAX_RECORD_BYTES: usize = 32 << 20;
/// A journal segment that would grow larger is ended. A start reads the last segment, so this bounds how long a start takes.
pub const MAX_JOURNAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Memory of the records that wait to be written. Then requests wait for the disk, too.
pub const MAX_JOURNAL_QUEUE_BYTES: usize = 8 << 20;
/// How long a record without a waiter (an outcome, for example) may be lost by a crash: until then it is in memory only.
pub const JOURNAL_SYNC_DELAY: Duration = Duration::from_millis(50);

// === approval ===

/// Pending approval requests of one caller. People read each; an agent in a loop must not bury the rest.
pub const MAX_PENDING_REQUESTS_PER_CALLER: usize = 20;
/// Pending approval requests of all callers of one gateway together.
pub const MAX_PENDING_REQUESTS: usize = 1_000;
/// How long a grant waits for its use. Callers that were sent away retry within this time.
pub const GRANT_TTL: Duration = Duration::from_mins(10);
/// The longest time-bound grant that one vote may create: a working day.
pub const MAX_TIME_BOUND_GRANT: Duration = Duration::from_hours(8);
/// How long a denial applies to repeats of the same operation. Without it an agent could ask until somebody gives in
/// ("MFA fatigue": MITRE ATT&CK T1621, Multi-Factor Authentication Request Generation).
pub const DENIAL_TTL: Duration = Duration::from_mins(1);
/// How long people may vote on a request that `@on_timeout("queue")` keeps after its deadline.
pub const QUEUED_REQUEST_TTL: Duration = Duration::from_hours(24);
/// How long closed approval requests stay in the store for the console. The journal keeps their events.
pub const CLOSED_REQUEST_RETENTION: Duration = Duration::from_hours(90 * 24);
/// How long it is remembered that a caller was allowed certain actions, which lowers the risk of a repeat.
pub const FIRST_SEEN_RETENTION: Duration = Duration::from_hours(365 * 24);
/// Largest approval request as JSON, in bytes: nobody reads more, and a thousand of them fit on a small disk.
pub const MAX_APPROVAL_REQUEST_BYTES: usize = 256 << 10;
/// Bytes of the reason of a vote, and of the reason that policies give.
pub const MAX_VOTE_REASON_BYTES: usize = 4 << 10;

// === notification ===

/// Messages that a channel for people gets in a minute; the last of them sums up the rest. Break-glass is not limited.
pub const MAX_MESSAGES_PER_MINUTE: usize = 10;
/// Messages that a webhook for programs gets in a minute; the last of them sums up the rest.
pub const MAX_WEBHOOKS_PER_MINUTE: usize = 60;
/// How long a message is tried, and how long the end of an approval request is news.
pub const NOTIFICATION_TTL: Duration = Duration::from_hours(24);
