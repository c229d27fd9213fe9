//! One request and its response passing through, and the caller who sent it: the types that every part of the gateway shares.
//!
//! Nothing here knows a protocol or a step of the pipeline.

use crate::client_connection::ClientConnection;
use durward_core::{Caller, ExchangeId, SessionId};
use durward_policy::RequestContext;
use std::net::SocketAddr;
use std::time::Instant;
use time::OffsetDateTime;

/// One request and its response passing through: the facts that are known before the request is read.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub id: ExchangeId,
    pub source: SocketAddr,
    pub time: OffsetDateTime,
    pub started_at: Instant,
    pub user_agent: Option<String>,
    pub retry_key: RetryKey,
    pub client: ClientConnection,
}

impl Exchange {
    /// The same exchange, decided as of now: it may have been held for an hour.
    #[must_use]
    pub fn at_current_time(&self) -> Self {
        Self { time: OffsetDateTime::now_utc(), ..self.clone() }
    }

    /// The time that the exchange has taken so far, in microseconds.
    pub fn elapsed_micros(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The client's own key for the attempts of one call, if it sends one. Attempts with one key share one approval and one
/// execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryKey {
    /// The protocol has no retries: the response names the request that it belongs to.
    None,
    /// The request may be an attempt of any call.
    Unknown,
    Key(String),
}

impl RetryKey {
    pub fn known_key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::None | Self::Unknown => None,
        }
    }
}

/// The caller of an exchange, as a front end has verified it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub caller: Caller,
    pub session: SessionId,
    /// The time that revocations are compared with: a revocation of the caller covers everything that began before it. It is the
    /// earlier of the session's start and of the proof's: a session that an old token opens anew is as old as the token.
    pub valid_since: OffsetDateTime,
    /// The connection (AWS role or MCP server) that the request is for.
    pub connection: String,
    /// From then on the credential or token that the request came with is not accepted.
    pub expires_at: OffsetDateTime,
}

/// The facts about an exchange that policies read beside its operation. Tags and risk are added where a policy reads them.
pub(crate) fn policy_context<'a>(exchange: &Exchange, identity: &'a Identity) -> RequestContext<'a> {
    RequestContext {
        connection: Some(&identity.connection),
        source_ip: exchange.source.ip(),
        now: exchange.time,
        tags: None,
        risk: None,
    }
}
