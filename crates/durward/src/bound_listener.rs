//! A TCP listener with the address on which it really listens: a configured port 0 is replaced by a free port.

use crate::start_error::StartError;
use std::net::SocketAddr;
use tokio::net::TcpListener;

pub struct BoundListener {
    pub listener: TcpListener,
    pub address: SocketAddr,
}

impl BoundListener {
    /// `key` is the key of `[listen]` with which the operator can choose another address.
    pub async fn bind(address: SocketAddr, key: &'static str) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address, key, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Binds an address that may not be configured.
    pub async fn bind_configured(
        address: Option<SocketAddr>,
        key: &'static str,
    ) -> Result<Option<Self>, StartError> {
        match address {
            Some(address) => Self::bind(address, key).await.map(Some),
            None => Ok(None),
        }
    }
}
