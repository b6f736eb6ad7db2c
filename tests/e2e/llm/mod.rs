//! Goals in prose: the real `claude` and `codex`, which ask a model that a test scripts.

mod figures;
mod limits;
mod live;
mod pipeline;
mod review;
mod script;
mod trouble;
