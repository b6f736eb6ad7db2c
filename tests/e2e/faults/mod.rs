//! Faults that need something special of the machine: clocks that jump, disks that are
//! full, pids that are given again, links that are bad. Where that cannot be had the test says `skipped:`,
//! or fails with `ORCH_TEST_REQUIRE_ALL=1`, as in CI.

mod apart;
mod clock;
mod disk;
mod links;
mod pids;

/// Says why the test is skipped.
///
/// # Panics
/// Where nothing may be skipped.
#[track_caller]
fn skip(why: &str) {
    let all = std::env::var_os("ORCH_TEST_REQUIRE_ALL").is_some_and(|all| all == "1");
    assert!(!all, "skipped: {why}");
    println!("skipped: {why}");
}
