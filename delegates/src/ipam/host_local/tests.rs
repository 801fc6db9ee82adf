//! host-local on directories of its own, with the reference plugin beside it.

mod beside_the_reference;
mod crashes;
mod leases;
mod properties;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use chain::{
    Attachment, Call, CniArgs, CniResult, Dirs, History, NetworkCall, PluginConf, Registry, Result,
    Runner, ValidAttachment,
};
use serde_json::{Value, json};

/// What host-local needs of a node: directories.
struct Disk {
    root: tempfile::TempDir,
    boot: u32,
}

struct NoNode;

impl chain::Node for NoNode {
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn discard(&mut self) {}
}

impl Disk {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), boot: 0 }
    }

    fn dirs(&self) -> Dirs {
        let root = self.root.path();
        Dirs {
            state: root.join("state"),
            run: root.join(format!("run{}", self.boot)),
            ..Dirs::default()
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.root.path().join("networks")
    }

    /// The lease files of network "web", with their content.
    fn leases(&self) -> BTreeMap<String, String> {
        let Ok(files) = fs::read_dir(self.data_dir().join("web")) else { return BTreeMap::new() };
        files
            .map(|file| file.unwrap())
            .filter(|file| file.file_name().to_str().unwrap().parse::<IpAddr>().is_ok())
            .map(|file| {
                let text = fs::read_to_string(file.path()).unwrap();
                (file.file_name().into_string().unwrap(), text)
            })
            .collect()
    }

    fn lease(&self, address: &str) -> PathBuf {
        self.data_dir().join("web").join(address)
    }

    /// Who has which address, `id/ifname`.
    fn holders(&self) -> Vec<String> {
        let text = |(a, owner): (String, String)| format!("{a} {}", owner.replace("\r\n", "/"));
        self.leases().into_iter().map(text).collect()
    }

    /// The files of the index.
    fn index(&self) -> Vec<String> {
        let leases = self.root.path().join("state/leases");
        let dir = fs::read_dir(leases).unwrap().next().unwrap().unwrap().path();
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    fn index_file(&self, name: &str) -> PathBuf {
        let leases = self.root.path().join("state/leases");
        fs::read_dir(leases).unwrap().next().unwrap().unwrap().path().join(name)
    }

    /// As if the node had been restarted: another boot.
    fn reboot(&mut self) {
        self.boot += 1;
    }

    fn conf(&self, ipam: &Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": "web", "type": "bridge",
            "ipam": {"type": "host-local", "dataDir": self.data_dir()}
        });
        for (key, value) in ipam.as_object().unwrap() {
            conf["ipam"][key] = value.clone();
        }
        conf
    }

    fn run<T>(
        &self,
        conf: Value,
        id: &str,
        args: &str,
        prev_result: Option<&CniResult>,
        verb: impl FnOnce(&Call<'_, NoNode>, &Dirs) -> Result<T>,
    ) -> Result<T> {
        let Value::Object(conf) = conf else { unreachable!() };
        let attachment = Attachment {
            network: "web".into(),
            container_id: id.into(),
            ifname: "eth0".into(),
            netns: None,
            args: CniArgs::parse(args)?,
        };
        let registry = Registry::new(&[]);
        let call = Call {
            attachment: &attachment,
            conf: &PluginConf::from_object(conf)?,
            prev_result,
            runner: &Runner::<NoNode>::new(&registry, vec![]),
            history: History::Unknown,
        };
        verb(&call, &self.dirs())
    }

    fn add(&self, ipam: &Value, id: &str) -> Result<Vec<String>> {
        self.add_with(ipam, id, "")
    }

    fn add_with(&self, ipam: &Value, id: &str, args: &str) -> Result<Vec<String>> {
        let result = self.run(self.conf(ipam), id, args, None, super::add)?;
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn del(&self, id: &str) -> Result<()> {
        self.run(self.conf(&json!({})), id, "", None, super::del)
    }

    fn check(&self, ipam: &Value, id: &str, ips: &[&str]) -> Result<()> {
        let ips: Vec<_> = ips.iter().map(|ip| json!({"address": ip})).collect();
        let result = serde_json::from_value(json!({"ips": ips})).unwrap();
        self.run(self.conf(ipam), id, "", Some(&result), super::check)
    }

    fn network<T>(
        &self,
        ipam: &Value,
        valid: &[&str],
        verb: impl FnOnce(&NetworkCall<'_, NoNode>, &Dirs) -> Result<T>,
    ) -> Result<T> {
        let Value::Object(conf) = self.conf(ipam) else { unreachable!() };
        let valid: Vec<_> = valid
            .iter()
            .map(|id| ValidAttachment { container_id: (*id).into(), ifname: "eth0".into() })
            .collect();
        let registry = Registry::new(&[]);
        let call = NetworkCall {
            conf: &PluginConf::from_object(conf)?,
            valid: &valid,
            runner: &Runner::<NoNode>::new(&registry, vec![]),
        };
        verb(&call, &self.dirs())
    }

    fn gc(&self, valid: &[&str]) -> Result<()> {
        self.network(&json!({}), valid, super::gc)
    }

    fn status(&self, ipam: &Value) -> Result<()> {
        self.network(ipam, &[], super::status)
    }

    /// A verb of the reference plugin on the same directory.
    fn reference(&self, command: &str, ipam: &Value, id: &str, args: &str) -> Result<Vec<String>> {
        reference(command, &self.conf(ipam), id, args)
    }
}

/// A verb of Debian's host-local; the addresses of its result.
fn reference(command: &str, conf: &Value, id: &str, args: &str) -> Result<Vec<String>> {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut child = Command::new("/usr/lib/cni/host-local")
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/proc/self/ns/none"),
            ("CNI_PATH", "/usr/lib/cni"),
            ("CNI_ARGS", args),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Debian's containernetworking-plugins are installed");
    child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(chain::Error::from_json(&output.stdout).unwrap());
    }
    if output.stdout.is_empty() {
        return Ok(Vec::new());
    }
    let result: CniResult = serde_json::from_slice(&output.stdout).unwrap();
    Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
}

fn v4(subnet: &str) -> Value {
    json!({"ranges": [[{"subnet": subnet}]]})
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().msg
}

fn age(path: &Path) {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}
