//! A proxy between the API server and its clients that makes faults.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::{runtime, select};

use super::api_server::{ADMIN, ApiServer};
use super::client::Client;
use super::faults::{Book, Fault, Seen};
use super::forward::Forward;

/// Stands between the API server and clients that use [`Proxy::kubeconfig`], on a port of the node's loopback, with the
/// server's own certificate. What no fault was asked for passes unchanged, watches as they flow.
///
/// It lives with its API server, also while that is stopped (502 then), and until it's dropped.
#[derive(Debug)]
pub struct Proxy<'a> {
    api: &'a ApiServer<'a>,
    address: SocketAddr,
    book: Arc<Book>,
    orders: Option<mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

/// What the proxy's own thread is to do.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Listen, if it doesn't.
    Listen,
    /// Close the listening socket.
    Refuse,
    /// Close all connections.
    Cut,
}

impl<'a> Proxy<'a> {
    /// Starts one; it listens when this returns.
    pub fn start(api: &'a ApiServer<'a>) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = listener.unwrap_or_else(|e| panic!("a proxy's port: {e}"));
        let book = Arc::new(Book::default());
        let forward = Forward::new(api.address(), api.keys(), Arc::clone(&book));
        let (orders, inbox) = mpsc::unbounded_channel();
        // In the node, as the thread that starts it.
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|e| panic!("a proxy's runtime: {e}"));
            runtime.block_on(serve(listener, address, forward, inbox));
        });
        Self { api, address, book, orders: Some(orders), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new file that leads a client with this token to the proxy.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        self.api.kubeconfig_at(self.address, token)
    }

    /// The same with all rights.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig(ADMIN)
    }

    /// A client of the proxy with all rights.
    pub fn admin(&self) -> Client {
        self.api.client_at(self.address, ADMIN)
    }

    /// Makes a fault of all requests whose path and query have `part` in them. `verb` is an HTTP method, `WATCH` for a
    /// watch, or `*`. Of several faults the first that was asked for and is not used up counts.
    pub fn always(&self, verb: &str, part: &str, fault: Fault) {
        self.book.add_rule(verb, part, fault, None);
    }

    /// The same for the next such request.
    pub fn once(&self, verb: &str, part: &str, fault: Fault) {
        self.times(1, verb, part, fault);
    }

    /// The same for the next `n` such requests.
    pub fn times(&self, n: usize, verb: &str, part: &str, fault: Fault) {
        self.book.add_rule(verb, part, fault, Some(n));
    }

    /// Lets the requests go on that are held ([`Fault::Hold`]), and those that would be.
    pub fn let_go(&self) {
        self.book.let_go();
    }

    /// Makes no more faults, and listens; requests that hang go on hanging.
    pub fn heal(&self) {
        self.book.clear_rules();
        self.order(Order::Listen);
    }

    /// Closes all connections, and refuses new ones.
    pub fn refuse(&self) {
        self.order(Order::Refuse);
        self.cut();
    }

    /// Closes all connections; new ones are welcome.
    pub fn cut(&self) {
        self.order(Order::Cut);
    }

    /// All requests so far, in the order they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.book.seen()
    }

    fn order(&self, order: Order) {
        let (done, receipt) = oneshot::channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send((order, done)).is_ok());
        assert!(sent && receipt.blocking_recv().is_ok(), "the proxy's thread has ended");
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Serves until nobody can give orders any more.
async fn serve(
    first: StdListener,
    address: SocketAddr,
    forward: Forward,
    mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
) {
    let listener = TcpListener::from_std(first).unwrap_or_else(|e| panic!("{address}: {e}"));
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        select! {
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Listen if listener.is_some() => {}
                    Order::Listen => {
                        let again = TcpListener::bind(address).await;
                        listener = Some(again.unwrap_or_else(|e| panic!("{address}: {e}")));
                    }
                    Order::Refuse => listener = None,
                    Order::Cut => connections.shutdown().await,
                }
                // Who has ended meanwhile doesn't wait for it.
                let _ = done.send(());
            }
            Some(stream) = accept(listener.as_ref()) => {
                let forward = forward.clone();
                connections.spawn(async move { forward.connection(stream).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next connection; never, where nobody listens.
async fn accept(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    match listener {
        // A client that is gone already is no one's fault.
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}
