//! Heartbeat files and control state.
