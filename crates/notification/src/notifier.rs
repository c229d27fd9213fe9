//! Makes deliveries of what happens to asks, and sends them: one task that makes, one task a channel that sends.
//!
//! What is to be sent is in the store before anything is, derived from the asks and not from what this process saw: after a crash
//! the next start, or another process on the same store, goes on. A delivery is leased while it is on its way, so that two
//! processes do not both send it; a crash in that moment sends it again, with the same id.

use crate::channel::{Channel, Event};
use crate::delivery::{Content, Setting, id_of, id_of_all};
use crate::pace::{self, DAY, MINUTE, PEOPLE, PROGRAMS, SECOND};
use crate::send::{Failure, Outward};
use crate::status::millis;
use crate::webhook::ended;
use durward_approval::{Approvals, Ask, AskId, Clock, Filter, State};
use durward_store::{ChannelRow, Delivered, DeliveryRow, Store, StoreError, Transaction};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// How long a task sleeps at most: another process may have died with something on its way.
const LONGEST: Duration = Duration::from_secs(30);
/// Changes that are made into deliveries at once.
const BATCH: usize = 100;
/// Deliveries that one message sums up at most: more than there can be asks that wait, with those that just ended.
const MOST: i64 = 2_000;
/// How long deliveries are kept to tell repeats by.
const KEPT: i64 = 7 * DAY;

/// Tells people. [`Notifier::run`] does the work.
pub struct Notifier {
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<(Channel, Notify)>,
    outward: Arc<dyn Outward>,
    console: String,
    clock: Clock,
}

/// What goes out in one message, and which deliveries it is.
struct Message {
    id: String,
    content: Content,
    rows: Vec<DeliveryRow>,
}

/// The minute that a channel is in, and the messages it may still send in it.
struct Minute {
    began: i64,
    sent: i64,
    left: usize,
}

impl Minute {
    fn of(channel: &Channel, row: &ChannelRow, now: i64) -> Self {
        let most = if channel.for_people() { PEOPLE } else { PROGRAMS };
        let running = now >= row.minute && now < row.minute + MINUTE;
        let (began, sent) = if running { (row.minute, row.sent) } else { (now, 0) };
        Self { began, sent, left: most.saturating_sub(usize::try_from(sent).unwrap_or(usize::MAX)) }
    }
}

/// What a round of a channel leaves to do.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// There is more.
    Go,
    /// Nothing before then, in milliseconds since 1970.
    Wait(Option<i64>),
}

impl Notifier {
    /// `console` is the address of the console: scheme, host and port.
    pub fn new(
        approvals: Arc<Approvals>,
        store: Store,
        channels: Vec<Channel>,
        outward: Arc<dyn Outward>,
        console: &str,
        clock: Clock,
    ) -> Self {
        let channels = channels.into_iter().map(|channel| (channel, Notify::new())).collect();
        let console = console.trim_end_matches('/').to_owned();
        Self { approvals, store, channels, outward, console, clock }
    }

    /// Works until it is dropped. Does nothing without a channel.
    pub async fn run(self) {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for index in 0..this.channels.len() {
            let this = this.clone();
            tasks.spawn(async move { this.serve(index).await });
        }
        if !this.channels.is_empty() {
            let this = this.clone();
            tasks.spawn(async move { this.follow().await });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task that tells people ended badly");
            }
        }
        std::future::pending::<()>().await;
    }

    fn now(&self) -> i64 {
        millis((self.clock)())
    }

    /// Makes deliveries whenever asks change.
    async fn follow(&self) {
        let mut changes = self.approvals.changes();
        let mut failing = false;
        loop {
            match self.derive().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "nobody is told of asks until this works again");
                    }
                    failing = true;
                }
            }
            for (_channel, wake) in &self.channels {
                wake.notify_one();
            }
            let patience = if failing { Duration::from_secs(5) } else { LONGEST };
            match tokio::time::timeout(patience, changes.recv()).await {
                Err(_elapsed) => {}
                // Whatever was missed is in the store.
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }

    /// Brings the deliveries of every channel up to the last change of any ask.
    async fn derive(&self) -> Result<(), StoreError> {
        while self.derive_some().await? {}
        Ok(())
    }

    async fn derive_some(&self) -> Result<bool, StoreError> {
        let mut view = self.store.read().await?;
        let last = view.last_change().await?;
        let mut known = Vec::new();
        for (channel, _wake) in &self.channels {
            known.push(view.channel(&channel.name).await?.map(|row| row.change));
        }
        let first = known.iter().flatten().min().copied().unwrap_or(last);
        let is_new = known.contains(&None);
        if first >= last && !is_new {
            return Ok(false);
        }
        let mut changed = view.changed_since(first).await?;
        drop(view);
        let more = changed.len() > BATCH;
        changed.truncate(BATCH);
        let reached = if more { changed.last().map_or(last, |(_id, change)| *change) } else { last };
        let mut asks = Vec::new();
        for (id, change) in changed {
            if let Some(ask) = self.find(&id).await? {
                asks.push((ask, change));
            }
        }
        // A channel that is new is told what waits, and nothing of what was.
        let waiting = if is_new {
            self.approvals.list(Filter { states: vec![State::Pending], caller: None, limit: 1_000 }).await?
        } else {
            Vec::new()
        };
        let now = self.now();
        let mut write = self.store.write().await?;
        for ((channel, _wake), known) in self.channels.iter().zip(known) {
            let Some(known) = known else {
                for ask in &waiting {
                    make(&mut write, channel, ask, now).await?;
                }
                write.follow_changes(&channel.name, last).await?;
                continue;
            };
            for (ask, _change) in asks.iter().filter(|(_ask, change)| *change > known) {
                make(&mut write, channel, ask, now).await?;
            }
            write.follow_changes(&channel.name, reached).await?;
        }
        write.forget_deliveries(now - KEPT).await?;
        write.commit().await?;
        Ok(more)
    }

    /// An ask as it is now; none: it is gone, or cannot be read, which the approvals' own log says.
    async fn find(&self, id: &str) -> Result<Option<Ask>, StoreError> {
        let Ok(id) = id.parse::<AskId>() else { return Ok(None) };
        match self.approvals.get(id).await {
            Err(StoreError::Damaged(why)) => {
                tracing::error!(ask = %id, error = why, "nobody can be told of an ask that cannot be read");
                Ok(None)
            }
            other => other,
        }
    }

    /// Sends what one channel has to send.
    async fn serve(&self, index: usize) {
        let Some((channel, wake)) = self.channels.get(index) else { return };
        let mut failing = false;
        loop {
            let wait = match self.round(channel).await {
                Ok(Then::Go) => {
                    failing = false;
                    continue;
                }
                Ok(Then::Wait(at)) => {
                    failing = false;
                    let until = at.map_or(LONGEST, |at| {
                        Duration::from_millis(u64::try_from(at - self.now()).unwrap_or_default())
                    });
                    // never a busy loop, whatever the store says
                    until.clamp(Duration::from_millis(20), LONGEST)
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(channel = channel.name, %error, "a channel cannot be served until this works again");
                    }
                    failing = true;
                    Duration::from_secs(5)
                }
            };
            // An error means that the time is over: then it is time to look.
            let _woken = tokio::time::timeout(wait, wake.notified()).await;
        }
    }

    async fn round(&self, channel: &Channel) -> Result<Then, StoreError> {
        let now = self.now();
        let mut view = self.store.read().await?;
        if !view.has_due_deliveries(&channel.name, now).await? {
            return Ok(Then::Wait(view.next_delivery(&channel.name, now).await?));
        }
        // Looked at before the store is locked: a flood wakes this at each of its asks.
        let minute = Minute::of(channel, &view.channel(&channel.name).await?.unwrap_or_default(), now);
        let first = view.due_deliveries(&channel.name, now, 1).await?;
        let loud = first.iter().any(|row| row.event == Event::BreakGlass.as_str());
        if minute.left == 0 && !loud {
            return Ok(Then::Wait(Some(minute.began + MINUTE)));
        }
        drop(view);
        let (claimed, then) = self.claim(channel).await?;
        if claimed.is_empty() {
            return Ok(then);
        }
        for sent in join_all(claimed.into_iter().map(|message| self.send(channel, message))).await {
            sent?;
        }
        Ok(Then::Go)
    }

    /// Takes what may go out now, or says when there will be something.
    async fn claim(&self, channel: &Channel) -> Result<(Vec<Message>, Then), StoreError> {
        let now = self.now();
        let mut write = self.store.write().await?;
        write.drop_deliveries(&channel.name, now, channel.for_people()).await?;
        let due = write.due_deliveries(&channel.name, now, MOST).await?;
        let minute = Minute::of(channel, &write.channel(&channel.name).await?.unwrap_or_default(), now);
        let any = !due.is_empty();
        let mut plan = pace::plan(due, minute.left);
        if plan.single.is_empty() && plan.together.is_empty() {
            let at = if any {
                Some(minute.began + MINUTE)
            } else {
                write.next_delivery(&channel.name, now).await?
            };
            write.commit().await?;
            return Ok((Vec::new(), Then::Wait(at)));
        }
        for row in plan.single.iter_mut().chain(&mut plan.together) {
            write.lease_delivery(row, now + channel.lease()).await?;
        }
        write.count_sent(&channel.name, minute.began, minute.sent + plan.counted as i64).await?;
        write.commit().await?;
        let mut messages = Vec::new();
        for row in plan.single {
            messages.extend(self.write(vec![row], false).await?);
        }
        if !plan.together.is_empty() {
            messages.extend(self.write(plan.together, true).await?);
        }
        Ok((messages, Then::Go))
    }

    /// The message of these deliveries, without those that are not told any more; none: none is.
    async fn write(&self, rows: Vec<DeliveryRow>, together: bool) -> Result<Option<Message>, StoreError> {
        let mut told = Vec::new();
        let mut asks = Vec::new();
        for row in rows {
            let event = Event::parse(&row.event);
            let ask = self.find(&row.ask).await?;
            match (event, ask) {
                (Some(event), Some(ask)) if event != Event::Opened || ask.state == State::Pending => {
                    asks.push((event, ask));
                    told.push(row);
                }
                _ => self.end(&row, &Delivered::Dropped).await?,
            }
        }
        let message = match asks.pop() {
            None => None,
            Some((event, ask)) if asks.is_empty() && !together => Some(Message {
                id: id_of(&ask.id.to_string(), event),
                content: Content::One(event, Box::new(ask)),
                rows: told,
            }),
            Some(last) => {
                asks.push(last);
                Some(Message { id: id_of_all(&told), content: Content::Together(asks), rows: told })
            }
        };
        Ok(message)
    }

    async fn end(&self, row: &DeliveryRow, how: &Delivered) -> Result<(), StoreError> {
        let mut write = self.store.write().await?;
        write.end_delivery(row, how).await?;
        write.commit().await
    }

    /// Sends one message, and writes how it went.
    async fn send(&self, channel: &Channel, message: Message) -> Result<(), StoreError> {
        let setting = Setting { outward: &*self.outward, console: &self.console, now: (self.clock)() };
        let result = setting.send(channel, &message.id, &message.content).await;
        let now = self.now();
        let name = channel.name.as_str();
        let mut write = self.store.write().await?;
        let turned = match &result {
            Ok(_) => write.channel_works(name, now).await?,
            Err(failure) => write.channel_fails(name, now, &failure.text).await?,
        };
        let mut lost = 0;
        for row in &message.rows {
            let how = match &result {
                Ok(_) => Delivered::Sent,
                Err(failure) => after(failure, row, now),
            };
            lost += usize::from(matches!(how, Delivered::GivenUp(_)));
            write.end_delivery(row, &how).await?;
        }
        if let Err(Failure { permanent: false, retry_after: Some(wait), .. }) = &result {
            write.pause_channel(name, now.saturating_add((*wait).min(pace::HOUR))).await?;
        }
        write.commit().await?;
        let id = message.id;
        match result {
            Ok(partly) => {
                tracing::info!(channel = name, delivery = id, "people were told");
                if let Some(why) = partly {
                    tracing::warn!(channel = name, delivery = id, why, "not everybody could be told");
                }
                if turned {
                    tracing::info!(channel = name, "the channel works again");
                }
            }
            Err(failure) => {
                if turned {
                    tracing::warn!(channel = name, error = failure.text, "the channel does not work");
                }
                if lost > 0 {
                    tracing::warn!(
                        channel = name,
                        delivery = id,
                        error = failure.text,
                        "given up: nobody was told by this channel"
                    );
                } else {
                    tracing::debug!(
                        channel = name,
                        delivery = id,
                        error = failure.text,
                        "not sent; it is tried again"
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Notifier {
    /// Does all that is to be done at this moment.
    pub(crate) async fn settle(&self) {
        self.derive().await.unwrap();
        for (channel, _wake) in &self.channels {
            while self.round(channel).await.unwrap() == Then::Go {}
        }
    }

    /// Takes what is to be sent, and is gone before it is.
    pub(crate) async fn take_and_die(&self) {
        self.derive().await.unwrap();
        for (channel, _wake) in &self.channels {
            assert!(!self.claim(channel).await.unwrap().0.is_empty());
        }
    }
}

/// What becomes of a delivery that failed.
fn after(failure: &Failure, row: &DeliveryRow, now: i64) -> Delivered {
    let error = failure.text.clone();
    if failure.permanent {
        return Delivered::GivenUp(error);
    }
    match pace::next_try(row.created, row.attempts, failure.retry_after, now) {
        Some(at) => Delivered::Retry { at: at.max(now + SECOND), error },
        None => Delivered::GivenUp(error),
    }
}

/// Makes the deliveries that follow from how an ask is now.
async fn make(write: &mut Transaction, channel: &Channel, ask: &Ask, now: i64) -> Result<(), StoreError> {
    let mine = channel.groups.is_empty()
        || ask.what.requirements.iter().any(|requirement| channel.groups.contains(&requirement.group));
    if !mine {
        return Ok(());
    }
    let id = ask.id.to_string();
    let mut events = Vec::new();
    if ask.state == State::Pending {
        events.push(Event::Opened);
    } else if now < millis(ended(ask)).saturating_add(DAY) {
        if ask.break_glass {
            events.push(Event::BreakGlass);
        }
        let heard = if channel.for_people() {
            // Break-glass says it already.
            !ask.break_glass && write.has_delivery(&channel.name, &id, Event::Opened.as_str()).await?
        } else {
            true
        };
        if heard {
            events.push(Event::Closed);
        }
    }
    for event in events.into_iter().filter(|event| channel.events.contains(event)) {
        write.insert_delivery(&channel.name, &id, event.as_str(), now).await?;
    }
    Ok(())
}
