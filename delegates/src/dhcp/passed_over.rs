//! Answers of servers that are no leases.

use super::Failure;

/// What an exchange has heard that could not be used: why not, of the last one.
#[derive(Debug, Default)]
pub(super) struct PassedOver(Option<String>);

impl PassedOver {
    /// A lease, where it is one. Else the log says why not, once: whoever answers with nonsense may do so without end.
    pub fn usable<L>(&mut self, lease: Result<L, String>) -> Option<L> {
        let why = match lease {
            Ok(lease) => return Some(lease),
            Err(why) => why,
        };
        match &self.0 {
            None => tracing::warn!("DHCP: a server's answer is passed over: {why}"),
            Some(_) => tracing::debug!("DHCP: a server's answer is passed over again: {why}"),
        }
        self.0 = Some(why);
        None
    }

    /// Why there is no lease in the end, where nobody has refused it.
    pub fn failure(&mut self) -> Failure {
        self.0.take().map_or(Failure::Silence, Failure::Unusable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            if *event.metadata().level() == Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn one_warning_is_enough_for_an_exchange() {
        let count = Arc::new(AtomicUsize::new(0));
        tracing::subscriber::with_default(Warnings(count.clone()), || {
            let mut passed_over = PassedOver::default();
            for why in ["one", "two", "three"] {
                assert_eq!(passed_over.usable::<()>(Err(why.to_owned())), None);
            }
            assert_eq!(passed_over.usable(Ok(7)), Some(7));
            assert!(matches!(passed_over.failure(), Failure::Unusable(why) if why == "three"));
            assert!(matches!(passed_over.failure(), Failure::Silence));
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
