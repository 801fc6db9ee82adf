//! `catena install --write-conf` writes the configuration by which a runtime finds Catena, `--watch` keeps it in step, and
//! `catena uninstall` removes it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::conflist;
use testnode::{Background, Catena, Node, Output, PluginOutput, Run, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const PATIENCE: Duration = Duration::from_secs(20);
const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// A node with a folder for networks, and one as pods have it of their service account.
struct Networks<'n> {
    node: &'n Node,
    conf_dir: PathBuf,
    account: PathBuf,
    bin_dir: PathBuf,
}

impl<'n> Networks<'n> {
    fn new(node: &'n Node) -> Self {
        let [conf_dir, account, bin_dir] =
            ["net.d", "account", "bin"].map(|name| node.fresh_path(name));
        fs::create_dir_all(&conf_dir).unwrap();
        let this = Self { node, conf_dir, account, bin_dir };
        this.project("1", "token-1");
        symlink("..data/token", this.account.join("token")).unwrap();
        symlink("..data/ca.crt", this.account.join("ca.crt")).unwrap();
        this
    }

    /// What the kubelet does when it renews a token: a new folder, and the link `..data` to it by one rename.
    fn project(&self, version: &str, token: &str) {
        let folder = self.account.join(format!("..{version}"));
        fs::create_dir_all(&folder).unwrap();
        self.node.write(folder.join("token"), token);
        self.node.write(folder.join("ca.crt"), CA);
        symlink(format!("..{version}"), self.account.join("..data_tmp")).unwrap();
        fs::rename(self.account.join("..data_tmp"), self.account.join("..data")).unwrap();
    }

    /// Puts a file into the folder as CNI software does, by a rename.
    fn put(&self, name: &str, network: &Value) {
        let draft = self.conf_dir.join("draft");
        self.node.write(&draft, &network.to_string());
        fs::rename(draft, self.conf_dir.join(name)).unwrap();
    }

    /// `catena install --write-conf` with these further arguments; `program` executes the binary.
    fn command(&self, program: &[&str], args: &[&str]) -> Run {
        let dirs = ["--bin-dir", self.bin_dir.to_str().unwrap(), "--conf-dir", self.dir()];
        let account = ["--kubeconfig-from-service-account", self.account.to_str().unwrap()];
        let install = ["install", "--write-conf"];
        self.node
            .cmd(program.iter().chain(&install).chain(&dirs).chain(&account).chain(args))
            .env("KUBERNETES_SERVICE_HOST", "fd00:10::1")
            .env("KUBERNETES_SERVICE_PORT", "443")
            .env("CATENA_LOG", "info")
    }

    fn write(&self, args: &[&str]) -> Output {
        self.command(&[CATENA], args).output()
    }

    fn watch(&self) -> Background {
        self.command(&[CATENA], &["--watch"]).spawn(self.node.fresh_path("watch.log"))
    }

    fn uninstall(&self) -> Output {
        let dirs = ["--bin-dir", self.bin_dir.to_str().unwrap(), "--conf-dir", self.dir()];
        Catena::new(self.node, CATENA).cmd(["uninstall"].iter().chain(&dirs)).output()
    }

    fn dir(&self) -> &str {
        self.conf_dir.to_str().unwrap()
    }

    fn conflist(&self) -> PathBuf {
        self.conf_dir.join("00-catena.conflist")
    }

    /// The conflist, unless it is not there. It is whole at any time.
    fn written(&self) -> Option<Value> {
        let text = fs::read(self.conflist()).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn token(&self) -> Option<String> {
        fs::read_to_string(self.conf_dir.join("catena.d/token")).ok()
    }

    /// The names in the folder and below.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in [self.conf_dir.clone(), self.conf_dir.join("catena.d")] {
            let entries = fs::read_dir(&dir).into_iter().flatten();
            names.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
        }
        names.sort();
        names
    }
}

fn master(capabilities: Value) -> Value {
    conflist("web", &[json!({ "type": "bridge", "capabilities": capabilities })])
}

#[test]
fn it_is_written_for_the_network_that_is_there() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-web.conflist", &master(json!({ "portMappings": true })));
    networks.write(&[]).success();
    let list = networks.written().unwrap();
    let kubeconfig = networks.conf_dir.join("catena.d/catena.kubeconfig");
    let plugin = json!({
        "type": "catena",
        "capabilities": { "portMappings": true },
        "confDir": networks.dir(),
        "kubeconfig": kubeconfig,
    });
    assert_eq!((&list["name"], &list["plugins"]), (&json!("catena"), &json!([plugin])));
    let text = fs::read_to_string(&kubeconfig).unwrap();
    for part in ["https://[fd00:10::1]:443", "tokenFile: token", "certificate-authority: ca.crt"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(networks.token().as_deref(), Some("token-1"));
    let beside = |name| networks.conf_dir.join("catena.d").join(name);
    assert_eq!(fs::read_to_string(beside("ca.crt")).unwrap(), CA);
    for file in [&networks.conflist(), &kubeconfig, &beside("token"), &beside("ca.crt")] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", file.display());
    }
    assert_eq!(fs::metadata(beside("")).unwrap().permissions().mode() & 0o7777, 0o700);
    // What has not changed is not written anew: runtimes would read it again.
    let inode = fs::metadata(networks.conflist()).unwrap().ino();
    networks.write(&[]).success();
    assert_eq!(fs::metadata(networks.conflist()).unwrap().ino(), inode);
}

#[test]
fn without_a_network_nothing_is_written_and_nothing_taken_away() {
    let node = Node::new();
    let networks = Networks::new(&node);
    let refused = PluginOutput::from(networks.write(&[]));
    assert_eq!(refused.error_code(), 11);
    assert!(refused.error_text().contains(networks.dir()), "{refused}");
    assert_eq!(networks.names(), Vec::<String>::new());
    assert!(networks.bin_dir.join("catena").exists(), "the binary is there all the same");

    networks.put("10-web.conflist", &master(json!({})));
    networks.write(&[]).success();
    let (names, list) = (networks.names(), networks.written());
    fs::remove_file(networks.conf_dir.join("10-web.conflist")).unwrap();
    assert_eq!(PluginOutput::from(networks.write(&[])).error_code(), 11);
    // Half written.
    node.write(networks.conf_dir.join("10-web.conflist"), "{");
    assert_eq!(PluginOutput::from(networks.write(&[])).error_code(), 11);
    assert_eq!((networks.names(), networks.written()), (names, list));
}

#[test]
fn a_master_is_named_by_its_file() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-first.conflist", &master(json!({})));
    networks.put("20-web.conflist", &master(json!({ "ips": true })));
    networks.write(&["--master", "20-web.conflist"]).success();
    let plugin = &networks.written().unwrap()["plugins"][0];
    assert_eq!(plugin["clusterNetwork"], json!(networks.conf_dir.join("20-web.conflist")));
    assert_eq!(plugin["capabilities"], json!({ "ips": true }));
    let own = PluginOutput::from(networks.write(&["--master", "00-catena.conflist"]));
    assert_eq!(own.error_code(), 7, "it would carry itself: {own}");
}

#[test]
fn settings_are_the_plugins_and_bad_ones_are_named() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-web.conflist", &master(json!({})));
    let file = node.fresh_path("settings").with_extension("json");
    let write = |text: &str| {
        node.write(&file, text);
        networks.write(&["--settings", file.to_str().unwrap()])
    };
    write(r#"{ "namespaceIsolation": true }"#).success();
    let list = networks.written();
    assert_eq!(list.as_ref().unwrap()["plugins"][0]["namespaceIsolation"], true);
    for (text, code, part) in [
        ("{", 6, "settings"),
        ("[]", 6, "settings"),
        (r#"{ "delegates": [] }"#, 7, "delegates"),
        (r#"{ "type": "bridge" }"#, 7, "type"),
        (r#"{ "namespaceIsolaton": true }"#, 7, "namespaceIsolation"),
        (r#"{ "namespaceIsolation": "yes" }"#, 6, "namespaceIsolation"),
    ] {
        let refused = PluginOutput::from(write(text));
        assert_eq!(refused.error_code(), code, "{text}: {refused}");
        assert!(refused.error_text().contains(part), "{text}: {refused}");
        assert_eq!(networks.written(), list, "{text}");
    }
}

#[test]
fn what_is_somebody_elses_is_neither_overwritten_nor_removed() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-web.conflist", &master(json!({})));
    let theirs = conflist("theirs", &[json!({ "type": "catena", "clusterNetwork": "web" })]);
    networks.put("00-catena.conflist", &theirs);
    let refused = PluginOutput::from(networks.write(&[]));
    assert_eq!(refused.error_code(), 7);
    assert!(refused.error_text().contains("00-catena.conflist"), "{refused}");
    assert_eq!(networks.written(), Some(theirs.clone()));

    // What was written before is removed, but not this.
    let own = networks.conf_dir.join("catena.d");
    node.write(own.join("notes"), "somebody's");
    let said = networks.uninstall();
    assert!(said.is_success() && said.stderr.contains("00-catena.conflist"), "{said}");
    assert_eq!(networks.written(), Some(theirs));
    assert_eq!(networks.names(), ["00-catena.conflist", "10-web.conflist", "catena.d", "notes"]);
    fs::remove_file(own.join("notes")).unwrap();

    // An empty file is what a power cut may leave, and nobody's.
    node.write(networks.conflist(), "");
    networks.write(&[]).success();
    assert_eq!(networks.written().unwrap()["name"], "catena");
}

#[test]
fn uninstall_leaves_what_was_there_before() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-web.conflist", &master(json!({})));
    networks.write(&[]).success();
    assert_eq!(networks.names().len(), 6, "{:?}", networks.names());
    for _ in 0..2 {
        assert_eq!(networks.uninstall().success(), "");
        assert_eq!(networks.names(), ["10-web.conflist"]);
    }
}

#[test]
fn it_is_whole_wherever_its_writing_is_killed() {
    let node = Node::new();
    let networks = Networks::new(&node);
    networks.put("10-web.conflist", &master(json!({ "ips": true })));
    // The debugger's part of the binary would be copied each time.
    let binary = node.fresh_path("catena");
    node.run(["strip".as_ref(), "-o".as_ref(), binary.as_os_str(), CATENA.as_ref()]);
    networks.write(&[]).success();
    let (names, list) = (networks.names(), networks.written());
    let kill = |deed: &str, count: usize| {
        assert_eq!(networks.uninstall().success(), "");
        assert_eq!(networks.names(), ["10-web.conflist"], "{deed} {count}");
        let inject = format!("inject={deed}:signal=SIGKILL:when={count}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let program = [&strace[..], &[binary.to_str().unwrap()]].concat();
        let run = networks.command(&program, &[]).output();
        assert!([0, 137].contains(&run.code()), "{run}");
        if let Some(found) = networks.written() {
            assert_eq!(Some(found), list, "{deed} {count}");
            assert_eq!(networks.names(), names, "{deed} {count}: what it names is there");
        }
        run.code() != 0
    };
    let deeds = ["write", "fsync", "rename", "mkdir", "flock"];
    let kills: usize =
        deeds.iter().map(|deed| (1..).take_while(|count| kill(deed, *count)).count()).sum();
    assert!(kills > 20, "{kills} are too few: what was killed?");
    networks.write(&[]).success();
    assert_eq!((networks.names(), networks.written()), (names, list));
}

#[test]
fn it_is_kept_in_step_with_the_network_and_the_token() {
    let node = Node::new();
    let networks = Networks::new(&node);
    let mut watch = networks.watch();
    until("it says what is missing", PATIENCE, || watch.log().contains("no network").then_some(()));
    watch.assert_alive();
    assert_eq!(networks.written(), None);

    networks.put("10-web.conflist", &master(json!({ "portMappings": true })));
    let capabilities = || Some(networks.written()?["plugins"][0]["capabilities"].clone());
    let becomes = |what: &str, expected: Value| {
        until(what, PATIENCE, || (capabilities()? == expected).then_some(()));
    };
    becomes("the network is there", json!({ "portMappings": true }));
    networks.put("10-web.conflist", &master(json!({ "ips": true, "mac": true })));
    becomes("the network changes", json!({ "ips": true, "mac": true }));
    // Another one comes before it.
    networks.put("05-db.conflist", &master(json!({ "bandwidth": true })));
    becomes("another network comes first", json!({ "bandwidth": true }));

    assert_eq!(networks.token().as_deref(), Some("token-1"));
    // More than once: what is written for one change may be read with the next one's.
    for version in ["2", "3", "4"] {
        let token = format!("token-{version}");
        networks.project(version, &token);
        let renewed = || (networks.token()? == token).then_some(());
        until("the token is renewed", PATIENCE, renewed);
    }

    // The network may go away for a while (its agent restarts); pods are not to get it alone when it comes back.
    let list = networks.written();
    for file in ["05-db.conflist", "10-web.conflist"] {
        fs::remove_file(networks.conf_dir.join(file)).unwrap();
    }
    let logged = || (watch.log().matches("no network").count() == 2).then_some(());
    until("it says that the network is gone", PATIENCE, logged);
    assert_eq!(networks.written(), list);

    // As the kubelet ends a container.
    node.run(["kill", "-TERM", &watch.pid().to_string()]);
    assert_eq!(watch.wait(PATIENCE), 0, "{}", watch.log());
    assert_eq!(networks.written(), list, "it outlives who wrote it");
}
