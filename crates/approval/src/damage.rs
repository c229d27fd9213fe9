//! Asks whose row cannot be understood. One of them stops nothing but itself: it is shown as damaged, nothing passes on it,
//! nobody can answer it, and the log names it once.

use crate::moment::from_millis;
use crate::row::from_row;
use crate::{Ask, Event, NewAsk, Risk, State};
use durward_core::{
    AccessLevel, Caller, CallerKind, Demand, Door, ExchangeId, Operation, Resource, ResourceTags, SessionId,
    Traits,
};
use durward_store::{AskRow, StoreError};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Damaged asks that are remembered as told. Whoever has more knows by then.
const TOLD: usize = 1_000;

/// What was told of damaged asks.
#[derive(Default)]
pub(crate) struct Damage(Mutex<HashSet<String>>);

impl Damage {
    /// The ask of a row; none, and a line in the log, if the row is damaged.
    pub(crate) fn read(&self, row: &AskRow) -> Option<Ask> {
        self.told(&row.id, from_row(row))
    }

    /// What was made of a row; none, and a line in the log, if nothing could be.
    pub(crate) fn told<T>(&self, id: &str, made: Result<T, StoreError>) -> Option<T> {
        match made {
            Ok(made) => Some(made),
            Err(error) => {
                let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if told.len() < TOLD && told.insert(id.to_owned()) {
                    tracing::error!(ask = id, %error, "an ask is damaged: it is left out, and nothing passes on it");
                }
                None
            }
        }
    }
}

/// A damaged ask as it is shown: what the columns of its row still tell, and nothing that could be answered or used. None: not
/// even its id can be read.
pub(crate) fn shown(row: &AskRow) -> Option<Ask> {
    let unknown = "00000000000000000000000000000000";
    let (provider, subject) = row.caller.split_once('/').unwrap_or(("", &row.caller));
    let actions: Vec<&str> = row.actions.split(' ').collect();
    let demand = |action: &&str| Demand {
        access_level: AccessLevel::Write,
        action: (*action).to_owned(),
        resource: Resource::Any,
    };
    let service =
        actions.first().and_then(|action| action.split_once(':')).map_or("", |(service, _)| service);
    let note = "what is stored of this ask is damaged; nothing passes on it";
    Some(Ask {
        id: row.id.parse().ok()?,
        state: State::Damaged,
        created: from_millis(row.created),
        deadline: from_millis(row.deadline),
        grant_until: None,
        window: false,
        break_glass: false,
        what: Arc::new(NewAsk {
            caller: Caller {
                provider: provider.to_owned(),
                issuer: String::new(),
                subject: subject.to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            session: unknown.parse::<SessionId>().ok()?,
            connection: row.connection.clone(),
            exchange: unknown.parse::<ExchangeId>().ok()?,
            operation: Operation {
                door: if service.is_empty() { Door::Mcp } else { Door::Aws },
                service: service.to_owned(),
                name: "(damaged)".to_owned(),
                demands: actions.iter().map(demand).collect(),
                parameters: serde_json::json!({}),
                sensitive: Vec::new(),
                region: None,
                account: None,
                traits: Traits::default(),
                uninspected: vec![note.to_owned()],
                body_sha256: None,
            },
            digest: row.digest.as_slice().try_into().unwrap_or_default(),
            requirements: Vec::new(),
            risk: Risk::default(),
            tags: ResourceTags::new(),
            reason: note.to_owned(),
            policy_set: String::new(),
            source_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            user_agent: None,
        }),
        risk: Risk::default(),
        votes: Vec::new(),
        history: vec![Event {
            at: from_millis(row.created),
            kind: "damaged".to_owned(),
            by: None,
            note: Some(note.to_owned()),
        }],
        attempts: u64::try_from(row.attempts).unwrap_or_default(),
        uses: u64::try_from(row.uses).unwrap_or_default(),
    })
}
