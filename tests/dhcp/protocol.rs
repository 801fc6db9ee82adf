//! The protocol between plugin and daemon, by a client that does what no plugin does.

use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;

use delegates::ipam::dhcp::gob::{Decoder, Encoder, Type, Value};
use delegates::ipam::dhcp::{result, rpc};
use serde_json::json;
use testnode::{Attachment, Call, Container, Node, Plugins, links, until};

use crate::lan::{Daemon, Lan, list, state};
use crate::{CATENA, PATIENCE, SOCKET};

const REQUEST: Type =
    Type::Struct("Request", &[("ServiceMethod", Type::String), ("Seq", Type::Uint)]);
const ARGS: Type = Type::Struct(
    "Args",
    &[
        ("ContainerID", Type::String),
        ("Netns", Type::String),
        ("IfName", Type::String),
        ("StdinData", Type::Bytes),
    ],
);

/// A connection whose calls need not wait for each other.
pub struct Client {
    stream: UnixStream,
    encoder: Encoder,
    answers: Decoder<UnixStream>,
}

fn fields(all: Vec<(&str, Value)>) -> Value {
    Value::Struct(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

impl Client {
    pub fn connect() -> Self {
        let mut stream = UnixStream::connect(SOCKET).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"CONNECT /_goRPC_ HTTP/1.0\n\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.0 200 Connected to Go RPC\r\n"));
        let answers = Decoder::new(stream.try_clone().unwrap());
        Self { stream, encoder: Encoder::default(), answers }
    }

    pub fn begin(&mut self, number: u64, method: &str, pod: &Container) {
        self.begin_by(number, method, pod, pod.path());
    }

    /// By another path to the namespace.
    fn begin_by(&mut self, number: u64, method: &str, pod: &Container, netns: &Path) {
        let ipam = list()["plugins"][0]["ipam"].clone();
        self.begin_with(number, method, pod, netns, &json!({ "ipam": ipam }));
    }

    /// With these members of the configuration.
    fn begin_with(
        &mut self,
        number: u64,
        method: &str,
        pod: &Container,
        netns: &Path,
        conf: &serde_json::Value,
    ) {
        let mut conf = conf.clone();
        conf["name"] = json!("leased");
        let conf = conf.to_string();
        let args = fields(vec![
            ("ContainerID", text(pod.name())),
            ("Netns", text(netns.to_str().unwrap())),
            ("IfName", text("eth0")),
            ("StdinData", Value::Bytes(conf.into_bytes())),
        ]);
        let head = fields(vec![("ServiceMethod", text(method)), ("Seq", Value::Uint(number))]);
        let mut out = Vec::new();
        self.encoder.encode(&mut out, &REQUEST, &head).unwrap();
        self.encoder.encode(&mut out, &ARGS, &args).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    /// The next answer: its number, and what it says.
    pub fn answer(&mut self) -> io::Result<(u64, Result<Value, String>)> {
        let head = self.answers.decode()?;
        let body = self.answers.decode()?;
        let error = head.text("Error");
        let said = if error.is_empty() { Ok(body) } else { Err(error.to_owned()) };
        Ok((head.number("Seq"), said))
    }
}

/// A container whose interface is on the bridge by the node's interface `name`, as bridge has made it when it asks for a lease.
pub fn pod(node: &Node, name: &str) -> Container {
    let pod = node.container("pod");
    node.ip(&format!(
        "link add {name} type veth peer name eth0 netns pod\nlink set {name} master cni1 up\n"
    ));
    pod
}

#[test]
fn calls_of_one_connection_do_not_wait_for_each_other() {
    let node = Node::new();
    // A bridge without a server.
    node.ip("link add cni1 type bridge\nlink set cni1 up\n");
    let _daemon = Daemon::catenas(&node, &["-timeout", "1s", "-resendtimeout", "2s"]);
    let pod = pod(&node, "veth1");
    let mut client = Client::connect();
    client.begin(7, rpc::ALLOCATE, &pod);
    client.begin(8, "DHCP.Other", &pod);
    let (number, said) = client.answer().unwrap();
    assert_eq!((number, said.unwrap_err()), (8, "rpc: can't find method DHCP.Other".to_owned()));
    let (number, said) = client.answer().unwrap();
    assert!(said.unwrap_err().contains("no DHCP server answers"));
    assert_eq!(number, 7);
    // What is none does not concern others.
    client.begin(9, rpc::RELEASE, &pod);
    let (number, said) = client.answer().unwrap();
    assert_eq!((number, said), (9, Ok(Value::Struct(vec![]))));
    let mut wrong = Client::connect();
    wrong.stream.write_all(&[0xf8, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap();
    assert!(wrong.answer().is_err());
    client.begin(10, rpc::RELEASE, &pod);
    assert_eq!(client.answer().unwrap().0, 10);
}

#[test]
fn two_calls_for_one_attachment_have_one_lease() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    let mut client = Client::connect();
    let mut other = Client::connect();
    client.begin(1, rpc::ALLOCATE, &pod);
    other.begin(1, rpc::ALLOCATE, &pod);
    client.begin(2, rpc::ALLOCATE, &pod);
    let all = [client.answer(), other.answer(), client.answer()];
    let leased = all.map(|answer| result::of(&answer.unwrap().1.unwrap()).unwrap());
    assert_eq!(leased[0], leased[1]);
    assert_eq!(leased[0], leased[2]);
    assert_eq!(lan.server.granted(&leased[0].ips[0].address.addr().to_string()), 1);
    // The address is the plugin's to set.
    assert_eq!(state(&pod, "eth0").0.len(), 0);
}

#[test]
fn a_lease_that_nobody_waits_for_any_more_is_given_back() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    lan.server.stop();
    let mut one = Client::connect();
    let mut two = Client::connect();
    one.begin(1, rpc::ALLOCATE, &pod);
    daemon.await_log("a lease is asked for");
    two.begin(1, rpc::ALLOCATE, &pod);
    two.begin(2, "DHCP.Other", &pod);
    assert_eq!(two.answer().unwrap().0, 2, "the first call is at work by now");
    // Somebody waits still.
    drop(one);
    lan.server.resume();
    let leased = result::of(&two.answer().unwrap().1.unwrap()).unwrap();
    let address = leased.ips[0].address.addr().to_string();
    // Who has the lease may hang up.
    drop(two);
    let mut three = Client::connect();
    three.begin(1, rpc::ALLOCATE, &pod);
    assert_eq!(result::of(&three.answer().unwrap().1.unwrap()).unwrap(), leased);
    three.begin(2, rpc::RELEASE, &pod);
    assert_eq!(three.answer().unwrap().0, 2);
    lan.await_released(&address);
    lan.server.stop();
    three.begin(3, rpc::ALLOCATE, &pod);
    until("it is asked for again", PATIENCE, || {
        (daemon.log().matches("a lease is asked for").count() == 2).then_some(())
    });
    drop(three);
    daemon.await_log("whoever asked for the lease is gone");
}

#[test]
fn a_container_that_comes_again_in_another_namespace_has_a_lease_of_its_own() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let mut client = Client::connect();
    let first = pod(&node, "veth1");
    client.begin(1, rpc::ALLOCATE, &first);
    let leased = result::of(&client.answer().unwrap().1.unwrap()).unwrap();
    // At once, and with the same id: nobody has seen that the first one is gone.
    first.delete();
    let second = pod(&node, "veth2");
    client.begin(2, rpc::ALLOCATE, &second);
    let again = result::of(&client.answer().unwrap().1.unwrap()).unwrap();
    assert_eq!(lan.server.released(&leased.ips[0].address.addr().to_string()), 1);
    client.begin(3, rpc::RELEASE, &second);
    assert_eq!(client.answer().unwrap().0, 3);
    until("both are given back", PATIENCE, || {
        (lan.server.log().matches("DHCPRELEASE(eth0)").count() == 2).then_some(())
    });
    assert_eq!(again.ips.len(), 1);
}

#[test]
fn a_namespace_is_the_same_by_whatever_path() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    let other = node.fresh_path("netns");
    symlink(pod.path(), &other).unwrap();
    let mut client = Client::connect();
    client.begin(1, rpc::ALLOCATE, &pod);
    let leased = result::of(&client.answer().unwrap().1.unwrap()).unwrap();
    client.begin_by(2, rpc::ALLOCATE, &pod, &other);
    assert_eq!(result::of(&client.answer().unwrap().1.unwrap()).unwrap(), leased);
    assert_eq!(lan.server.log().matches("DHCPRELEASE(eth0)").count(), 0);
}

/// The lease that an ADD with these members of the configuration has; CHECK asks by the same method.
fn leased(client: &mut Client, pod: &Container, conf: &serde_json::Value) -> chain::CniResult {
    client.begin_with(1, rpc::ALLOCATE, pod, pod.path(), conf);
    result::of(&client.answer().unwrap().1.unwrap()).unwrap()
}

#[test]
fn an_add_with_another_configuration_has_a_lease_by_it_and_check_changes_nothing() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    let mut client = Client::connect();
    let conf = |priority: u32| json!({ "ipam": { "type": "dhcp", "priority": priority } });
    let given_back = || lan.server.log().matches("DHCPRELEASE(eth0)").count();
    let first = leased(&mut client, &pod, &conf(70));
    let priorities =
        |of: &chain::CniResult| of.routes.iter().map(|route| route.priority).collect::<Vec<_>>();
    assert_eq!(priorities(&first), [Some(70); 2]);
    assert_eq!(leased(&mut client, &pod, &conf(70)), first);
    let mut check = conf(90);
    check["prevResult"] = json!({ "cniVersion": "1.1.0" });
    assert_eq!(leased(&mut client, &pod, &check), first);
    assert_eq!(given_back(), 0);
    let second = leased(&mut client, &pod, &conf(90));
    assert_eq!(priorities(&second), [Some(90); 2]);
    until("the first lease is given back", PATIENCE, || (given_back() == 1).then_some(()));
    assert_eq!(lan.server.leased(), 1);
}

#[test]
fn an_add_for_an_interface_that_was_made_anew_has_a_lease_of_its_own() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    let mut client = Client::connect();
    let conf = json!({ "ipam": { "type": "dhcp" } });
    leased(&mut client, &pod, &conf);
    node.ip("link del veth1\nlink add veth2 type veth peer name eth0 netns pod\nlink set veth2 master cni1 up\n");
    let again = leased(&mut client, &pod, &conf);
    assert_eq!(lan.server.log().matches("DHCPRELEASE(eth0)").count(), 1);
    let record =
        std::fs::read_dir("/var/lib/catena/dhcp/run-cni-dhcp.sock").unwrap().next().unwrap();
    let record = std::fs::read_to_string(record.unwrap().path()).unwrap();
    let mac = pod.json(["ip", "-json", "link", "show", "eth0"])[0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(record.contains(&mac), "{mac} is not in {record}");
    assert_eq!((again.ips.len(), lan.server.leased()), (1, 1));
}

/// Runtimes need not say the same in CHECK as in ADD.
#[test]
fn the_plugins_check_with_other_arguments_leaves_the_lease_alone() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = pod(&node, "veth1");
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["dhcp"])]);
    let call = |verb: &str, args: &str, more: serde_json::Value| {
        let ipam = json!({ "type": "dhcp" });
        let mut conf =
            json!({ "cniVersion": "1.1.0", "name": "leased", "type": "bridge", "ipam": ipam });
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let attachment = Attachment::new(&pod).args(args);
        plugins.call("dhcp", &Call::of(verb, &attachment), &conf.to_string())
    };
    let result = call("ADD", "IgnoreUnknown=1;A=1", json!({})).result();
    call("CHECK", "IgnoreUnknown=1", json!({ "prevResult": result })).success();
    assert!(!daemon.log().contains("given back"), "{}", daemon.log());
    assert_eq!(lan.server.leased(), 1);
}
