//! What a proxy does wrong, and what it has seen.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What becomes of a request instead of the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It reaches the server after this time, and is answered as usual.
    Slow(Duration),
    /// It reaches the server when [`Proxy::let_go`](super::Proxy::let_go) says so, and is answered as usual.
    Hold,
    /// It reaches nobody, and is never answered.
    Hang,
    /// It reaches nobody, and its connection is closed.
    Cut,
    /// It reaches the server, and the answer is lost with the connection.
    LoseAnswer,
    /// It reaches nobody, and the answer has this status code, with a `Status` object as the server sends it; for instance
    /// 401, 409, 410, 500.
    Status(u16),
    /// It reaches nobody; the answer is a watch that has one event: the error "too old resource version" (410).
    Expired,
}

/// A request that came to a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The HTTP method, or `WATCH` for a watch.
    pub verb: String,
    /// The path with its query.
    pub path: String,
    /// The token of the client.
    pub token: String,
    /// The status code of the answer; `None` as long as there is none.
    pub status: Option<u16>,
}

/// The faults of a proxy in the order they were asked for, and the requests in the order they came.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: Mutex<Pages>,
    /// Whether those that are held may go on.
    let_go: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Pages {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
}

/// Requests that a fault is for.
#[derive(Debug)]
struct Rule {
    verb: String,
    part: String,
    fault: Fault,
    /// For how many requests yet; `None`: for all.
    left: Option<usize>,
}

impl Book {
    pub(super) fn add_rule(&self, verb: &str, part: &str, fault: Fault, left: Option<usize>) {
        let rule = Rule { verb: verb.to_owned(), part: part.to_owned(), fault, left };
        self.pages().rules.push(rule);
    }

    pub(super) fn let_go(&self) {
        self.let_go.send_replace(true);
    }

    /// Waits until those that are held may go on.
    pub(super) async fn held(&self) {
        // It fails where this book is gone, and it is not.
        let _ = self.let_go.subscribe().wait_for(|let_go| *let_go).await;
    }

    pub(super) fn clear_rules(&self) {
        self.pages().rules.clear();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.pages().seen.clone()
    }

    /// Notes a request; its number, and the fault that is its.
    pub(super) fn note(&self, request: Seen) -> (usize, Option<Fault>) {
        let mut pages = self.pages();
        let rule = pages.rules.iter_mut().find(|rule| {
            let is_verb = rule.verb == "*" || rule.verb == request.verb;
            is_verb && request.path.contains(&rule.part) && rule.left != Some(0)
        });
        let fault = rule.map(|rule| {
            rule.left = rule.left.map(|left| left - 1);
            rule.fault
        });
        pages.seen.push(request);
        (pages.seen.len() - 1, fault)
    }

    pub(super) fn note_status(&self, number: usize, status: u16) {
        if let Some(seen) = self.pages().seen.get_mut(number) {
            seen.status = Some(status);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
