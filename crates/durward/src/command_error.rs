//! Why a command of a client ended without a result. The texts are for the person at the terminal.

use crate::input_files::FileError;
use durward_core::OriginError;
use durward_gateway::upstream_client::UpstreamSetupError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The gateway, the identity provider or a check of this program said no. Trying again changes nothing.
    #[error("{0}")]
    Refused(String),
    /// The gateway or the identity provider could not be reached. Trying again later may help.
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Url(#[from] OriginError),
    #[error("the HTTP client cannot be set up: {0}")]
    HttpClient(#[from] UpstreamSetupError),
    #[error("cannot write: {0}")]
    Output(io::Error),
}
