//! Declared agents and their processes.
