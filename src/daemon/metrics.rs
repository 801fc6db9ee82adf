//! What the daemon counts, for Prometheus.

use std::{sync::Mutex, time::Duration};

use chain::Verb;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use serde_json::Value;

use crate::plugin::Served;

/// The counters. All names begin with `catena_`.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Outcome, Counter>,
    durations: Family<Of, Histogram>,
    /// Calls left to the plugin.
    pub refused: Counter,
    /// Calls taken and not answered yet.
    pub taken: Gauge,
    /// Calls at work.
    pub at_work: Gauge,
    plugged: Family<Plugged, Counter>,
    watch_up: Family<Watch, Gauge>,
    watch_objects: Family<Watch, Gauge>,
    unreached: Gauge,
    /// Rounds of the pods' network.
    pub rounds: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// The verb.
    verb: &'static str,
    /// 0, or the code of the error.
    code: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugged {
    /// `attach` or `detach`.
    action: &'static str,
    /// `done` or `failed`.
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watch {
    /// What is watched.
    resource: &'static str,
}

/// In seconds: an ADD takes milliseconds, a foreign delegate minutes at most.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            refused: Counter::default(),
            taken: Gauge::default(),
            at_work: Gauge::default(),
            plugged: Family::default(),
            watch_up: Family::default(),
            watch_objects: Family::default(),
            unreached: Gauge::default(),
            rounds: Counter::default(),
        };
        let mut registry = Registry::with_prefix("catena");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The daemon", build);
        let requests = metrics.requests.clone();
        registry.register("requests", "Calls served, by verb and code of the error", requests);
        let durations = metrics.durations.clone();
        registry.register("request_duration_seconds", "Time at work on a call", durations);
        let refused = metrics.refused.clone();
        registry.register("requests_refused", "Calls left to the plugin", refused);
        let taken = metrics.taken.clone();
        registry.register("requests_taken", "Calls at work, and those that wait", taken);
        let at_work = metrics.at_work.clone();
        registry.register("requests_at_work", "Calls at work", at_work);
        let plugged = metrics.plugged.clone();
        registry.register(
            "hotplug",
            "Networks attached to and detached from running pods",
            plugged,
        );
        let watch_up = metrics.watch_up.clone();
        registry.register("watch_up", "Whether a watch of the API is answered", watch_up);
        let objects = metrics.watch_objects.clone();
        registry.register(
            "route_problems",
            "What keeps routes to other nodes' pods from being as they should",
            metrics.unreached.clone(),
        );
        let rounds = metrics.rounds.clone();
        registry.register("network_rounds", "How often the pods' network was looked at", rounds);
        registry.register("watch_objects", "Objects that a watch keeps", objects);
        Self { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    /// Counts a call that was answered.
    pub fn served(&self, verb: Verb, served: &Served, took: Duration) {
        let verb = verb.as_str();
        let code = if served.ok { 0 } else { code(served) };
        self.requests.get_or_create(&Outcome { verb, code }).inc();
        self.durations.get_or_create(&Of { verb }).observe(took.as_secs_f64());
    }

    /// Counts an interface of a running pod that came or went, or should have.
    pub fn plugged(&self, action: &'static str, ok: bool) {
        let outcome = if ok { "done" } else { "failed" };
        self.plugged.get_or_create(&Plugged { action, outcome }).inc();
    }

    /// What has become of a watch.
    pub fn watched(&self, resource: &'static str, up: bool, objects: usize) {
        self.watch_up.get_or_create(&Watch { resource }).set(up.into());
        let objects = objects.try_into().unwrap_or(i64::MAX);
        self.watch_objects.get_or_create(&Watch { resource }).set(objects);
    }

    /// How many problems there are with routes to other nodes' pods.
    pub fn unreached(&self, problems: usize) {
        self.unreached.set(problems.try_into().unwrap_or(i64::MAX));
    }

    /// All of them in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}

/// The code of an error object.
fn code(served: &Served) -> u64 {
    let error: Option<Value> = serde_json::from_str(&served.stdout).ok();
    error.and_then(|error| error["code"].as_u64()).unwrap_or(999)
}
