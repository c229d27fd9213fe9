//! The revisions of MCP that the gateway supports.

/// Revisions with `initialize` and sessions, newest first. All use Streamable HTTP. Batches, which 2025-03-26 allows, are
/// refused in each.
pub(crate) const LEGACY_REVISIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// Revisions in which each request carries its version and capabilities, and headers mirror its body; newest first.
pub(crate) const MODERN_REVISIONS: [&str; 1] = ["2026-07-28"];
/// A version is a date, and ISO dates sort by time.
const FIRST_MODERN_REVISION: &str = MODERN_REVISIONS[MODERN_REVISIONS.len() - 1];
/// The only revision whose errors may send the client to a URL.
const URL_ELICITATION_ERROR_REVISION: &str = LEGACY_REVISIONS[0];

/// The two eras of the MCP specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolEra {
    /// Up to 2025-11-25: with `initialize` and sessions.
    Legacy,
    /// Since 2026-07-28: each request is complete in itself.
    Modern,
}

/// Returns true if a version is, or claims to be, a modern one.
pub(crate) fn is_modern_revision(version: &str) -> bool {
    version >= FIRST_MODERN_REVISION
}

pub(crate) fn is_supported_revision(version: &str) -> bool {
    MODERN_REVISIONS.contains(&version) || LEGACY_REVISIONS.contains(&version)
}

/// Returns true if an error of this revision may send the client to a URL (error code -32042).
pub(crate) fn has_url_elicitation_error(version: &str) -> bool {
    version == URL_ELICITATION_ERROR_REVISION
}
