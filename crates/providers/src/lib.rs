//! LLM providers behind one trait.
