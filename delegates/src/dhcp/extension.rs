//! More time for a lease.

use std::time::Duration;

use super::v4::To;

/// One request for more time on a lease: where nobody answers, it is for whoever keeps the lease to say when the next one
/// is due. So nothing has to be open between them, which may be hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Who is asked.
    pub to: To,
    /// The number of the exchange. A request that is repeated keeps it (RFC 8415, 16.1).
    pub xid: u32,
    /// How long ago the first of these requests was, as messages say it.
    pub elapsed: Duration,
    /// How long an answer is waited for.
    pub patience: Duration,
}
