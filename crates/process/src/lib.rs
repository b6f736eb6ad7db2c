//! Process identity and children that never outlive their parent.
