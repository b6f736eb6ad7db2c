//! A switch for tests of what surrounds a controller: every pass of those that it
//! names panics. Release builds do not have it.

/// Names the controllers, separated by commas.
#[cfg(debug_assertions)]
const PANIC_VARIABLE: &str = "RECONCILE_FAULT_PANIC";

/// Panics where the switch says so.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that a pass may panic is what is to be tested")]
pub(crate) fn inject(controller: &str) {
    let names = std::env::var(PANIC_VARIABLE).unwrap_or_default();
    if names.split(',').any(|name| name == controller) {
        panic!("{PANIC_VARIABLE} names {controller}");
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn inject(_controller: &str) {}
