//! Nodes of one machine that have nothing but their network namespace and the folders that they are told for themselves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testnode::{Background, Netns, Output, Run, until};

use crate::machines::Machine;
use crate::{CATENA, PATIENCE};

/// A runtime on a node, as one that was told its folders: in its environment, and by its daemon's flags.
pub struct Runtime<'m> {
    machine: &'m Machine<'m>,
    dir: PathBuf,
    results: RefCell<Vec<(String, Value)>>,
}

impl<'m> Runtime<'m> {
    /// One whose folders are below `dir`, with the plugins that `binary` installs.
    pub fn new(machine: &'m Machine<'m>, dir: PathBuf, binary: &Path) -> Self {
        let this = Self::at(machine, dir);
        this.install(binary);
        this
    }

    /// The one whose folders are below `dir`, for another thread.
    pub fn at(machine: &'m Machine<'m>, dir: PathBuf) -> Self {
        Self { machine, dir, results: RefCell::default() }
    }

    /// One of its folders: `bin`, `net.d`, `run`, `state`.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn cmd(&self, binary: &Path) -> Run {
        self.machine.netns.cmd([binary])
    }

    fn with_folders(&self, run: Run) -> Run {
        run.env("CATENA_RUN_DIR", self.folder("run")).env("CATENA_STATE_DIR", self.folder("state"))
    }

    /// Installs a version, over another one.
    pub fn install(&self, binary: &Path) {
        self.cmd(binary)
            .args(["install", "--bin-dir"])
            .args([self.folder("bin")])
            .output()
            .success();
    }

    /// A version's daemon, which gives the node's pods their network.
    pub fn daemon(&self, binary: &Path) -> Background {
        let folders = [("--run-dir", "run"), ("--state-dir", "state"), ("--conf-dir", "net.d")];
        let folders = folders.map(|(flag, name)| [PathBuf::from(flag), self.folder(name)]);
        let run = self.cmd(binary).args(["daemon", "--pod-network", "--write-conf"]);
        let run = run.args(folders.as_flattened());
        self.machine.daemon_by(run, &self.folder("bin"), &[])
    }

    /// The tool, in these folders.
    pub fn tool(&self, args: &[&str]) -> Output {
        self.with_folders(self.cmd(Path::new(CATENA))).args(args).output()
    }

    /// A page of its daemon; `None` where none serves.
    pub fn page(&self, name: &str) -> Option<String> {
        let socket = self.folder("run/health.sock").display().to_string();
        let url = format!("http://node/{name}");
        let curl = ["curl", "--silent", "--noproxy", "*", "--unix-socket", &socket, &url];
        let page = self.machine.netns.try_run(curl);
        page.is_success().then_some(page.stdout)
    }

    /// Waits until its daemon takes calls, and the runtime is led to it.
    pub fn await_served(&self) {
        until("the daemon serves", PATIENCE, || {
            (self.page("readyz")? == "ok\n").then_some(())?;
            self.folder("net.d/10-catena.conflist").exists().then_some(())?;
            self.folder("net.d/00-catena.conflist").exists().then_some(())
        });
    }

    /// What a call for a pod answers, of the plugin of the first network in the folder.
    pub fn call(&self, verb: &str, pod: &Netns) -> Output {
        let text = fs::read(self.folder("net.d/00-catena.conflist")).unwrap();
        let list: Value = serde_json::from_slice(&text).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = list["name"].clone();
        let known = self.results.borrow();
        if let Some((_, result)) = known.iter().rev().find(|(name, _)| name == pod.name()) {
            conf["prevResult"] = result.clone();
        }
        if verb == "ADD" {
            conf.as_object_mut().unwrap().remove("prevResult");
        }
        let bin = self.folder("bin");
        self.with_folders(self.cmd(&bin.join("catena")))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("id-{}", pod.name()))
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &bin)
            .stdin(conf.to_string())
            .output()
    }

    /// ADD; the pod's address of IPv4.
    #[track_caller]
    pub fn add(&self, pod: &Netns) -> String {
        let result = self.call("ADD", pod).json();
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next();
        let address = address.unwrap().to_owned();
        self.results.borrow_mut().push((pod.name().to_owned(), result));
        address
    }

    /// CHECK and DEL.
    #[track_caller]
    pub fn check_and_del(&self, pod: &Netns) {
        self.call("CHECK", pod).success();
        self.call("DEL", pod).success();
    }

    /// The files in its folders, but for locks and sockets.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        ["net.d", "state"].into_iter().flat_map(|name| files(&self.folder(name))).collect()
    }
}

/// The files below a folder.
pub fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) })
        .collect()
}
