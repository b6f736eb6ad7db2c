//! The program `orch`; see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch::main(std::env::args_os().collect())
}
