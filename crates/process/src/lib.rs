//! Process identity and children that never outlive their parent.
//!
//! A pid alone names nothing: the kernel hands it out again. So this crate
//! names a process by pid *and* start time ([`Identity`]), signals it only
//! through a pidfd whose start time was checked ([`signal`]), learns of its end
//! from the kernel instead of by asking again and again ([`Exit`]), finds
//! processes that nobody lists any more ([`find`], [`find_by_env`]), and runs
//! programs such that neither they nor what they leave behind stays when the
//! caller is done with them ([`Command`]).
//!
//! It knows nothing of agents, tasks or systemg, and is the only place in the
//! project that contains `unsafe` code (`unsafe_calls.rs`, two calls).
//! Linux only: it needs `/proc`, pidfds (5.3) and parent-death signals.

mod capture;
mod child;
mod group;
mod identity;
mod scan;
mod unsafe_calls;
mod watch;

pub use capture::Captured;
pub use child::{Command, Ended, Error, Status};
pub use group::end_marked;
pub use identity::{Identity, signal};
pub use rustix::process::Signal;
pub use scan::{Process, find, find_by_env, with_pid};
pub use watch::Exit;
