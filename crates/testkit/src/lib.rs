//! Real servers on free ports and waits with deadlines, for tests only.
