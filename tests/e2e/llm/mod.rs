//! Goals in prose: the real `claude` and `codex`, which ask a model that a test scripts.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a script answers what its test is about, and obeys for the rest"
)]

mod figures;
mod limits;
mod live;
mod metered;
mod pipeline;
mod review;
mod script;
mod trouble;
