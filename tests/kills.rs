//! Killed at any instant, Catena loses nothing and leaves nothing that the next DEL does not remove.
#![allow(clippy::unwrap_used, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::{Catena, Container, Node, Output, Shared, Snapshot, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// What changes anything: the kernel's configuration, or files.
const DEEDS: &str = "sendto,sendmsg,mkdir,rename,link,unlink,write,fsync,flock";
/// Every so many of them is tried.
const STEP: usize = 3;

fn chain() -> Value {
    let mut bridge = bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    conflist("web", &[bridge, portmap(), bandwidth(), snat])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

fn catena(node: &Node) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(8080))
}

/// Runs a verb of the tool that is killed when a thread of it comes to the deed of this number.
fn killed(node: &Node, verb: &str, container: &Container, deed: usize) -> Output {
    let file = node.json_file("web.conflist", &chain());
    let inject = format!("inject={DEEDS}:signal=SIGKILL:when={deed}");
    let (file, netns) = (file.display().to_string(), container.path().display().to_string());
    node.cmd(["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject, CATENA, verb, &file, &netns])
        .env("CAP_ARGS", port_and_rates(8080).to_string())
        .output()
}

/// Whether the process came to its end all the same.
fn survived(output: &Output) -> bool {
    assert!([0, 137].contains(&output.code()), "{output}");
    output.code() == 0
}

#[test]
fn an_add_that_is_killed_is_undone_by_del() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let mut deed = 1;
    while !survived(&killed(&node, "add", &c1, deed)) {
        catena(&node).del(&chain(), &c1);
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
        deed += STEP;
    }
    assert!(deed > 10 * STEP, "{deed} deeds are too few: what was killed?");
    catena(&node).del(&chain(), &c1);
}

#[test]
fn an_add_that_is_killed_is_done_by_the_next_add() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = node.snapshot();
    let mut deed = 2;
    while !survived(&killed(&node, "add", &c1, deed)) {
        // Killed after its last deed it is done.
        if catena(&node).try_check(&chain(), &c1).code() != 0 {
            catena(&node).add(&chain(), &c1);
            catena(&node).check(&chain(), &c1);
        }
        catena(&node).del(&chain(), &c1);
        assert_same(&before, &node.snapshot(), &shared());
        deed += 2 * STEP;
    }
    catena(&node).del(&chain(), &c1);
}

#[test]
fn a_del_that_is_killed_is_done_by_the_next_one() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let mut deed = 1;
    loop {
        catena(&node).add(&chain(), &c1);
        let survived = survived(&killed(&node, "del", &c1, deed));
        catena(&node).del(&chain(), &c1);
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
        if survived {
            break;
        }
        deed += STEP;
    }
    assert!(deed > 3 * STEP, "{deed} deeds are too few: what was killed?");
}
