//! The second driver of the core.
