//! The systemg client.
