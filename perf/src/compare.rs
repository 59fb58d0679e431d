//! Side by side with other stores: what their comparison is made of, and how it is shown.

#[allow(dead_code, reason = "the command that fills it follows")]
pub(crate) mod document;
mod page;
#[cfg(test)]
mod sample_documents;
pub(crate) mod stored;
