#![allow(clippy::unwrap_used, reason = "test code")]

use std::{collections::BTreeSet, io::Read, process::Command, thread};

use super::*;

fn rotation(max_age: u32, max_backups: u32, compress: bool) -> Rotation {
    Rotation { max_age, max_size: 1, max_backups, compress }
}

/// A log of a thousand bytes.
fn open(path: &Path, rotation: Rotation) -> LogFile {
    LogFile { max_size: 1000, ..LogFile::open(path, rotation).unwrap() }
}

fn line(number: usize) -> String {
    format!("{number:099}\n")
}

fn text(file: &Path) -> String {
    let mut text = String::new();
    if file.extension().is_some_and(|end| end == "gz") {
        flate2::read::GzDecoder::new(File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    } else {
        File::open(file).unwrap().read_to_string(&mut text).unwrap();
    }
    text
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_full_file_is_set_aside_and_no_line_is_lost_or_split() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/multus.log");
    let mut log = open(&path, rotation(0, 0, false));
    (0..25).for_each(|number| log.write_all(line(number).as_bytes()).unwrap());
    let files = files(path.parent().unwrap());
    assert_eq!(files.len(), 3, "{files:?}");
    let sizes: Vec<_> = files.iter().map(|file| text(file).len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    let all: String = files.iter().map(|file| text(file)).collect();
    assert_eq!(all, (0..25).map(line).collect::<String>());
    assert_eq!(log.set_aside().len(), 2);
}

#[test]
fn what_is_set_aside_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multus.log");
    let mut log = open(&path, rotation(0, 0, true));
    (0..11).for_each(|number| log.write_all(line(number).as_bytes()).unwrap());
    let files = files(dir.path());
    let names: Vec<_> =
        files.iter().map(|file| file.extension().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["gz", "log"]);
    assert_eq!(text(files.first().unwrap()), (0..10).map(line).collect::<String>());
    let gzip = Command::new("gzip").arg("-t").arg(files.first().unwrap()).status().unwrap();
    assert!(gzip.success());
}

#[test]
fn what_is_too_many_or_too_old_is_removed_and_nothing_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multus.log");
    let aside = |day: u32, end: &str| {
        dir.path().join(format!("multus-2020-01-{day:02}T00-00-00.000.log{end}"))
    };
    let others = [
        "multus-old.log",
        "other-2020-01-01T00-00-00.000.log",
        "multus-2020-01-01T00-00-00.000.txt",
    ];
    let make = |file: &Path, age: Duration| {
        let file = File::create(file).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    others.iter().for_each(|name| make(&dir.path().join(name), Duration::from_secs(9 * 86_400)));
    for (day, days_old) in [(1, 9), (2, 4), (3, 3)] {
        make(
            &aside(day, if day == 2 { ".gz" } else { "" }),
            Duration::from_secs(days_old * 86_400),
        );
    }
    let mut log = open(&path, rotation(5, 0, false));
    log.clean();
    assert_eq!(
        log.set_aside().into_iter().collect::<BTreeSet<_>>(),
        [aside(2, ".gz"), aside(3, "")].into()
    );
    log.rotation.max_backups = 1;
    log.clean();
    assert_eq!(log.set_aside(), [aside(3, "")]);
    assert!(others.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn a_file_that_a_tool_moved_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multus.log");
    let mut log = open(&path, rotation(0, 0, false));
    log.write_all(b"one\n").unwrap();
    fs::rename(&path, dir.path().join("multus.log.1")).unwrap();
    log.write_all(b"two\n").unwrap();
    fs::remove_file(&path).unwrap();
    log.write_all(b"three\n").unwrap();
    assert_eq!(text(&path), "three\n");
    // Another process has made it anew already.
    fs::rename(&path, dir.path().join("multus.log.2")).unwrap();
    open(&path, rotation(0, 0, false)).write_all(b"another's\n").unwrap();
    log.write_all(b"four\n").unwrap();
    assert_eq!(text(&path), "another's\nfour\n");
}

#[test]
fn a_file_that_another_process_has_set_aside_is_not_set_aside_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multus.log");
    let mut log = open(&path, rotation(0, 0, false));
    let mut other = open(&path, rotation(0, 0, false));
    (0..11).for_each(|number| other.write_all(line(number).as_bytes()).unwrap());
    log.rotate().unwrap();
    log.write_all(line(11).as_bytes()).unwrap();
    assert_eq!(log.set_aside().len(), 1);
    assert_eq!(text(&path), line(10) + &line(11));
}

#[test]
fn many_writers_lose_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multus.log");
    thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let mut log = open(path, rotation(0, 0, false));
                (0..50).for_each(|number| {
                    log.write_all(line(writer * 50 + number).as_bytes()).unwrap()
                });
            });
        }
    });
    let all: String = files(dir.path()).iter().map(|file| text(file)).collect();
    let lines: BTreeSet<_> = all.lines().map(str::to_owned).collect();
    assert_eq!((all.lines().count(), lines.len()), (400, 400));
}

#[test]
fn times_are_written_as_dates() {
    for (seconds, expected) in [
        (0, "1970-01-01T00-00-00.000"),
        (951_782_400, "2000-02-29T00-00-00.000"),
        (1_709_251_199, "2024-02-29T23-59-59.000"),
        (1_795_554_309, "2026-11-24T21-05-09.000"),
        (4_102_444_800, "2100-01-01T00-00-00.000"),
    ] {
        let text = timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(text, expected);
        assert!(is_timestamp(&text));
    }
}
