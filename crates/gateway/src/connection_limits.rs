//! A bound on the connections of clients: in all, so that there are file descriptors left for everything else, and from one address,
//! so that one client cannot use them up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most connections that listeners keep open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub total: usize,
    pub per_address: usize,
}

/// Counts the connections of one listener, or of several that share them.
#[derive(Debug)]
pub struct ConnectionCounter {
    free: Arc<Semaphore>,
    per_address: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl ConnectionCounter {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limits.total)),
            per_address: limits.per_address,
            by_address: Mutex::default(),
        })
    }

    /// Waits until there may be another connection. Until then, connections wait in the backlog of the kernel.
    pub(crate) async fn wait_for_capacity(&self) -> Option<OwnedSemaphorePermit> {
        // It fails only for a semaphore that is closed, and this one never is.
        self.free.clone().acquire_owned().await.ok()
    }

    /// Counts a connection until the result is dropped; `None` if its address has as many as it may have. A proxy on this machine
    /// brings the connections of all its clients, so loopback has no part of its own.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<CountedConnection> {
        let address = client_network(address);
        let mut by_address = durward_core::lock_ignoring_poison(&self.by_address);
        let count = by_address.entry(address).or_default();
        if *count >= self.per_address && !address.is_loopback() {
            return None;
        }
        *count += 1;
        drop(by_address);
        Some(CountedConnection { counter: Arc::clone(self), address, _permit: permit })
    }
}

/// The address that a client cannot change at will: an IPv6 host chooses freely within its /64 (RFC 4291 section 2.5.1).
fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A connection that counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedConnection {
    counter: Arc<ConnectionCounter>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut by_address = durward_core::lock_ignoring_poison(&self.counter.by_address);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_part_and_all_have_the_total() {
        let counter = ConnectionCounter::new(ConnectionLimits { total: 3, per_address: 2 });
        let connect = async |address: &str| {
            let permit = counter.wait_for_capacity().await.unwrap();
            counter.admit(address.parse().unwrap(), permit)
        };
        let mine = [connect("2001:db8::1").await, connect("2001:db8::2").await];
        assert!(mine.iter().all(Option::is_some));
        assert!(connect("2001:db8::3").await.is_none(), "the same /64");
        assert!(connect("::ffff:192.0.2.1").await.is_some_and(|other| other.address.is_ipv4()));
        let other = connect("2001:db8:0:1::1").await;
        assert!(other.is_some() && counter.free.available_permits() == 0);
        drop((mine, other));
        assert_eq!(counter.free.available_permits(), 3);
        assert!(counter.by_address.lock().unwrap().is_empty(), "an address without connections is forgotten");
        let local = [connect("127.0.0.1").await, connect("127.0.0.1").await, connect("127.0.0.1").await];
        assert!(local.iter().all(Option::is_some), "a proxy on this machine may use them all");
    }
}
