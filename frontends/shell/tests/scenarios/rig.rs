//! What the scenarios stand on: a proxy run by a shell, an upstream that follows the request's path as a script, and a
//! client that reads whole responses. Plain blocking threads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use homing_core::affinity::{CarrierSpec, Policy, PolicySpec};
use homing_core::balance::Balance;
use homing_core::field::Status;
use homing_core::hosts::{Cluster, ClusterSpec, Endpoint, HealthSet, HostSpec};
use homing_core::limits::Limits;
use homing_core::log::{LogSink, Record};
use homing_core::route::ListenerId;
use homing_core::snapshot::Snapshot;
use homing_core::stats::{Counters, Ending};
use homing_core::worker::{Control, Phase};
use homing_shell::drain::Door;
use homing_shell::{Clock, Job};
use socket2::{SockRef, Socket};

/// A shell's entry point.
pub type Run = fn(Job) -> io::Result<()>;

/// Nothing takes so long unless it hangs; then the test fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(30);

/// One worker in a thread of its own.
pub struct Proxy {
    pub address: SocketAddr,
    pub control: Arc<Control>,
    pub counters: Arc<Counters>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Proxy {
    pub fn start(run: Run, hosts: &[Endpoint], limits: Limits) -> Self {
        Self::start_with(run, snapshot(hosts, limits))
    }

    pub fn start_with(run: Run, snapshot: Snapshot) -> Self {
        Self::worker(run, Arc::new(Control::new(Arc::new(snapshot))), Door::of_one(), None)
    }

    /// Two workers of one program, and a hold on the ticks of each. Each listens on a port of its own, so that it is known whose
    /// client one is.
    pub fn start_two(run: Run, snapshot: Snapshot) -> [(Self, Ticks); 2] {
        let control = Arc::new(Control::new(Arc::new(snapshot)));
        let mut doors = Door::of_all(2);
        std::array::from_fn(|_| {
            let (ticks, turnstile) = Ticks::new();
            let door = doors.pop().expect("a door for each worker");
            (Self::worker(run, Arc::clone(&control), door, Some(Box::new(turnstile))), ticks)
        })
    }

    fn worker(run: Run, control: Arc<Control>, door: Door, log: Option<Box<dyn LogSink>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Arc::<Counters>::default();
        let job_parts = (Arc::clone(&control), Arc::clone(&counters));
        let thread = spawn(move || {
            let (control, counters) = job_parts;
            let listeners = vec![(ListenerId(0), Socket::from(listener))];
            run(Job { listeners, control, door, counters, log, seed: 1, clock: Clock::start() })
        });
        Self { address, control, counters, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Whether the kernel takes a connection for the worker.
    pub fn listens(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// Waits until the worker has ended by itself.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the worker panicked").expect("the worker failed");
        }
    }

    /// Stops the worker; then its counters are final.
    pub fn stop(&mut self) -> &Counters {
        self.control.advance(Phase::Stop);
        self.join();
        assert_eq!(self.counters.accepted.get(), self.counters.closed.get(), "a connection was lost");
        &self.counters
    }

    pub fn ended(&mut self, ending: Ending) -> u64 {
        self.stop().endings[ending as usize].get()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A hold on a worker's ticks, each of which flushes its log before it looks at the program's phase.
pub struct Ticks {
    came: Receiver<()>,
    /// Dropped, it lets every tick pass.
    pass: Option<Sender<()>>,
}

/// The log of a worker whose [`Ticks`] are held.
struct Turnstile {
    came: Sender<()>,
    pass: Receiver<()>,
}

impl Ticks {
    fn new() -> (Self, Turnstile) {
        let (came, comes) = channel();
        let (pass, passes) = channel();
        (Self { came: comes, pass: Some(pass) }, Turnstile { came, pass: passes })
    }

    /// Waits until the worker is in a tick, where it stands still if it is held.
    pub fn stand(&self) {
        self.came.recv_timeout(PATIENCE).expect("a tick");
    }

    /// Waits until so many more have begun.
    pub fn go_by(&self, count: usize) {
        self.came.try_iter().for_each(drop);
        (0..count).for_each(|_| self.stand());
    }

    /// Holds them no longer.
    pub fn let_go(&mut self) {
        self.pass = None;
    }
}

impl LogSink for Turnstile {
    fn push(&mut self, _: &Record<'_>) {}

    fn flush(&mut self) {
        // Failing means that the test has let go.
        let _ = self.came.send(());
        let _ = self.pass.recv();
    }
}

/// Every request goes to these hosts, without affinity.
pub fn snapshot(hosts: &[Endpoint], limits: Limits) -> Snapshot {
    Snapshot { limits, ..Snapshot::of_one(cluster(hosts), None) }
}

/// The same, with default limits and a strict session in this parameter of event streams.
pub fn with_session_in_streams(hosts: &[Endpoint], parameter: &str) -> Snapshot {
    let policy = Policy::compile(PolicySpec {
        carrier: CarrierSpec::Sse { parameter: parameter.into() },
        strict: true,
        gone_status: Status::UNAVAILABLE,
        clear_dead: false,
        hide_from_upstream: false,
        no_cache: false,
        renew_before: None,
    });
    Snapshot::of_one(cluster(hosts), Some(policy.unwrap()))
}

fn cluster(hosts: &[Endpoint]) -> Cluster {
    let host = |endpoint: &Endpoint| HostSpec {
        endpoint: endpoint.clone(),
        weight: 1,
        priority: 0,
        cell: Arc::default(),
    };
    let cluster = Cluster::compile(ClusterSpec {
        name: "hosts".into(),
        hosts: hosts.iter().map(host).collect(),
        balance: Balance::RoundRobin,
        override_status: HealthSet::USABLE,
        panic_percent: 0,
    });
    cluster.unwrap()
}

/// A client connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// A message as received: its first line and fields in lower case, and its body without framing.
#[derive(Debug)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> &str {
        self.head.get(9..12).expect("a status line")
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|field| field.0 == name).map(|field| field.1)
    }

    fn path(&self) -> &str {
        self.head.split(' ').nth(1).expect("a request line")
    }
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The same connection, for a thread that sends while this one receives.
    pub fn sender(&self) -> Self {
        Self::new(self.stream.get_ref().try_clone().unwrap())
    }

    pub fn shutdown(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a GET and reads the response.
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.response()
    }

    /// Sends a POST with a length and reads the response.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Message {
        self.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len()));
        self.send(body);
        self.response()
    }

    pub fn head(&mut self) -> String {
        read_head(&mut self.stream).expect("a head, not the end")
    }

    pub fn response(&mut self) -> Message {
        let head = self.head();
        let body = read_body(&mut self.stream, &head, true).expect("a whole response");
        Message { head, body }
    }

    /// The data of the next chunk; empty: it was the last one.
    pub fn chunk(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
        let mut data = self.take(size + 2);
        data.truncate(size);
        String::from_utf8(data).unwrap()
    }

    /// The next so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Sends `bytes` and waits for `pause`, or until the proxy closes: whether it has.
    pub fn ends_in_spite_of(&mut self, bytes: &str, pause: Duration) -> bool {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(pause)).unwrap();
        let sent = stream.write_all(bytes.as_bytes());
        let heard = self.stream.read_to_end(&mut Vec::new());
        sent.is_err() || !heard.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Everything until the proxy closes; an error if it resets.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).map(|_| bytes)
    }
}

/// An upstream host. What it does with a request is in [`Served::answer`].
pub struct Upstream {
    pub endpoint: Endpoint,
    /// Paths of requests that wait, and what connections saw at their end.
    news: Receiver<String>,
    go: Sender<()>,
}

/// One connection of an upstream.
struct Served {
    stream: BufReader<TcpStream>,
    number: usize,
    news: Sender<String>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Upstream {
    pub fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        Self::serve(endpoint, Socket::from(listener))
    }

    /// Serves on a bound socket until the process ends: a thread that waits in `accept` costs nothing.
    pub fn serve(endpoint: Endpoint, listener: Socket) -> Self {
        listener.listen(1024).unwrap();
        let (news, heard) = channel();
        let (go, gone) = channel();
        let gone = Arc::new(Mutex::new(gone));
        let count = AtomicUsize::new(0);
        spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                // A unix socket has no such option.
                let _ = socket.set_tcp_nodelay(true);
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let stream = BufReader::new(TcpStream::from(std::os::fd::OwnedFd::from(socket)));
                let served = Served { stream, number, news: news.clone(), go: Arc::clone(&gone) };
                spawn(move || served.run());
            }
        });
        Self { endpoint, news: heard, go }
    }

    /// The next piece of news.
    pub fn hear(&self) -> String {
        self.news.recv_timeout(PATIENCE).expect("news from the upstream")
    }

    /// The next piece of news, if there is one by now.
    pub fn try_hear(&self) -> Option<String> {
        self.news.try_recv().ok()
    }

    /// Lets one waiting request go on.
    pub fn go(&self) {
        self.go.send(()).unwrap();
    }
}

impl Served {
    fn run(mut self) {
        while let Some(head) = read_head(&mut self.stream) {
            if head.contains("\r\nexpect: 100-continue\r\n") {
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if head.contains("\r\nx-leave: ") {
                self.tell(&format!("head on {}", self.number));
                if head.contains(&format!("\r\nx-leave: {}\r\n", self.number)) {
                    self.wait();
                    break;
                }
            }
            if head.contains("\r\nx-slow: ") {
                self.tell("slow");
                self.wait();
            }
            let Ok(body) = read_body(&mut self.stream, &head, false) else { break };
            if !self.answer(&Message { head, body }) {
                break;
            }
        }
        let Self { stream, number, news, .. } = self;
        drop(stream);
        let _ = news.send(format!("end of {number}"));
    }

    /// False: the connection ends.
    fn answer(&mut self, request: &Message) -> bool {
        match request.path() {
            "/empty" => self.write(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "/until-close" => {
                self.write(b"HTTP/1.1 200 OK\r\n\r\nall of ");
                self.write(b"it");
                return false;
            }
            "/cut" => {
                self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all of it");
                return false;
            }
            "/chunked" => {
                self.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nin p\r\n");
                self.write(b"5\r\narts!\r\n0\r\n\r\n");
            }
            "/sse" => {
                self.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
                self.write(b"10\r\nevent: endpoint\n\r\n16\r\ndata: /m?s=own.value\n\n\r\n");
                self.tell("/sse");
                self.wait();
                self.write(b"c\r\ndata: last\n\n\r\n0\r\n\r\n");
                return false;
            }
            path if path.starts_with("/m?") => {
                self.tell(path);
                self.reply(&request.body);
                return false;
            }
            "/big" => self.reply(&vec![b'x'; 1 << 20]),
            "/long" => self.reply(&long()),
            "/beyond" => {
                self.reply(&long());
                self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
            path if path.starts_with("/beyond?") => self.reply_and_stray(path),
            "/urgent" => self.reply_with_urgent_byte(),
            "/half" => {
                let (body, link) = (long(), self.number);
                let (first, second) = body.split_at(body.len() / 2);
                let head =
                    format!("HTTP/1.1 200 OK\r\nx-link: {link}\r\ncontent-length: {}\r\n\r\n", body.len());
                self.write(head.as_bytes());
                self.write(first);
                self.tell("/half");
                if request.head.contains("\r\nx-cut: ") {
                    return false;
                }
                self.wait();
                self.write(second);
            }
            "/then-close" => {
                self.reply(b"the last one");
                return false;
            }
            "/wait" => {
                self.tell("/wait");
                self.wait();
                self.reply(b"waited");
            }
            "/nonsense" => {
                self.write(b"this is no http\r\n\r\n");
                return false;
            }
            "/echo-tunnel" => return self.echo_tunnel(),
            "/bye-tunnel" => return self.bye_tunnel(),
            _ if request.head.starts_with("head ") => {
                self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n");
            }
            _ => self.reply(&request.body),
        }
        true
    }

    /// The body goes back, and the number of the connection in a field.
    fn reply(&mut self, body: &[u8]) {
        let head =
            format!("HTTP/1.1 200 OK\r\nx-link: {}\r\ncontent-length: {}\r\n\r\n", self.number, body.len());
        self.write(head.as_bytes());
        self.write(body);
    }

    /// Sends back what comes; says "bye" when the client has closed its side.
    fn echo_tunnel(&mut self) -> bool {
        self.write(SWITCH);
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            self.write(&bytes[..count]);
        }
        self.write(b"bye");
        false
    }

    /// Speaks first, closes its side, and listens to the end.
    fn bye_tunnel(&mut self) -> bool {
        self.write(SWITCH);
        self.write(b"bye");
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
        let mut heard = String::new();
        let _ = self.stream.read_to_string(&mut heard);
        self.tell(&heard);
        false
    }

    /// A proxy that has gone is noticed by the next read.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// As many bytes as the query says, and a response that nobody asked for, in one piece.
    fn reply_and_stray(&mut self, path: &str) {
        let length: usize = path.trim_start_matches("/beyond?").parse().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nx-link: {}\r\ncontent-length: {length}\r\n\r\n", self.number);
        let stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";
        self.write(&[head.as_bytes(), &long()[..length], stray].concat());
    }

    /// The byte stands beside the stream, which goes on without it (RFC 9293 §3.8.5).
    fn reply_with_urgent_byte(&mut self) {
        let body = long();
        let (first, second) = body.split_at(body.len() / 2);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), first].concat());
        let _ = SockRef::from(self.stream.get_ref()).send_out_of_band(b"!");
        self.write(second);
    }

    fn tell(&self, news: &str) {
        let _ = self.news.send(news.to_owned());
    }

    /// Waits for the test to say go, or for the proxy to leave.
    fn wait(&mut self) {
        let go = self.go.lock().unwrap();
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut byte = [0; 1];
        // Either ends the wait; which comes first does not matter to any test.
        while go.try_recv().is_err() && !matches!(stream.peek(&mut byte), Ok(0)) {}
        stream.set_read_timeout(None).unwrap();
    }
}

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

/// A body of which no two parts are alike, longer than any window and any pipe.
pub fn long() -> Vec<u8> {
    (0_u32..1 << 20).flat_map(u32::to_le_bytes).collect()
}

/// A head in lower case; `None`: the connection ended before it.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            assert!(head.is_empty(), "cut off in a head: {head:?}");
            return None;
        }
    }
    Some(head.to_ascii_lowercase())
}

fn read_body(stream: &mut impl BufRead, head: &str, response: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let message = Message { head: head.to_owned(), body: Vec::new() };
    if message.field("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk)?;
            chunk.truncate(size);
            body.append(&mut chunk);
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match message.field("content-length") {
        Some(length) => {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            stream.read_exact(&mut body)?;
        }
        None if response && !matches!(message.status(), "100" | "101" | "204" | "304") => {
            stream.read_to_end(&mut body)?;
        }
        None => {}
    }
    Ok(body)
}
