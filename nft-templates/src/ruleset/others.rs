//! What of others' rulesets is read and taken away.

use super::{ATTEMPTS, Ruleset, commit::rejected};
use crate::{
    error::Error,
    netlink::Outcome,
    others::{Others, Removal},
};

impl Ruleset {
    /// Reads what others have.
    ///
    /// # Errors
    ///
    /// Those of [`Others`].
    pub fn others(&mut self) -> Others<'_> {
        Others { connection: &mut self.connection }
    }

    /// Takes away what `find` says of others' rules and chains: all of it, or nothing. It is asked again where someone
    /// changed the ruleset after it looked. Returns how many rules and chains that were.
    ///
    /// # Errors
    ///
    /// Those of `find`; [`Error::Rejected`] and the like for what the kernel refuses; [`Error::Busy`] when others left no
    /// gap.
    pub fn remove_of_others(
        &mut self,
        mut find: impl FnMut(&mut Others<'_>) -> Result<Removal, Error>,
    ) -> Result<usize, Error> {
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let requests = find(&mut ruleset.others())?.requests();
                if !requests.is_empty() {
                    ruleset.forget();
                }
                match ruleset.connection.batch(Some(generation), &requests)? {
                    Outcome::Done => return Ok(requests.len()),
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => return Err(rejected(&requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }
}
