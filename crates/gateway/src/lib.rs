//! The line of DESIGN section 2, its listeners, its doors and the upstream transport.
//!
//! Start reading at [`line`]: it is the way of every request, step by step.

mod answer;
pub mod aws_door;
pub mod body;
mod events;
pub mod framing;
pub mod held;
mod interim;
pub mod line;
pub mod listen;
pub mod mcp_door;
pub mod outward;
mod replay;
pub mod rooms;
mod socket;
mod strict_io;
pub mod tags;
pub mod transport;
mod viewer;
