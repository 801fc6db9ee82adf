//! The file by which the cluster network's software says that it is ready (`readinessindicatorfile`).

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use chain::{Code, Error, Result};

use super::conf::Conf;

/// How long ADD, GC and STATUS wait for the file, as Multus does.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often it is looked for. (Its folder may not be there yet either, so there may be nothing to watch.)
const INTERVAL: Duration = Duration::from_millis(100);

impl Conf {
    /// Waits until the cluster network is ready, where the configuration names a file that says so. DEL does not: what is to
    /// be removed is on record.
    ///
    /// Errors (11): it is not ready after 45 seconds.
    pub fn wait_until_ready(&self) -> Result<()> {
        match &self.readiness_indicator_file {
            Some(file) => {
                let _step = tracing::debug_span!("wait for readinessindicatorfile").entered();
                wait(file, PATIENCE)
            }
            None => Ok(()),
        }
    }
}

fn wait(file: &Path, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let why = match file.try_exists() {
            Ok(true) => return Ok(()),
            Ok(false) => "is not there".to_owned(),
            Err(error) => format!("cannot be looked for: {error}"),
        };
        if begun.elapsed() >= patience {
            return Err(Error::new(
                Code::TryAgain,
                format!(
                    "the cluster network is not ready: readinessindicatorfile {} {why} after {} s; see to the software that \
                     writes it, or remove the key",
                    file.display(),
                    patience.as_secs()
                ),
            ));
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!(
                "waiting for the cluster network: readinessindicatorfile {} {why}",
                file.display()
            );
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::fs;

    use super::*;

    #[test]
    fn it_is_waited_for_also_where_its_folder_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("folder/ready");
        let waiting = {
            let file = file.clone();
            thread::spawn(move || wait(&file, Duration::from_secs(60)))
        };
        fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(!waiting.is_finished());
        fs::write(&file, "").unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(()));
        assert_eq!(wait(&file, Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_wait_that_is_in_vain_ends_and_names_the_file() {
        for file in ["/nonexistent/ready", "/proc/version/ready"] {
            let error = wait(Path::new(file), Duration::ZERO).unwrap_err();
            assert_eq!(error.code, Code::TryAgain);
            assert!(error.msg.contains("not ready") && error.msg.contains(file), "{error}");
        }
    }
}
