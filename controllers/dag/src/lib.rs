//! Declared goals and their DAGs.
