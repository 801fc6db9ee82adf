use std::collections::BTreeSet;

use super::*;
use crate::{Call, NetworkCall, Plugin, result::Interface};

/// What the node holds.
#[derive(Debug, Default)]
pub struct World {
    pub made: BTreeSet<String>,
    /// Names to make (or to remove) with the next flush.
    pub put_off: Vec<(bool, String)>,
    /// How many names flushes have made.
    pub flushed: usize,
    /// What was called, as `VERB type history`.
    pub log: Vec<String>,
    /// How many flushes had something to do.
    pub flushes: usize,
    /// The plugins of type `stubborn` cannot be deleted.
    pub stubborn: bool,
    /// Flushes fail.
    pub no_flush: bool,
    /// The interfaces of the last result that a DEL was given.
    pub prev_names: Vec<String>,
}

impl Node for World {
    fn flush(&mut self) -> Result<()> {
        if self.no_flush {
            return Err(Error::internal("the transaction was refused"));
        }
        self.flushes += usize::from(!self.put_off.is_empty());
        for (make, name) in std::mem::take(&mut self.put_off) {
            if make {
                self.flushed += 1;
                self.made.insert(name);
            } else {
                self.made.remove(&name);
            }
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.put_off.clear();
    }
}

/// A plugin that behaves as its type says.
pub struct Fake(&'static str);

pub const FAKES: &[&dyn Plugin<World>] = &[
    &Fake("link"),
    &Fake("addr"),
    &Fake("ports"),
    &Fake("stubborn"),
    &Fake("fails"),
    &Fake("panics"),
    &Fake("modern"),
    &Fake("forgets"),
    &Fake("within"),
];

impl Plugin<World> for Fake {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn oldest_version(&self) -> crate::Version {
        if self.0 == "modern" { crate::Version::LATEST } else { crate::Version::V0_1_0 }
    }

    fn runs_chains(&self) -> bool {
        self.0 == "within"
    }

    fn add(&self, call: &Call<'_, World>, world: &mut World) -> Result<CniResult> {
        world.log.push(format!("ADD {}", self.0));
        let name = format!("{} {}", self.0, call.attachment);
        match self.0 {
            "ports" => world.put_off.push((true, name)),
            "fails" => return Err(Error::new(Code::TryAgain, "no address is free")),
            "panics" => {
                world.made.insert(name);
                panic!("an assumption did not hold");
            }
            _ => drop(world.made.insert(name)),
        }
        let mut result = call.prev_result.cloned().unwrap_or_default();
        if self.0 == "forgets" {
            result.interfaces.clear();
        }
        result.interfaces.push(Interface { name: self.0.to_owned(), ..Default::default() });
        Ok(result)
    }

    fn del(&self, call: &Call<'_, World>, world: &mut World) -> Result<()> {
        let history = call.history;
        world.log.push(format!("DEL {} {history:?}", self.0));
        let interfaces = call.prev_result.map(|result| &result.interfaces[..]).unwrap_or_default();
        world.prev_names = interfaces.iter().map(|interface| interface.name.clone()).collect();
        if self.0 == "stubborn" && world.stubborn {
            return Err(Error::internal("device is busy"));
        }
        if self.0 == "within" {
            // As the end of a chain of its own.
            world.flush().inspect_err(|_| world.discard())?;
        }
        let name = format!("{} {}", self.0, call.attachment);
        if self.0 == "ports" {
            world.put_off.push((false, name));
        } else {
            world.made.remove(&name);
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_, World>, world: &mut World) -> Result<()> {
        world.log.push(format!("CHECK {}", self.0));
        if world.made.contains(&format!("{} {}", self.0, call.attachment)) {
            Ok(())
        } else {
            Err(Error::internal("is missing"))
        }
    }

    fn repair(&self, call: &Call<'_, World>, world: &mut World) -> Result<()> {
        world.log.push(format!("REPAIR {}", self.0));
        if self.0 == "stubborn" && world.stubborn {
            return Err(Error::internal("device is busy"));
        }
        let name = format!("{} {}", self.0, call.attachment);
        match self.0 {
            "ports" => world.put_off.push((true, name)),
            _ => drop(world.made.insert(name)),
        }
        Ok(())
    }

    fn gc(&self, call: &NetworkCall<'_, World>, world: &mut World) -> Result<()> {
        world.log.push(format!("GC {} {}", self.0, call.valid.len()));
        Ok(())
    }

    fn status(&self, _: &NetworkCall<'_, World>, world: &mut World) -> Result<()> {
        world.log.push(format!("STATUS {}", self.0));
        match self.0 {
            "fails" => Err(Error::new(Code::NotAvailable, "no address is free")),
            _ => Ok(()),
        }
    }
}
