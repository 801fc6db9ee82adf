//! `tc`: queueing disciplines and filters.

use super::Net;

/// The traffic control of one namespace.
pub struct Tc<'a>(pub(super) &'a Net);

impl Tc<'_> {
    /// The namespace it acts in.
    pub fn net(&self) -> &Net {
        self.0
    }
}
