//! The revisions of MCP that pass: one modern, where every request stands for itself, and the legacy ones with sessions.

/// Revisions with `initialize` and sessions, newest first. All of Streamable HTTP; batches (2025-03-26) are refused in each.
pub(crate) const LEGACY_REVISIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// Revisions in which each request carries its version, its capabilities and mirrors of its body in headers.
pub(crate) const MODERN_REVISIONS: [&str; 1] = ["2026-07-28"];
/// The first day of the modern era: a version is a date, and dates written so sort by time.
const FIRST_MODERN_REVISION: &str = "2026-07-28";

/// Which of the two ways of MCP a message keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolEra {
    Legacy,
    Modern,
}

/// Whether a version is, or claims to be, a modern one.
pub(crate) fn is_modern_revision(version: &str) -> bool {
    version >= FIRST_MODERN_REVISION
}

pub(crate) fn is_supported_revision(version: &str) -> bool {
    MODERN_REVISIONS.contains(&version) || LEGACY_REVISIONS.contains(&version)
}
