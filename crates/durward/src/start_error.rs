//! Why a gateway does not start, or stops by itself. The texts are for the operator.

use crate::config::ConfigError;
use durward_approval::StoreError;
use durward_console::ConsoleError;
use durward_core::OriginError;
use durward_gateway::upstream_client::UpstreamSetupError;
use durward_identity::{KeyFileError, ProviderConfigError};
use durward_journal::JournalError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}: {error}\n  hint: choose another address with [listen] {key}")]
    Listen { address: SocketAddr, key: &'static str, error: io::Error },
    #[error("{}: every user of this machine can replace files in it (mode {mode:o})\n  hint: chmod o-w {}", dir.display(), dir.display())]
    ExposedDirectory { dir: PathBuf, mode: u32 },
    /// `location` is the file, or the table of the configuration that names the database.
    #[error("{location}: {error}")]
    OpenStore { location: String, error: StoreError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    SealKey(#[from] KeyFileError),
    #[error(transparent)]
    Provider(#[from] ProviderConfigError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error("AWS_CONTAINER_CREDENTIALS_FULL_URI: {0}")]
    ContainerCredentialsUrl(OriginError),
    #[error("the HTTP client cannot be set up: {0}")]
    HttpClient(#[from] UpstreamSetupError),
    #[error("a part of the gateway stopped; the log says which")]
    PartStopped,
}
