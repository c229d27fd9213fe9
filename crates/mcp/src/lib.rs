//! The MCP wire: JSON-RPC framing, revisions, catalogue of a server.
