//! A list of elements to be added and removed in one go.

use crate::{
    element::{Element, Key},
    owner::Owner,
};

/// Elements to add and to remove, which the kernel takes all together or not at all.
///
/// Removals come before additions: a key that is removed and added in one transaction is replaced.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub(crate) adds: Vec<(Element, Owner)>,
    pub(crate) removes: Vec<(Key, Owner)>,
}

impl Transaction {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an element for `owner` (who does not matter for a shared one).
    pub fn add(&mut self, element: Element, owner: Owner) {
        self.adds.push((element, owner));
    }

    /// Removes the element with this key if it is `owner`'s; its value does not matter. A shared element
    /// is removed whoever asks.
    pub fn remove(&mut self, key: impl Into<Key>, owner: Owner) {
        self.removes.push((key.into(), owner));
    }

    /// Takes back an addition that is to be made for `owner`; false where there is none.
    pub fn retract(&mut self, element: &Element, owner: &Owner) -> bool {
        let before = self.adds.len();
        self.adds.retain(|(added, by)| added != element || by != owner);
        self.adds.len() < before
    }

    /// How many elements it adds and removes.
    pub fn len(&self) -> usize {
        self.adds.len() + self.removes.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }
}

/// An element that is to be added while another owner holds its key.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// What was to be added.
    pub element: Element,
    /// Who holds it, by the comment in the kernel.
    pub holder: Owner,
    /// Who wants it.
    pub wanted_by: Owner,
}

/// What to do about a [`Conflict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The holder is gone: the element changes hands, and the holder's late removal will find that it is
    /// no longer its own.
    TakeOver,
    /// The holder lives: the commit fails with [`crate::Error::Held`], and nothing is changed.
    Refuse,
}

/// What a commit did beside what was asked for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Committed {
    /// Elements that were to be removed and were left, because another owner has them by now.
    pub left: Vec<(Key, Owner)>,
    /// Elements that were taken over, with their former holders.
    pub taken_over: Vec<(Element, Owner)>,
    /// The ruleset was not there (first use, or someone's `nft flush ruleset`) and was installed.
    pub installed: bool,
    /// The ruleset was there in another version and was replaced, with all elements kept.
    pub upgraded: bool,
}

/// An element that is not as it should be.
#[derive(Clone, Debug)]
pub struct Missing {
    /// What should be there.
    pub element: Element,
    /// Whose it should be.
    pub owner: Owner,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an element.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The whole table is gone (someone's `nft flush ruleset`?).
    NoTable,
    /// The table is there, the element is not.
    Absent,
    /// Someone else has it.
    OtherOwner(Owner),
    /// It leads elsewhere.
    OtherValue,
    /// It is there, but these chains of its table are gone or have another number of rules than they were made with
    /// (someone's `nft flush table`?). [`crate::Ruleset::repair`] mends that.
    Damaged(Vec<String>),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let element = &self.element;
        match &self.problem {
            Problem::NoTable => write!(f, "{element}: nf_tables has no table catena"),
            Problem::Absent => write!(f, "{element}: not in the nf_tables ruleset"),
            Problem::OtherOwner(holder) => write!(f, "{element}: held by \"{holder}\""),
            Problem::OtherValue => write!(f, "{element}: leads elsewhere"),
            Problem::Damaged(chains) => write!(f, "{element}: {}", lost_rules(chains)),
        }
    }
}

impl Missing {
    /// What is missing in words. Of a table that is gone or damaged there is one sentence, not one for each element.
    pub fn describe(all: &[Self]) -> Vec<String> {
        let mut texts = Vec::new();
        let gone: Vec<_> = all.iter().filter(|one| one.problem == Problem::NoTable).collect();
        if !gone.is_empty() {
            let elements: Vec<_> = gone.iter().map(|one| one.element.to_string()).collect();
            texts.push(format!("nf_tables has no table catena, and so no {}", elements.join(", ")));
        }
        for one in all.iter().filter(|one| one.problem != Problem::NoTable) {
            let text = match &one.problem {
                Problem::Damaged(chains) => lost_rules(chains),
                _ => one.to_string(),
            };
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}

fn lost_rules(chains: &[String]) -> String {
    match chains {
        [chain] => format!("chain {chain} of the nf_tables table catena has lost rules"),
        _ => format!("chains {} of the nf_tables table catena have lost rules", chains.join(", ")),
    }
}
