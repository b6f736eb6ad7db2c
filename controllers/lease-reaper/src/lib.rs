//! Leases and their living holders.
