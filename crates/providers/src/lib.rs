//! What plans goals and does tasks.
//!
//! There is one provider so far, [`offline`], which asks no model. Model-backed
//! ones will stand beside it; the trait they share comes with the second of them.

pub mod offline;
