//! An HTTP proxy on the way.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// Connects one client to whom it asks for; the head of its request.
fn connect_once(proxy: &TcpListener) -> Vec<String> {
    let (client, _) = proxy.accept().unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let server = TcpStream::connect(head[0].split(' ').nth(1).unwrap()).unwrap();
    let (mut upstream, mut answers) = (server.try_clone().unwrap(), server);
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
    thread::spawn(move || io::copy(&mut reader, &mut upstream));
    thread::spawn(move || io::copy(&mut answers, &mut client));
    head
}

#[test]
fn a_kubeconfigs_proxy_leads_to_the_server() {
    let node = Node::new();
    let server = cluster(&node);
    let uid = add_pod(&server, "web", &json!({}));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = server.kubeconfig(&token(&server));
    let mut config: Value = serde_json::from_slice(&fs::read(&kubeconfig).unwrap()).unwrap();
    let url = format!("http://me:s%40cret@{}", proxy.local_addr().unwrap());
    config["clusters"][0]["cluster"]["proxy-url"] = url.into();
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let api = api(&kubeconfig);
    thread::scope(|scope| {
        let proxied = scope.spawn(|| connect_once(&proxy));
        assert_eq!(api.pod(&id("web", None)).unwrap().uid, uid);
        let head = proxied.join().unwrap();
        assert_eq!(head[0], "CONNECT 127.0.0.1:6443 HTTP/1.1");
        // me:s@cret
        let authorization = "proxy-authorization: Basic bWU6c0BjcmV0";
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case(authorization)), "{head:?}");
    });
}
