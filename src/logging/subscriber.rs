//! What takes spans and events in.

use std::{
    io,
    io::IsTerminal as _,
    sync::{OnceLock, PoisonError, RwLock},
};

use tracing::{
    Event, Metadata, Subscriber, callsite,
    span::{Attributes, Id, Record},
    subscriber::{Interest, set_global_default},
};
use tracing_core::span::Current;
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
};

use super::{
    Console, File,
    steps::{self, Steps},
};

/// What is let through; `None` until logging starts.
static FILTER: RwLock<Option<Filter>> = RwLock::new(None);

/// What is let through to the log and to those who watch steps.
pub(super) struct Filter {
    pub(super) log: Targets,
    /// Whether steps are measured whose lines are not logged.
    pub(super) all_steps: bool,
}

impl Filter {
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        (self.all_steps && steps::is_step(metadata))
            || self.log.would_enable(metadata.target(), metadata.level())
    }
}

/// Takes in what this filter lets through. A second start is no error: the first one's settings stay.
pub(super) fn start(filter: Filter) {
    let mut current = FILTER.write().unwrap_or_else(PoisonError::into_inner);
    if current.is_none() {
        *current = Some(filter);
        drop(current);
        // Whoever was here before stays.
        let _ = set_global_default(Log(OnceLock::new()));
    }
}

/// Changes what is let through from here on.
pub(super) fn change(change: impl FnOnce(&mut Filter)) {
    if let Some(filter) = FILTER.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
        change(filter);
    }
    callsite::rebuild_interest_cache();
}

fn with_filter<T>(read: impl FnOnce(&Filter) -> T) -> Option<T> {
    FILTER.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
}

/// The registry of spans and those who listen to it. They are made for the first span or event that is let through: most
/// processes serve one call, and have nothing to say.
struct Log(OnceLock<Box<dyn Subscriber + Send + Sync>>);

impl Log {
    fn made(&self) -> &(dyn Subscriber + Send + Sync) {
        self.0.get_or_init(|| {
            let stderr = fmt::layer()
                .with_writer(|| Console(io::stderr()))
                .with_ansi(io::stderr().is_terminal())
                .with_target(false);
            let file = fmt::layer().with_writer(|| File).with_ansi(false).with_target(false);
            Box::new(Registry::default().with(stderr).with(file).with(Steps))
        })
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        with_filter(|filter| filter.lets_through(metadata)).unwrap_or_default()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        with_filter(|filter| {
            let hint = Layer::<Registry>::max_level_hint(&filter.log)?;
            Some(if filter.all_steps { hint.max(LevelFilter::DEBUG) } else { hint })
        })?
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.made().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.made().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.made().record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.made().event(event);
    }

    fn enter(&self, span: &Id) {
        self.made().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.made().exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.made().clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.made().try_close(id)
    }

    fn current_span(&self) -> Current {
        self.0.get().map_or_else(Current::none, |made| made.current_span())
    }
}
