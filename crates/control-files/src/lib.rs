//! Markdown control files to declarations and directives, with line and column in every error.
