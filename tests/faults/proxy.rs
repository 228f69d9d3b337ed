//! A proxy between a program and its servers that has the faults of a network.
//!
//! It counts round trips: how often a client sends after an answer. The servers of a Redis Cluster and sentinels tell
//! clients their addresses, so the proxy has a port for each server, and writes it over the server's port in answers.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use databag_tests::Random;
use databag_tests::server::replace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

/// A fault of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Each answer takes 20 ms longer.
    Delay,
    /// Each answer takes up to 40 ms longer.
    Jitter,
    /// A request does not reach its server, and the connection is closed.
    CutRequest(Which),
    /// A request reaches its server; the answer is dropped and the connection closed.
    LostAnswer(Which),
    /// A half of the answer arrives, and the connection is closed.
    CutAnswer(Which),
    /// No connection forwards anything. One that was used meanwhile stays silent for good.
    HalfOpen,
    /// The connections of this moment stay silent for good.
    Silence,
    /// Everything waits, and arrives when the fault ends.
    Freeze,
    /// Bytes arrive one by one.
    ByteByByte,
    /// 100 kB per second and direction.
    Throttle,
    /// The connections of this moment are reset, and new ones refused.
    Refusal,
    /// All connections are reset every 20 to 70 ms.
    ResetStorm,
    /// The connections of this moment are closed, and new ones as soon as they are accepted.
    CloseOnAccept,
    /// The connections of this moment are closed.
    Close,
    /// The connections of this moment are closed; a new one takes 300 ms longer.
    SlowConnect,
}

/// Which requests a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// One in seven, by the seed.
    OneInSeven,
    /// That one, counted from the start of the fault.
    Nth(u64),
}

/// A proxy. It ends, with all its connections, when this is dropped.
pub(crate) struct Proxy {
    network: Arc<Network>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Starts a proxy for these servers.
    pub(crate) fn new(servers: &[SocketAddr], seed: u64) -> Self {
        // A thread of its own: a busy program does not slow it down.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
        let entered = runtime.enter();
        let listeners: Vec<_> = servers.iter().map(|_| listen()).collect();
        let pairs = servers.iter().zip(&listeners);
        let network = Arc::new(Network {
            ports: pairs.map(|(server, (_, port))| (server.port().to_string(), port.to_string())).collect(),
            fault: watch::Sender::new(Fault::None),
            closed_below: watch::Sender::new(0),
            silent_below: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            random: Mutex::new(Random::new(seed)),
        });
        for ((listener, _), server) in listeners.into_iter().zip(servers) {
            tokio::spawn(accept(network.clone(), listener, *server));
        }
        tokio::spawn(storm(network.clone()));
        drop(entered);
        Self { network, runtime: Some(runtime) }
    }

    /// Writes the ports of the proxy over those of the servers.
    pub(crate) fn url(&self, url: &str) -> String {
        self.network.ports.iter().fold(url.to_owned(), |url, (server, port)| url.replace(server, port))
    }

    /// Starts a fault.
    pub(crate) fn strike(&self, fault: Fault) {
        self.network.requests.store(0, Ordering::SeqCst);
        self.network.fault.send_replace(fault);
        match fault {
            Fault::Refusal | Fault::CloseOnAccept | Fault::Close | Fault::SlowConnect => {
                self.network.close_all();
            }
            Fault::Silence => {
                let connections = self.network.connections.load(Ordering::SeqCst);
                self.network.silent_below.store(connections, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// Ends the fault.
    pub(crate) fn heal(&self) {
        self.network.fault.send_replace(Fault::None);
    }

    /// Returns the number of round trips since the last fault started.
    pub(crate) fn trips(&self) -> u64 {
        self.network.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Network {
    /// The port of each server, and the proxy's port for it.
    ports: Vec<(String, String)>,
    fault: watch::Sender<Fault>,
    /// Connections with a lower number are closed.
    closed_below: watch::Sender<u64>,
    /// Connections with a lower number are silent.
    silent_below: AtomicU64,
    connections: AtomicU64,
    /// Since the last fault started.
    requests: AtomicU64,
    random: Mutex<Random>,
}

impl Network {
    fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Waits until a fault has begun, or has ended.
    async fn until(&self, holds: impl Fn(Fault) -> bool) {
        // The sender lives as long as this.
        drop(self.fault.subscribe().wait_for(|fault| holds(*fault)).await);
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    fn close_all(&self) {
        self.closed_below.send_replace(self.connections.load(Ordering::SeqCst));
    }

    /// Counts a request; returns the fault that hits it alone.
    fn next_request(&self) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = self.fault();
        let (Fault::CutRequest(which) | Fault::LostAnswer(which) | Fault::CutAnswer(which)) = fault else {
            return None;
        };
        let hits = match which {
            Which::OneInSeven => self.below(7) == 0,
            Which::Nth(nth) => number == nth,
        };
        hits.then_some(fault)
    }
}

/// Listens below the ports that Linux gives to clients, and above those of `tests/servers`: while a port is refused, no
/// client must get it.
fn listen() -> (TcpListener, u16) {
    const PORTS: std::ops::Range<u16> = 22_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let start = u16::try_from(start).expect("it is below 10,000");
    loop {
        let port = PORTS.start + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        if let Ok(listener) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            listener.set_nonblocking(true).expect("it is a socket");
            return (TcpListener::from_std(listener).expect("it is a socket"), port);
        }
    }
}

async fn accept(network: Arc<Network>, mut listener: TcpListener, server: SocketAddr) {
    let address = listener.local_addr().expect("it is bound");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(serve(network.clone(), client, server));
                }
                continue;
            }
            () = network.until(|fault| fault == Fault::Refusal) => drop(listener),
        }
        network.until(|fault| fault != Fault::Refusal).await;
        listener = TcpListener::bind(address).await.expect("no client has the port");
    }
}

async fn storm(network: Arc<Network>) {
    loop {
        network.until(|fault| fault == Fault::ResetStorm).await;
        network.close_all();
        sleep(Duration::from_millis(20 + network.below(50))).await;
    }
}

async fn serve(network: Arc<Network>, mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let number = network.connections.fetch_add(1, Ordering::SeqCst);
    match network.fault() {
        Fault::CloseOnAccept => return Ok(()),
        Fault::SlowConnect => sleep(Duration::from_millis(300)).await,
        _ => {}
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let link = Link { network: &network, number, asked: AtomicBool::new(false), hit: Mutex::new(None) };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let closed = async {
        drop(network.closed_below.subscribe().wait_for(|below| number < *below).await);
    };
    tokio::select! {
        _ = link.requests(from_client, to_server) => {}
        _ = link.answers(from_server, to_client) => {}
        () = closed => {}
    }
    if matches!(network.fault(), Fault::Refusal | Fault::ResetStorm) {
        client.set_zero_linger()?;
    }
    Ok(())
}

/// A connection of a client, and one to its server.
struct Link<'a> {
    network: &'a Network,
    number: u64,
    /// Whether a request was sent, and nothing of its answer has come.
    asked: AtomicBool,
    /// What hits the answer to this request.
    hit: Mutex<Option<Fault>>,
}

impl Link<'_> {
    async fn requests(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            if !self.asked.swap(true, Ordering::SeqCst) {
                let hit = self.network.next_request();
                if matches!(hit, Some(Fault::CutRequest(_))) {
                    return Ok(());
                }
                *self.hit.lock().unwrap_or_else(PoisonError::into_inner) = hit;
            }
            self.wait().await;
            self.send(&mut to, &buffer[..read]).await?;
        }
    }

    async fn answers(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let answer = &mut buffer[..read];
            self.asked.store(false, Ordering::SeqCst);
            for (server, port) in &self.network.ports {
                replace(answer, server, port);
            }
            let hit = self.hit.lock().unwrap_or_else(PoisonError::into_inner).take();
            match (hit, self.network.fault()) {
                (Some(Fault::LostAnswer(_)), _) => return Ok(()),
                (Some(_), _) => return to.write_all(&answer[..read / 2]).await,
                (None, Fault::Delay) => sleep(Duration::from_millis(20)).await,
                (None, Fault::Jitter) => sleep(Duration::from_millis(self.network.below(40))).await,
                (None, _) => {}
            }
            self.wait().await;
            self.send(&mut to, answer).await?;
        }
    }

    /// Waits while nothing is forwarded; for ever on a silent connection.
    async fn wait(&self) {
        let is_silent = self.number < self.network.silent_below.load(Ordering::SeqCst);
        if is_silent || self.network.fault() == Fault::HalfOpen {
            return pending().await;
        }
        self.network.until(|fault| fault != Fault::Freeze).await;
    }

    async fn send(&self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
        let (size, pause) = match self.network.fault() {
            Fault::ByteByByte => (1, None),
            Fault::Throttle => (200, Some(Duration::from_millis(2))),
            _ => (bytes.len(), None),
        };
        for part in bytes.chunks(size) {
            to.write_all(part).await?;
            match pause {
                Some(pause) => sleep(pause).await,
                None => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }
}

/// A server that answers each message by the same text, and tells what it has heard.
async fn echo() -> (SocketAddr, watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let heard = watch::Sender::new(String::new());
    let all_heard = heard.subscribe();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = client.read(&mut buffer).await {
                    heard.send_modify(|all| all.push_str(&String::from_utf8_lossy(&buffer[..read])));
                    client.write_all(&buffer[..read]).await?;
                }
                io::Result::Ok(())
            });
        }
    });
    (address, all_heard)
}

/// A client of the proxy.
async fn dial(proxy: &Proxy, server: SocketAddr) -> io::Result<TcpStream> {
    let address = proxy.url(&server.to_string());
    TcpStream::connect(address).await
}

/// Sends a message, and checks its answer: `None` if the connection is closed instead, empty if there is silence.
async fn ask(client: &mut TcpStream, message: &str, expected: Option<&str>, name: &str) {
    let (mut answer, mut buffer) = (String::new(), [0; 64]);
    let is_silent = expected == Some("");
    let patience = if is_silent { Duration::from_millis(200) } else { Duration::from_secs(10) };
    let asked = client.write_all(message.as_bytes()).await;
    let mut is_open = asked.is_ok();
    while is_open && (answer.is_empty() || Some(answer.len()) < expected.map(str::len)) {
        match tokio::time::timeout(patience, client.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => answer.push_str(&String::from_utf8_lossy(&buffer[..read])),
            Ok(_) => is_open = false,
            Err(_) => break,
        }
    }
    let answer = (is_open || !answer.is_empty()).then_some(answer.as_str());
    assert_eq!(answer, expected, "{name}");
}

#[tokio::test]
async fn the_proxy_counts_trips_and_hits_the_chosen_one() {
    let (server, heard) = echo().await;
    let proxy = Proxy::new(&[server], 1);
    for (fault, answered, is_heard) in [
        (Fault::CutRequest(Which::Nth(2)), None, "one"),
        (Fault::LostAnswer(Which::Nth(2)), None, "onetwo"),
        (Fault::CutAnswer(Which::Nth(2)), Some("t"), "onetwo"),
        (Fault::Delay, Some("two"), "onetwo"),
        (Fault::ByteByByte, Some("two"), "onetwo"),
        (Fault::None, Some("two"), "onetwo"),
    ] {
        let (before, name) = (heard.borrow().len(), format!("{fault:?}"));
        let mut client = dial(&proxy, server).await.expect("it listens");
        proxy.strike(fault);
        ask(&mut client, "one", Some("one"), &name).await;
        ask(&mut client, "two", answered, &name).await;
        assert_eq!(&heard.borrow()[before..], is_heard, "{name}");
        assert!(fault == Fault::ByteByByte || proxy.trips() == 2, "{name}: {}", proxy.trips());
        proxy.heal();
    }
}

#[tokio::test]
async fn the_proxy_silences_freezes_closes_resets_and_refuses_connections() {
    let (server, _) = echo().await;
    let proxy = Proxy::new(&[server], 1);
    for (fault, during, of_another) in [
        (Fault::Silence, Some(""), Some("one")),
        (Fault::HalfOpen, Some(""), Some("")),
        (Fault::Freeze, Some(""), Some("")),
        (Fault::Close, None, Some("one")),
        (Fault::CloseOnAccept, None, None),
        (Fault::SlowConnect, None, Some("")),
    ] {
        let name = format!("{fault:?}");
        let mut client = dial(&proxy, server).await.expect("it listens");
        ask(&mut client, "zero", Some("zero"), &name).await;
        proxy.strike(fault);
        ask(&mut client, "one", during, &name).await;
        let mut other = dial(&proxy, server).await.expect("it listens");
        ask(&mut other, "one", of_another, &format!("{name}, another connection")).await;
        proxy.heal();
        if during.is_some() {
            let expected = if fault == Fault::Freeze { "onetwo" } else { "" };
            ask(&mut client, "two", Some(expected), &format!("{name}, afterwards")).await;
        }
    }
    let mut client = dial(&proxy, server).await.expect("it listens");
    ask(&mut client, "zero", Some("zero"), "before the storm").await;
    proxy.strike(Fault::ResetStorm);
    client.read(&mut [0]).await.expect_err("it is reset");
    proxy.strike(Fault::Refusal);
    while dial(&proxy, server).await.is_ok() {}
    proxy.heal();
    while dial(&proxy, server).await.is_err() {}
}
