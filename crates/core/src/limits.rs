//! The limits that an operator or an auditor asks for, each with its reason and its source. Limits that matter to one module alone
//! are constants of that module.

use std::time::Duration;

/// Largest request body that is read whole because it contains the operation, in bytes. It covers DynamoDB (BatchWriteItem, 16 MB),
/// Lambda (Invoke, 6 MB) and SQS (1 MiB). Only services whose payload is a blob take larger JSON or query requests.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Largest response that is read whole to be masked, in bytes.
pub const MAX_MASKED_RESPONSE_BYTES: usize = 32 << 20;
/// All header bytes of one request. AWS takes 8 KiB for most services; long session tokens need more.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// The header fields of one request.
pub const MAX_HEADER_FIELDS: usize = 128;
/// The time in which a client must send its request head. Clients that send a byte now and then would otherwise hold connections
/// for ever (Slowloris).
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for which a request body is waited for, before [`MIN_REQUEST_BODY_RATE`] gives some of it back. S3 ends idle uploads, too
/// (S3 API Reference, error `RequestTimeout`). All of an anonymous body must arrive in it.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a request body that give it a second back (Apache mod_reqtimeout has the same default, `body=20,MinRate=500`). A body
/// that trickles would otherwise hold its memory and its connection for ever (R.U.D.Y.).
pub const MIN_REQUEST_BODY_RATE: usize = 500;
/// The time for which a client may read nothing of its response (Envoy's default for idle streams, `stream_idle_timeout`, is the same).
/// Programs that work on a part of an object before they read the next may pause for minutes; a client that never reads would hold
/// its connection, and the one upstream, for ever.
pub const RESPONSE_STALL_TIMEOUT: Duration = Duration::from_mins(5);
/// Memory of the request bodies that are being read, decoded and sent, in KiB.
pub const MAX_REQUEST_MEMORY_KIB: usize = 1 << 20;
/// The part of it that one caller may use: five bodies of [`MAX_BODY_BYTES`].
pub const MAX_REQUEST_KIB_PER_CALLER: usize = MAX_REQUEST_MEMORY_KIB / 4;
/// Bytes of memory that a byte of a body counts for: itself, and the values that are decoded from it.
pub const MEMORY_PER_BODY_BYTE: usize = 3;
/// The most that deflate makes of a byte (zlib manual, "Maximum Compression Factor": 1032 to 1).
pub const MAX_DEFLATE_RATIO: usize = 1_032;
/// Bytes that are read and dropped from a client that still sends when its request is refused. Closing at once would reset the
/// connection, and the client would lose the response (RFC 9112 section 9.6).
pub const MAX_LINGER_BYTES: usize = 16 << 20;
/// The time for which these bytes are read (nginx: `lingering_time`, 30 s, without a limit on bytes).
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(3);
/// Memory of the requests that are held open while people vote, in KiB. Each counts [`HELD_REQUEST_BASE_KIB`], its bytes as received,
/// and three times the size of its operation in memory. Enough for some fourteen thousand small ones.
pub const MAX_HELD_REQUESTS_KIB: usize = 1 << 20;
/// The part of it that one caller may use: some nine hundred small requests, or three as large as [`MAX_BODY_BYTES`] that approvers
/// can be shown.
pub const MAX_HELD_KIB_PER_CALLER: usize = MAX_HELD_REQUESTS_KIB / 16;
/// The memory of a small held request with its connection, in KiB (measured by `cargo xtask bench --only held`).
pub const HELD_REQUEST_BASE_KIB: usize = 64;
/// Longest time for which a request may be configured to be held open.
pub const MAX_HOLD_TIME: Duration = Duration::from_hours(1);
/// Largest response to an approved operation that is stored for other attempts of the same call, in bytes.
pub const MAX_STORED_RESPONSE_BYTES: usize = 256 << 10;
/// Memory of all stored responses, in bytes. The oldest are dropped first.
pub const MAX_RESPONSE_CACHE_BYTES: usize = 64 << 20;
/// The time for which a response is stored: as long as a grant waits for its use, and longer than SDKs repeat a call.
pub const STORED_RESPONSE_TTL: Duration = Duration::from_mins(10);
/// The largest difference between the date of a signature and our clock (AWS: 15 minutes, Signature Version 4 documentation).
pub const MAX_CLOCK_SKEW: Duration = Duration::from_mins(15);
/// The time around its date in which a signature may be used again. SigV4 signs to the second, so equal calls of one second have
/// equal signatures; the other second is for the way and for clocks that differ (docs/adr/0012).
pub const SIGNATURE_REPEAT_WINDOW: Duration = Duration::from_secs(2);
/// Largest `X-Amz-Expires` (AWS: seven days, "Authenticating requests: using query parameters").
pub const MAX_PRESIGN_EXPIRES: Duration = Duration::from_hours(7 * 24);
/// Longest `WebIdentityToken`, in characters (STS API Reference, AssumeRoleWithWebIdentity).
pub const MAX_WEB_IDENTITY_TOKEN_CHARS: usize = 20_000;
/// Longest session policy, in characters (STS API Reference, AssumeRole, `Policy`).
pub const MAX_SESSION_POLICY_CHARS: usize = 2_048;
/// Deepest nesting of JSON, XML or CBOR. A parser that recurses on untrusted nesting can be made to overflow its stack.
pub const MAX_NESTING_DEPTH: usize = 64;
/// Values in one body. A value takes at least 32 bytes of memory and as little as one byte of the body, so a body limit alone does
/// not bound memory. The fullest requests of AWS have some 300,000 (CloudWatch API Reference, PutMetricData: 1,000 metrics of 150 values and their counts).
pub const MAX_BODY_VALUES: usize = 500_000;
/// Parts of the names in one form (`Tags.member.1.Key` has four). Each takes some 640 bytes while the form is parsed. Services of the
/// query protocol take 1 MiB at most.
pub const MAX_FORM_NAME_PARTS: usize = 100_000;
/// Attributes of one XML element. The grantee of S3 has two.
pub const MAX_XML_ATTRIBUTES: usize = 16;

// === journal ===

/// Largest text of one journal record. The largest request body that is read whole is [`MAX_BODY_BYTES`], and JSON may escape it.
/// The format knows no larger record (FORMAT.md), so raising this is a new version of the format.
pub const MAX_RECORD_BYTES: usize = 32 << 20;
/// A journal segment that would grow larger is ended. A start reads the last segment, so this bounds how long a start takes.
pub const MAX_JOURNAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Memory of the records that wait to be written. Then requests wait for the disk, too.
pub const MAX_JOURNAL_QUEUE_BYTES: usize = 8 << 20;
/// The time for which a record without a waiter (an outcome, for example) may be in memory only. A crash within it loses the
/// record.
pub const JOURNAL_SYNC_DELAY: Duration = Duration::from_millis(50);

// === identity ===

/// The largest difference between the clock of an identity provider and ours. A token is accepted this long after its `exp`, and
/// this long before its `nbf` and `iat`. RFC 7519 section 4.1.4 permits "usually no more than a few minutes".
pub const CLOCK_LEEWAY: Duration = Duration::from_mins(1);
/// The time for which a provider's signing keys are used after the last successful fetch. It outlives an outage of the provider.
/// It is bounded because an attacker who cuts the connection to the provider could otherwise keep a withdrawn key in use.
pub const MAX_STALE_KEY_SET_AGE: Duration = Duration::from_hours(24);
/// The interval at which the revocation list is read from the store: a revocation on one replica holds on the others after this
/// time.
pub const REVOCATION_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The greatest age of the revocation list. Beyond this the gateway refuses every request, because it cannot know who is revoked.
pub const MAX_REVOCATION_STALENESS: Duration = Duration::from_secs(5);
/// The time for which the revocation of a session is kept. No gateway credential lives longer than a day; the rest is for
/// auditors.
pub const REVOCATION_RETENTION: Duration = Duration::from_hours(90 * 24);

// === credential ===

/// The time for which a session policy permits anything (its `aws:CurrentTime` condition). STS issues credentials for 900 seconds
/// at least (STS API Reference, AssumeRole, `DurationSeconds`), so this is what makes a stolen one useless sooner.
pub const SESSION_POLICY_LIFETIME: Duration = Duration::from_mins(1);
/// The time-out of one call to STS.
pub const STS_TIMEOUT: Duration = Duration::from_secs(10);
/// Issued credentials that are cached at once.
pub const MAX_CACHED_CREDENTIALS: usize = 4_096;

/// Refusals of clients without a valid credential that are recorded in a second. The others of that second are counted.
pub const MAX_ANONYMOUS_REFUSALS_PER_SECOND: u32 = 100;
/// Parameters of a refused operation that are recorded, in bytes of JSON. A caller without any permit could otherwise write 62 MB of
/// journal each second.
pub const MAX_REFUSED_PARAMETER_BYTES: usize = 64 << 10;
/// Bytes of a refusal's message that are recorded.
pub const MAX_RECORDED_MESSAGE_BYTES: usize = 4 << 10;
/// Bytes of a `User-Agent` that are recorded. Those of SDKs have some 300.
pub const MAX_RECORDED_USER_AGENT_BYTES: usize = 512;

// === approval ===

/// Pending approval requests of one caller. People read each; an agent in a loop must not bury the rest.
pub const MAX_PENDING_REQUESTS_PER_CALLER: usize = 20;
/// Pending approval requests of all callers of one identity provider. At some, anybody can have as many subjects as they like (each
/// repository and branch of a public CI service): such a provider must leave room for the callers of others.
pub const MAX_PENDING_REQUESTS_PER_PROVIDER: usize = MAX_PENDING_REQUESTS / 2;
/// Pending approval requests of all callers of one gateway together.
pub const MAX_PENDING_REQUESTS: usize = 1_000;
/// The time for which a grant waits for its use. Callers that were sent away retry within this time.
pub const GRANT_TTL: Duration = Duration::from_mins(10);
/// The longest time-bound grant that one vote may create: a working day.
pub const MAX_TIME_BOUND_GRANT: Duration = Duration::from_hours(8);
/// The time for which a denial applies to repeats of the same operation. Without it an agent could ask until somebody gives in
/// ("MFA fatigue": MITRE ATT&CK T1621, Multi-Factor Authentication Request Generation).
pub const DENIAL_TTL: Duration = Duration::from_mins(1);
/// The time in which people may vote on a request that `@on_timeout("queue")` keeps after its deadline.
pub const QUEUED_REQUEST_TTL: Duration = Duration::from_hours(24);
/// The time for which closed approval requests stay in the store for the console. The journal keeps their events.
pub const CLOSED_REQUEST_RETENTION: Duration = Duration::from_hours(90 * 24);
/// The time for which the store remembers that a caller was allowed certain actions, which lowers the risk of a repeat.
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
/// The time in which a message is tried, and in which people are notified of the end of an approval request.
pub const NOTIFICATION_TTL: Duration = Duration::from_hours(24);
// === aws ===

/// Permissions that one request may require. S3's DeleteObjects needs most: two actions on each of 1,000 keys (S3 API Reference,
/// DeleteObjects). Policy decides each, so without a limit one body of 16 MiB could name hundreds of thousands.
pub const MAX_REQUIRED_PERMISSIONS: usize = 4_000;
