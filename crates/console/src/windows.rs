//! The windows that are open: what passes now without anybody being asked, by whose word, until when.

use crate::{
    people,
    recordings::who,
    text::Text,
    view::{When, place, resources},
};
use durward_approval::{Approvals, Ask, AskId, Filter, Person, State, StoreError};
use time::OffsetDateTime;

/// Approved asks that are looked through: the most that the approval room lists.
const APPROVED: usize = 1_000;
/// Actions and resources of a window that a list names.
const NAMED: usize = 3;

/// All that are open, and whether there may be more than could be looked through.
pub struct Open {
    pub asks: Vec<Ask>,
    pub more: bool,
}

/// Which close first comes first.
pub async fn open(approvals: &Approvals, now: OffsetDateTime) -> Result<Open, StoreError> {
    let filter = Filter { states: vec![State::Approved], caller: None, limit: APPROVED };
    let mut asks = approvals.list(filter).await?;
    let more = asks.len() == APPROVED;
    asks.retain(|ask| {
        ask.state == State::Approved && ask.window && ask.grant_until.is_some_and(|end| end > now)
    });
    asks.sort_by_key(|ask| ask.grant_until);
    Ok(Open { asks, more })
}

/// A window in the list.
pub struct WindowLine {
    pub id: AskId,
    pub title: Text,
    /// Without the one that the title is.
    pub actions: Vec<Text>,
    pub more_actions: usize,
    pub resources: Vec<Text>,
    pub more_resources: usize,
    pub caller: Text,
    pub connection: Text,
    pub place: Text,
    pub until: When,
    pub uses: u64,
    pub opened_by: Text,
    /// Whether this visitor may close it.
    pub yours: bool,
}

impl WindowLine {
    /// None: it has no end, so that it is none.
    pub fn of(ask: &Ask, person: &Person, now: OffsetDateTime) -> Option<Self> {
        let title = Text::new(ask.what.operation.title());
        let mut actions: Vec<Text> = Vec::new();
        for demand in &ask.what.operation.demands {
            let action = Text::new(&demand.action);
            if action != title && !actions.contains(&action) {
                actions.push(action);
            }
        }
        let mut resources = resources(ask);
        let (more_actions, more_resources) =
            (actions.len().saturating_sub(NAMED), resources.len().saturating_sub(NAMED));
        actions.truncate(NAMED);
        resources.truncate(NAMED);
        let opened: Vec<&str> =
            ask.votes.iter().filter(|vote| vote.approve).map(|vote| vote.by.id.as_str()).collect();
        Some(Self {
            id: ask.id,
            title,
            actions,
            more_actions,
            resources,
            more_resources,
            caller: who(&ask.what.caller),
            connection: Text::new(&ask.what.connection),
            place: place(ask),
            until: When::new(ask.grant_until?, now),
            uses: ask.uses,
            opened_by: Text::new(opened.join(", ")),
            yours: people::is_entitled(ask, person),
        })
    }
}
