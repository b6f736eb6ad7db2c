//! The kit as its users see it, in paused time.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise: that is its report")]

mod bench;
mod passes;
mod resync;
mod spans;
