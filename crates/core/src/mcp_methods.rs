//! The methods of MCP. Policies name them, and a message may not have one that only resembles them.

/// The methods that an MCP client can send, of all revisions from 2024-11-05 to 2026-07-28.
pub const MCP_METHODS: [&str; 23] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/roots/list_changed",
];
