//! The DAG controller on a real Redis: what is declared becomes a plan, is kept right
//! and comes to its end, whatever planner, people and crashes do meanwhile.

mod bench;
mod planning;
mod scripted;
mod terms;
mod upkeep;
