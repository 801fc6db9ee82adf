//! Undoing an ADD that fails.

use std::{
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

use chain::Result;

use super::Node;

type Step<'c> = Box<dyn FnOnce(&mut Node) -> Result<()> + 'c>;

/// A node, and how to undo what has been done on it so far: on drop, in reverse order, unless [`Undo::keep`] says that
/// all went well. A return by `?` and a panic undo alike.
pub struct Undo<'n, 'c> {
    node: &'n mut Node,
    steps: Vec<(String, Step<'c>)>,
}

impl<'n, 'c> Undo<'n, 'c> {
    /// Nothing done yet.
    pub fn on(node: &'n mut Node) -> Self {
        Self { node, steps: Vec::new() }
    }

    /// Remembers how to undo what was just done; `what` is for the log.
    pub fn push(
        &mut self,
        what: impl Into<String>,
        step: impl FnOnce(&mut Node) -> Result<()> + 'c,
    ) {
        self.steps.push((what.into(), Box::new(step)));
    }

    /// All went well: nothing is undone.
    pub fn keep(mut self) {
        self.steps.clear();
    }
}

impl Deref for Undo<'_, '_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}

impl DerefMut for Undo<'_, '_> {
    fn deref_mut(&mut self) -> &mut Node {
        self.node
    }
}

impl Drop for Undo<'_, '_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            let node = &mut *self.node;
            // A second panic while the first one unwinds would take the process down, and the other steps with it.
            match catch_unwind(AssertUnwindSafe(|| step(node))) {
                Ok(Ok(())) => tracing::debug!(what, "undone"),
                Ok(Err(error)) => {
                    self.node.left_behind = true;
                    tracing::warn!(what, %error, "cannot be undone");
                }
                Err(_) => {
                    self.node.left_behind = true;
                    tracing::warn!(what, "panicked while being undone");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn run(end: impl FnOnce(Undo<'_, '_>)) -> Vec<&'static str> {
        let done = RefCell::new(Vec::new());
        let mut node = Node::new();
        let mut undo = Undo::on(&mut node);
        for step in ["first", "second"] {
            let done = &done;
            undo.push(step, move |_| {
                done.borrow_mut().push(step);
                Err(chain::Error::internal("goes on all the same"))
            });
        }
        end(undo);
        done.into_inner()
    }

    #[test]
    fn undoes_in_reverse_order_unless_all_went_well() {
        assert_eq!(run(|undo| drop(undo)), ["second", "first"]);
        assert!(run(|undo| undo.keep()).is_empty());
    }

    #[test]
    fn undoes_on_a_panic_even_where_a_step_panics() {
        let undone = run(|mut undo| {
            undo.push("panics", |_| panic!("in undoing"));
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _undo = undo;
                panic!("in the plugin")
            }));
            assert!(unwound.is_err());
        });
        assert_eq!(undone, ["second", "first"]);
    }
}
