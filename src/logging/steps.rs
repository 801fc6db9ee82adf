//! The steps of a run: the spans of Catena's own crates.
//!
//! What each took goes to the log at level `debug` when it ends, and to who watches (`catena try --trace`). A step is called as
//! its span is, or as the field `step` says; its other fields say what it was about.

use std::{
    cell::RefCell,
    fmt::{self, Write},
    time::{Duration, Instant},
};

use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

thread_local! {
    /// The steps that this thread has begun; `None` where nobody watches.
    static SEEN: RefCell<Option<Vec<Seen>>> = const { RefCell::new(None) };
}

/// A step that was watched.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// How many steps it is a part of.
    pub depth: usize,
    /// What it is called.
    pub name: String,
    /// What it was about: `key=value`, with spaces between; may be empty.
    pub about: String,
    /// How long it took, with the steps within it.
    pub time: Duration,
}

/// Does `work`, and returns the steps that this thread took for it, in the order in which they began. Only those are seen that
/// the filter lets through.
pub fn watch<T>(work: impl FnOnce() -> T) -> (T, Vec<Seen>) {
    SEEN.set(Some(Vec::new()));
    let done = work();
    (done, SEEN.take().unwrap_or_default())
}

/// Whether this span is a step: those of linked crates are none.
pub fn is_step(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && ["catena", "chain", "delegates", "nft_templates"].contains(&own_part(metadata))
}

/// The crate that a span is of.
fn own_part<'m>(metadata: &Metadata<'m>) -> &'m str {
    metadata.target().split("::").next().unwrap_or_default()
}

/// Measures steps.
pub struct Steps;

/// A step that has begun, as it is kept with its span.
struct Begun {
    /// Its name after those of the steps that it is a part of: `ADD/bridge/host-local`.
    path: String,
    depth: usize,
    about: String,
    /// Whether what it is about goes for all steps within it: it is a verb, or not a part of anything.
    is_run: bool,
    /// What the run is about that it is a part of; may be empty.
    run: String,
    /// Where it is among [`SEEN`].
    place: Option<usize>,
    time: Instant,
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Steps {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_step(attributes.metadata()) {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields { name: attributes.metadata().name().into(), about: String::new() };
        attributes.record(&mut fields);
        let Fields { name, about } = fields;
        let within = span.scope().skip(1).find_map(|span| {
            let extensions = span.extensions();
            let Begun { path, depth, about, is_run, run, .. } = extensions.get()?;
            let run = if *is_run { about } else { run };
            Some((format!("{path}/{name}"), depth + 1, run.clone()))
        });
        let (path, depth, run) = within.unwrap_or_else(|| (name.clone(), 0, String::new()));
        let place = SEEN.with_borrow_mut(|seen| {
            let seen = seen.as_mut()?;
            seen.push(Seen { depth, name, about: about.clone(), time: Duration::ZERO });
            Some(seen.len() - 1)
        });
        let is_run = depth == 0 || attributes.metadata().name() == "verb";
        let time = Instant::now();
        span.extensions_mut().insert(Begun { path, depth, about, is_run, run, place, time });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(begun) = span.extensions_mut().remove::<Begun>() else { return };
        let time = begun.time.elapsed();
        SEEN.with_borrow_mut(|seen| {
            let seen = begun.place.and_then(|place| seen.as_mut()?.get_mut(place));
            if let Some(seen) = seen {
                seen.time = time;
            }
        });
        // The path says what it is a part of, so the spans around it are not written once more. What is logged of each crate is
        // chosen by its name.
        match own_part(span.metadata()) {
            "chain" => tracing::debug!(target: "chain", parent: None, "{}", Line(&begun, time)),
            "delegates" => {
                tracing::debug!(target: "delegates", parent: None, "{}", Line(&begun, time));
            }
            _ => tracing::debug!(target: "catena", parent: None, "{}", Line(&begun, time)),
        }
    }
}

/// `step: ADD/bridge/veth 0.31 ms interface=veth1 (network=web container=c1 interface=eth0)`.
struct Line<'s>(&'s Begun, Duration);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Begun { path, about, run, .. }, time) = self;
        write!(f, "step: {path} {:.2} ms", time.as_secs_f64() * 1e3)?;
        if !about.is_empty() {
            write!(f, " {about}")?;
        }
        if run.is_empty() { Ok(()) } else { write!(f, " ({run})") }
    }
}

/// What the fields of a span say.
struct Fields {
    name: String,
    about: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A line stays one.
        self.record_debug(field, &format_args!("{}", value.escape_debug()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "step" {
            self.name = format!("{value:?}");
            return;
        }
        let space = if self.about.is_empty() { "" } else { " " };
        // Writing to memory does not fail.
        _ = write!(self.about, "{space}{}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests;
