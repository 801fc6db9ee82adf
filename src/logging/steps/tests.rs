use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt};

use super::*;

/// What is logged, and the steps that are seen, while `work` runs at this level.
fn run(level: LevelFilter, work: impl FnOnce()) -> (Vec<String>, Vec<Seen>) {
    let log = Log::default();
    let writer = log.clone();
    let lines = fmt::layer().with_writer(move || writer.clone()).without_time().with_ansi(false);
    let subscriber = tracing_subscriber::registry().with(level).with(lines).with(Steps);
    let ((), seen) = tracing::subscriber::with_default(subscriber, || watch(work));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (text.lines().map(str::to_owned).collect(), seen)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn add() {
    let _add = tracing::debug_span!("verb", step = "ADD", network = "web").entered();
    let bridge = tracing::debug_span!("delegate", step = "bridge").entered();
    tracing::debug_span!("veth", interface = "a\nb", count = 2).in_scope(|| ());
    drop(bridge);
    tracing::debug_span!("flush").in_scope(|| ());
}

/// Without the number, which differs.
fn shape(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.parse::<f64>() {
        Ok(_) if word.contains('.') => "N",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_step_has_a_line_when_it_ends_with_the_steps_that_it_is_a_part_of() {
    let (lines, _) = run(LevelFilter::DEBUG, add);
    let lines: Vec<_> = lines.iter().map(|line| shape(line.trim_start())).collect();
    assert_eq!(
        lines,
        [
            r"DEBUG catena: step: ADD/bridge/veth N ms interface=a\nb count=2 (network=web)",
            "DEBUG catena: step: ADD/bridge N ms (network=web)",
            "DEBUG catena: step: ADD/flush N ms (network=web)",
            "DEBUG catena: step: ADD N ms network=web",
        ]
    );
}

#[test]
fn a_step_of_a_call_says_which_network_it_is_of() {
    let (lines, _) = run(LevelFilter::DEBUG, || {
        let _call = tracing::debug_span!("call", step = "multus", container = "c1").entered();
        add();
        tracing::debug_span!("write record").in_scope(|| ());
    });
    let ends = |line: &str, end: &str| assert!(line.ends_with(end), "{line}");
    ends(&lines[0], "count=2 (network=web)");
    assert!(lines[0].contains("step: multus/ADD/bridge/veth "), "{}", lines[0]);
    ends(&lines[3], " ms network=web (container=c1)");
    ends(&lines[4], " ms (container=c1)");
    ends(&lines[5], " ms container=c1");
}

#[test]
fn what_is_watched_comes_in_its_order_and_no_part_takes_longer_than_the_whole() {
    let (_, seen) = run(LevelFilter::DEBUG, add);
    let steps: Vec<_> = seen.iter().map(|step| (step.depth, step.name.as_str())).collect();
    assert_eq!(steps, [(0, "ADD"), (1, "bridge"), (2, "veth"), (1, "flush")]);
    let [add, bridge, veth, flush] = &seen[..] else { unreachable!("there are four") };
    assert!(veth.time <= bridge.time && bridge.time + flush.time <= add.time, "{seen:?}");
    assert!(veth.time > Duration::ZERO, "{seen:?}");
    assert_eq!((add.about.as_str(), flush.about.as_str()), ("network=web", ""));
}

#[test]
fn what_others_measure_is_no_step() {
    let (lines, seen) = run(LevelFilter::DEBUG, || {
        let _others = tracing::debug_span!(target: "hyper::client", "request").entered();
        add();
    });
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(seen[0].depth, 0, "{seen:?}");
}

#[test]
fn above_debug_nothing_is_measured() {
    let evaluated = || -> &str { panic!("a field of a step that nobody sees") };
    let (lines, seen) = run(LevelFilter::INFO, || {
        add();
        tracing::debug_span!("veth", interface = evaluated()).in_scope(|| ());
    });
    assert_eq!((lines, seen), (Vec::<String>::new(), Vec::new()));
}
