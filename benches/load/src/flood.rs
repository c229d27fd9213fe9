//! Floods and starvation: what honest callers see while the gateway is attacked, and after.
//!
//! Each attack meets a fresh gateway with its defaults. Eight honest callers send signed GetItem requests before, during and after
//! it. The suite fails if one of them is not served, is served much later than before, or if the gateway does not keep to its bounds.
//! Where the record cannot be written, nobody may be served, and each caller must be told so.

mod crowd;
mod honest;
mod report;
mod small_disk;
mod stand;
mod watch;

use crate::gateway::origin;
use crate::requests::Corpus;
use crowd::{Behaviour, Crowd, Message};
use durward_core::limits;
use report::{Report, Row};
use small_disk::SmallDisk;
use stand::Stand;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Connections of the largest crowd.
const CONNECTIONS: usize = 5_000;
/// Open files of this program beside those of the largest crowd.
const OWN_FILES: u64 = 500;
/// Enough for every connection to meet each deadline of the gateway once.
const DURATION: Duration = Duration::from_secs(32);
/// What the gateway takes beyond a deadline to end a connection, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(4);
/// Memory of a connection with a head that has not ended: the buffers of the parser and of the strict stream in front of it, each
/// at most a head, and the task.
const OPEN_HEAD_KIB: usize = 2 * limits::MAX_HEAD_BYTES / 1024 + 16;
/// What the gateway reads at once of an upstream (`MAX_READ_BUFFER_BYTES` of crates/gateway/src/upstream_client.rs).
const UPSTREAM_READ_KIB: usize = 128;
/// Memory of a request that streams: three pieces of a body (being read, handed over, being written), each at most a read buffer, the
/// buffers of the client's side, each at most a head, and the request itself.
const STREAM_KIB: usize =
    3 * UPSTREAM_READ_KIB + 2 * limits::MAX_HEAD_BYTES / 1024 + limits::HELD_REQUEST_BASE_KIB;
/// What the allocator keeps, and what eight honest callers and their records take.
const SPARE_MIB: f64 = 32.0;
/// The open files of a gateway that is to run out of them.
const FEW_FILES: usize = 120;

pub struct Options {
    pub durward: PathBuf,
    pub scratch: PathBuf,
    pub core: Option<usize>,
    /// Only attacks with this in their title.
    pub only: String,
}

/// A crowd that misuses the gateway, and the bounds that hold meanwhile.
struct Attack {
    title: String,
    clients: usize,
    message: fn(&mut Corpus) -> Result<Vec<u8>, String>,
    /// Whether each client signs for itself.
    is_signed: bool,
    behaviour: Behaviour,
    /// Whether it comes from an address of its own, and not through loopback as from a proxy.
    is_outside: bool,
    open_files: Option<usize>,
    bounds: Bounds,
}

/// What the gateway must keep to while it is attacked.
struct Bounds {
    /// Memory beyond that of before, and why so much.
    memory_kib: usize,
    memory_reason: String,
    /// The longest time for which it may keep a connection of the attackers.
    longest: Option<Duration>,
    /// Journal beyond that of the honest callers.
    journal_kib_per_second: f64,
}

pub async fn measure(options: &Options) -> Result<(), String> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)
        .map_err(|error| format!("the limit of open files cannot be raised: {error}"))?;
    let connections =
        CONNECTIONS.min(usize::try_from(limit.saturating_sub(OWN_FILES)).unwrap_or(CONNECTIONS));
    let mut report = Report::default();
    if connections < CONNECTIONS {
        report.note(format!(
            "The limit of open files ({limit}) permits {connections} connections, not {CONNECTIONS}."
        ));
    }
    let outside = outside_address();
    if outside.is_none() {
        report.note("This machine has no address but loopback, which has no part of its own.".to_owned());
    }
    let (_origin, origin) = origin(&options.scratch).await?;
    let is_chosen = |title: &str| title.contains(&options.only);
    for attack in attacks(connections) {
        if is_chosen(&attack.title) {
            eprintln!("{} ...", attack.title);
            for attempt in 1..=ATTEMPTS {
                let row = run_crowd(options, &attack, origin, outside, report.next_series()).await;
                let row = row.map_err(|error| format!("{}: {error}", attack.title))?;
                let is_last = attempt == ATTEMPTS || !row.is_only_slow();
                report.add(row, is_last);
                if is_last {
                    break;
                }
            }
        }
    }
    if is_chosen(FULL_DISK) {
        eprintln!("{FULL_DISK} ...");
        match SmallDisk::mount(&options.scratch.join("small-disk")) {
            Ok(disk) => report.add(fill_disk(options, &disk, origin, report.next_series()).await?, true),
            Err(error) => report.note(format!("{FULL_DISK}: not measured, because {error}")),
        }
    }
    if is_chosen(DELETED_JOURNAL) {
        eprintln!("{DELETED_JOURNAL} ...");
        report.add(delete_journal(options, origin, report.next_series()).await?, true);
    }
    print!("{}", report.render());
    report.outcome()
}

/// Nobody's p99 is held to a bound while a flood takes the whole of the gateway's core: it serves in the order of arrival.
const AS_FAST: &str = "as fast as they can";
/// How often an attack is measured until the p99 is right: other programs of the machine take their time from the same cores.
const ATTEMPTS: usize = 3;
const FULL_DISK: &str = "full disk";
const DELETED_JOURNAL: &str = "deleted journal";

fn attacks(connections: usize) -> Vec<Attack> {
    let mut all = half_sent_requests();
    all.push(Attack {
        is_signed: true,
        ..Attack::new(
            "300 readers that read nothing of 10 MiB".to_owned(),
            300,
            Corpus::sign_get_large,
            Behaviour::NeverReads,
            Bounds::of_connections(300, STREAM_KIB, "buffers of a stream"),
        )
    });
    all.extend(huge_refusals());
    all.push(Attack {
        is_outside: true,
        ..Attack::new(
            format!("{connections} connections of one address, heads half-sent"),
            connections,
            |_| Ok(b"GET / HTTP/1.1\r\nhost: ".to_vec()),
            Behaviour::Waits,
            Bounds::of_connections(connections, OPEN_HEAD_KIB, "a head")
                .ended_after(limits::REQUEST_HEAD_TIMEOUT),
        )
    });
    all.push(Attack {
        is_signed: true,
        is_outside: true,
        open_files: Some(FEW_FILES),
        ..Attack::new(
            format!("exhausted files: 400 such readers of one address, {FEW_FILES} files"),
            400,
            Corpus::sign_get_large,
            Behaviour::NeverReads,
            Bounds::of_connections(FEW_FILES, STREAM_KIB, "buffers of a stream for each file"),
        )
    });
    all
}

/// Requests whose bodies never end.
fn half_sent_requests() -> Vec<Attack> {
    let of_caller = limits::MAX_REQUEST_KIB_PER_CALLER;
    let heads = Bounds::of_connections(30, OPEN_HEAD_KIB, "a head");
    vec![
        Attack::new(
            "2,000 half-sent sign-ins".to_owned(),
            2_000,
            |_| Ok(half_sent_sign_in()),
            Behaviour::Waits,
            Bounds::of_connections(2_000, OPEN_HEAD_KIB, "a head and a body that is no larger")
                .ended_after(limits::REQUEST_BODY_TIMEOUT),
        ),
        Attack {
            is_signed: true,
            ..Attack::new(
                "300 half-sent uploads".to_owned(),
                300,
                |corpus| {
                    let mut request = corpus.sign_put_object(256 << 10)?;
                    request.truncate(128 << 10);
                    Ok(request)
                },
                Behaviour::Waits,
                Bounds::of_connections(300, STREAM_KIB, "buffers of a stream")
                    .ended_after(limits::REQUEST_BODY_TIMEOUT),
            )
        },
        Attack::new(
            "30 bodies of 15 MiB of one caller, sent to 14 MiB".to_owned(),
            30,
            stalled_item,
            Behaviour::Waits,
            Bounds {
                memory_kib: of_caller + heads.memory_kib,
                memory_reason: format!("{of_caller} KiB of one caller's requests, {}", heads.memory_reason),
                ..heads
            }
            // It takes four seconds to send them.
            .ended_after(Duration::from_secs(4) + limits::REQUEST_BODY_TIMEOUT),
        ),
    ]
}

/// Requests that are refused, at a rate that leaves the gateway some of its core, and as fast as they can.
fn huge_refusals() -> Vec<Attack> {
    let mut all = Vec::new();
    for (interval, rate) in [(Duration::from_millis(16), "1,000 a second"), (Duration::ZERO, AS_FAST)] {
        all.push(Attack::new(
            format!("user agents of 60 KiB without a credential, {rate}"),
            16,
            |_| Ok(huge_user_agent()),
            Behaviour::Repeats(interval),
            Bounds::of_connections(16, OPEN_HEAD_KIB, "a head"),
        ));
    }
    for (interval, rate) in [(Duration::from_millis(80), "50 a second"), (Duration::ZERO, AS_FAST)] {
        all.push(Attack {
            is_signed: true,
            ..Attack::new(
                format!("denied items of 256 KiB, {rate}"),
                4,
                |corpus| corpus.sign_put_item(256 << 10),
                Behaviour::Repeats(interval),
                Bounds::of_connections(
                    4,
                    (256 << 10) * 12 / 1024,
                    "a body as it is read, decoded, masked and recorded",
                ),
            )
        });
    }
    all
}

impl Attack {
    /// Through loopback, without a signature of each client's own, at a gateway with all open files.
    fn new(
        title: String,
        clients: usize,
        message: fn(&mut Corpus) -> Result<Vec<u8>, String>,
        behaviour: Behaviour,
        bounds: Bounds,
    ) -> Self {
        Self {
            title,
            clients,
            message,
            is_signed: false,
            behaviour,
            is_outside: false,
            open_files: None,
            bounds,
        }
    }
}

impl Bounds {
    fn of_connections(count: usize, kib: usize, what: &str) -> Self {
        Self {
            memory_kib: count * kib,
            memory_reason: format!("{count} connections of {kib} KiB ({what})"),
            longest: None,
            // The rate of anonymous refusals, each with a user agent and a message as long as they are recorded. Those of callers are
            // bounded one by one: their parameters are left out if they are large.
            journal_kib_per_second: f64::from(limits::MAX_ANONYMOUS_REFUSALS_PER_SECOND)
                * (limits::MAX_RECORDED_USER_AGENT_BYTES + limits::MAX_RECORDED_MESSAGE_BYTES) as f64
                / 1024.0,
        }
    }

    /// The gateway ends each connection soon after this time.
    fn ended_after(self, time: Duration) -> Self {
        Self { longest: Some(time + limits::LINGER_TIMEOUT + SLACK), ..self }
    }
}

/// A sign-in without its second half.
fn half_sent_sign_in() -> Vec<u8> {
    let form = format!("Action=AssumeRoleWithWebIdentity&WebIdentityToken={}", "t".repeat(1_000));
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: sts.us-east-1.amazonaws.com\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n",
        2 * form.len()
    );
    request += &form;
    request.into_bytes()
}

/// A request whose `User-Agent` fills the head.
fn huge_user_agent() -> Vec<u8> {
    let agent = "u".repeat(limits::MAX_HEAD_BYTES - (4 << 10));
    format!("GET /bench-bucket/objects/small HTTP/1.1\r\nhost: s3.us-east-1.amazonaws.com\r\nuser-agent: {agent}\r\n\r\n")
        .into_bytes()
}

/// A PutItem that says it has 15 MiB and ends after 14. Its signature does not matter: it covers a body that never comes.
fn stalled_item(corpus: &mut Corpus) -> Result<Vec<u8>, String> {
    let signed = corpus.sign_put_item(0)?;
    let text = String::from_utf8(signed).map_err(|error| error.to_string())?;
    let (head, _body) = text.split_once("\r\n\r\n").ok_or("a request without a head was signed")?;
    let mut lines: Vec<&str> =
        head.split("\r\n").filter(|line| !line.starts_with("content-length:")).collect();
    let length = format!("content-length: {}", 15 << 20);
    lines.push(&length);
    let mut request = lines.join("\r\n").into_bytes();
    request.extend_from_slice(b"\r\n\r\n");
    request.resize(request.len() + (14 << 20), b' ');
    Ok(request)
}

/// The address by which this machine reaches others. Nothing is sent: connecting a UDP socket only chooses the address.
fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // A documentation address (RFC 5737), which the default route leads to.
    socket.connect(("198.51.100.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

async fn run_crowd(
    options: &Options,
    attack: &Attack,
    origin: SocketAddr,
    outside: Option<IpAddr>,
    series: usize,
) -> Result<Row, String> {
    let scratch = options.scratch.join("flood");
    let stand = Stand::start(options, &scratch, origin, attack.open_files, series).await?;
    let before = stand.watch_before().await?;
    let mut corpus = Corpus::new(&stand.attacker, stand.gateway.address.to_string());
    let message = if attack.is_signed {
        Message::Signed(Arc::new(Mutex::new(corpus)), attack.message)
    } else {
        Message::Fixed((attack.message)(&mut corpus)?.into())
    };
    let mut address = stand.gateway.address;
    if let Some(outside) = outside.filter(|_| attack.is_outside) {
        address.set_ip(outside);
    }
    let crowd =
        Crowd { clients: attack.clients, gateway: address, message, behaviour: attack.behaviour }.start();
    let during = stand.watch(DURATION).await?;
    let counts = crowd.finish()?;
    let after = stand.watch_after().await?;
    let mut row = Row::new(&attack.title, &stand, before, during, after);
    row.note_crowd(&counts);
    row.require_service();
    if attack.behaviour != Behaviour::Repeats(Duration::ZERO) {
        row.require_speed();
    }
    row.require_memory(attack.bounds.memory_kib as f64 / 1024.0 + SPARE_MIB, &attack.bounds.memory_reason);
    row.require_journal_rate(attack.bounds.journal_kib_per_second);
    if let Some(longest) = attack.bounds.longest {
        row.require_end_of_connections(&counts, longest);
    }
    stand.finish(&mut row, origin, None).await?;
    Ok(row)
}

/// Fills the disk under the gateway, and frees it again.
async fn fill_disk(
    options: &Options,
    disk: &SmallDisk,
    origin: SocketAddr,
    series: usize,
) -> Result<Row, String> {
    let stand = Stand::start(options, &disk.directory, origin, None, series).await?;
    let before = stand.watch_before().await?;
    disk.fill()?;
    let during = stand.watch(DURATION / 3).await?;
    disk.free()?;
    let after = stand.watch_after().await?;
    let mut row = Row::new(FULL_DISK, &stand, before, during, after);
    row.require_clear_refusals();
    row.require_service_after();
    row.require_memory(SPARE_MIB, "no attacker");
    stand.finish(&mut row, origin, None).await?;
    Ok(row)
}

/// Deletes the journal's segment while the gateway appends to it.
async fn delete_journal(options: &Options, origin: SocketAddr, series: usize) -> Result<Row, String> {
    let scratch = options.scratch.join("flood");
    let stand = Stand::start(options, &scratch, origin, None, series).await?;
    let before = stand.watch_before().await?;
    let kept = stand.delete_segments()?;
    let during = stand.watch(DURATION / 3).await?;
    let after = stand.watch_after().await?;
    let mut row = Row::new(DELETED_JOURNAL, &stand, before, during, after);
    row.require_clear_refusals();
    row.require_no_service_after();
    row.require_memory(SPARE_MIB, "no attacker");
    row.require_log("is not the file that the gateway appends to");
    stand.finish(&mut row, origin, Some(&kept)).await?;
    Ok(row)
}
