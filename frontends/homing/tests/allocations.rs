//! No allocation per request, proved: the program runs in this process under an allocator that counts, and serves
//! 10,000 requests of each kind without asking it for anything.
//!
//! What counts is every thread but the test's own: workers, and the one that writes the access log. So this test has no
//! harness, whose threads would count too. On a finding it says where the first allocation came from.
//!
//! | shell | log | requests |
//! |---|---|---|
//! | mio, monoio, tokio | off, on | sticky, new session, body of a stated length, chunked both ways, event stream |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, though without a harness that says so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use homing::config::{BindAddress, Settings, compile_texts};
use homing::shell::{Service, ShellError};
use homing_core::log::{LogSink, Record};
use homing_core::stats::Counters;
use homing_core::worker::{Control, Phase};
use homing_shell::drain::Door;
use homing_shell::{Clock, Job};

/// Requests that fill pools and vectors to the size they stay at.
const WARM_UP: usize = 1000;
/// Requests of each kind that are counted.
const COUNTED: usize = 10_000;
/// Connections that take turns.
const CLIENTS: usize = 4;
/// A connection that was left alone for this long may have gone to rest.
const STALL: Duration = Duration::from_millis(250);
/// How often a window is tried.
const WINDOWS_MAX: usize = 20;

const RUNTIMES: [&str; 3] = ["monoio", "mio", "tokio"];

/// Each kind of request, by its name in the output.
const KINDS: [(&str, Kind); 5] = [
    ("sticky", Kind::Sticky),
    ("new session", Kind::Fresh),
    ("fixed body", Kind::Fixed),
    ("chunked", Kind::Chunked),
    ("event stream", Kind::Stream),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Sticky,
    Fresh,
    Fixed,
    Chunked,
    /// A session in the URL of an event stream, taken off the request and put into the response.
    Stream,
}

fn main() {
    // Plain `cargo test` passes filters and options that a test without a harness has no use for.
    uncounted();
    let upstreams = [upstream(), upstream()];
    for runtime in RUNTIMES {
        for log in [false, true] {
            check_runtime(runtime, log, &upstreams);
        }
        check_that_workers_count(runtime, &upstreams);
    }
}

fn check_runtime(runtime: &str, log: bool, upstreams: &[SocketAddr]) {
    let path = log.then(|| log_file(runtime));
    let settings = settings(runtime, path.as_deref(), upstreams);
    let service = match Service::embedded(settings) {
        Ok(service) => service,
        Err(error @ ShellError::Runtime { .. }) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let Some(BindAddress::Tcp(address)) = service.ready.addresses.first().cloned() else {
        panic!("no address: {:?}", service.ready)
    };
    let mut requests = 0;
    for (name, kind) in KINDS {
        let served = serve(address, kind);
        let counted = served.allocations;
        requests += served.requests;
        println!("{runtime}, log {}, {name}: {counted} allocations", if log { "on" } else { "off" });
        // Not even for the ticks of the workers and of the log, which come by many times in a window.
        assert!(counted == 0, "{counted} allocations in {COUNTED} requests; the first:\n{}", first());
    }
    service.end();
    if let Some(path) = path {
        assert_eq!(logged(&path), requests, "the log was on");
        std::fs::remove_file(path).unwrap();
    }
}

/// Requests in the log, those included that it says it lost.
fn logged(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["dropped"].as_u64().map_or(1, |lost| lost as usize)).sum()
}

/// The proof that a worker's allocation is seen: one is planted for every hundredth record.
fn check_that_workers_count(runtime: &'static str, upstreams: &[SocketAddr]) {
    let settings = settings(runtime, None, upstreams);
    let listener = socket2::Socket::from(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let control = Arc::new(Control::new(Arc::new(settings.snapshot)));
    let closed = Arc::new(AtomicBool::new(false));
    let job = Job {
        listeners: vec![(settings.listeners[0].id, listener)],
        control: Arc::clone(&control),
        door: Door::of_one(),
        counters: Arc::new(Counters::default()),
        log: Some(Box::new(Planting { pushed: 0, closed: Arc::clone(&closed) })),
        seed: 7,
        clock: Clock::start(),
    };
    let worker = thread::spawn(move || match runtime {
        #[cfg(target_os = "linux")]
        "monoio" => {
            let rings = [homing_monoio::Ring::Deferred, homing_monoio::Ring::Cooperative];
            match rings.into_iter().find(|&ring| homing_monoio::probe(ring).is_ok()) {
                Some(ring) => homing_monoio::run(job, ring),
                None => Ok(()),
            }
        }
        "tokio" => homing_tokio::run(job),
        _ => homing_mio::run(job),
    });
    if !worker.is_finished() {
        let counted = serve(address, Kind::Sticky).allocations;
        println!("{runtime}, planted: {counted} allocations");
        assert_eq!(counted, (COUNTED / Planting::EVERY) as u64, "what was planted was not counted");
    }
    control.advance(Phase::Drain);
    worker.join().unwrap().unwrap();
    assert!(closed.load(Ordering::SeqCst), "a worker that has ended still holds its log");
}

/// What one kind of request came to.
struct Served {
    /// Allocations of all threads but ours in the counted window.
    allocations: u64,
    /// All requests, the warm-up and windows that did not count included.
    requests: usize,
}

/// Sends requests of one kind and counts what they allocate. The connections take turns, so that their links to the hosts
/// change hands.
///
/// A connection that is not used for half a second rests, which frees its buffers, and its next request takes new ones.
/// On a machine that stalls for so long the window says nothing about warm connections, and is done again.
fn serve(address: SocketAddr, kind: Kind) -> Served {
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(address, kind)).collect();
    let mut ask = |count: usize| {
        let pauses = (0..count).map(|nth| clients[nth % CLIENTS].ask());
        pauses.max().unwrap_or_default()
    };
    let mut requests = if kind == Kind::Sticky { CLIENTS } else { 0 };
    for _ in 0..WINDOWS_MAX {
        ask(WARM_UP);
        ARMED.store(true, Ordering::SeqCst);
        let before = COUNT.load(Ordering::SeqCst);
        let longest = ask(COUNTED);
        ARMED.store(false, Ordering::SeqCst);
        let allocations = COUNT.load(Ordering::SeqCst) - before;
        requests += WARM_UP + COUNTED;
        if longest < STALL {
            return Served { allocations, requests };
        }
        println!("a connection had to wait for {longest:?}: once more");
        FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
    panic!("this machine stalls too often to tell");
}

/// Allocates once for every hundredth record.
struct Planting {
    pushed: usize,
    closed: Arc<AtomicBool>,
}

impl Planting {
    const EVERY: usize = 100;
}

impl LogSink for Planting {
    fn push(&mut self, record: &Record<'_>) {
        self.pushed += 1;
        if self.pushed.is_multiple_of(Self::EVERY) {
            std::hint::black_box(Box::new(record.outcome.status));
        }
    }

    fn flush(&mut self) {}
}

impl Drop for Planting {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

fn settings(runtime: &str, log: Option<&Path>, upstreams: &[SocketAddr]) -> Settings {
    let log = log.map(|path| format!("accessLog: {{ to: \"{}\" }}\n", path.display())).unwrap_or_default();
    let hosts: Vec<String> = upstreams.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "workers: 1\nruntime: {runtime}\n{log}\
         listeners:\n\
         - name: web\n\
        \x20 address: 127.0.0.1:0\n\
        \x20 statefulSession: {{ cookieBased: {{ cookie: {{ name: sid, path: /, ttl: 1h }} }} }}\n\
        \x20 routes:\n\
        \x20 - {{ path: {{ prefix: /sse }}, forward: {{ cluster: app }}, statefulSession: {{ sse: {{ parameter: s }} }} }}\n\
        \x20 - {{ forward: {{ cluster: app }} }}\n\
         clusters: [{{ name: app, hosts: [{}] }}]\n",
        hosts.join(", ")
    );
    match compile_texts(&[("allocations.yaml", &text)], &|_, _| Err(std::io::ErrorKind::NotFound.into())) {
        Ok(settings) => settings,
        Err(error) => panic!("{error}"),
    }
}

fn log_file(runtime: &str) -> PathBuf {
    let name = format!("allocations-{}-{runtime}.log", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}

/// One connection to the proxy. Its buffers are its own; nothing here counts.
struct Client {
    stream: BufReader<TcpStream>,
    kind: Kind,
    request: Vec<u8>,
    line: Vec<u8>,
    /// When the last request ended.
    last: Instant,
}

impl Client {
    fn connect(address: SocketAddr, kind: Kind) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream: BufReader::new(stream),
            kind,
            request: Vec::new(),
            line: Vec::new(),
            last: Instant::now(),
        };
        if kind == Kind::Sticky {
            client.request = b"GET /app HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
            let Some(cookie) = client.exchange() else { panic!("a first visit gets no cookie") };
            client.request =
                [b"GET /app HTTP/1.1\r\nhost: a\r\ncookie: x=y; ", &cookie[..], b"\r\n\r\n"].concat();
        } else {
            let text: &[u8] = match kind {
                Kind::Fixed => b"POST /app HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world",
                Kind::Chunked => {
                    b"POST /app HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                }
                Kind::Stream => {
                    b"GET /sse?a=b&s=abc.MTI3LjAuMC4xOjE HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\
                      accept-encoding: gzip\r\n\r\n"
                }
                _ => b"GET /app?q=1 HTTP/1.1\r\nhost: a\r\nuser-agent: t\r\n\r\n",
            };
            client.request = text.to_vec();
        }
        client
    }

    /// One request; how long it is since the end of the last one.
    fn ask(&mut self) -> Duration {
        let cookie = self.exchange();
        let fresh = !matches!(self.kind, Kind::Sticky | Kind::Stream);
        assert_eq!(cookie.is_some(), fresh, "who has a session gets no other one");
        if self.kind == Kind::Stream {
            assert!(self.line.windows(6).any(|text| text == b"abc.MT"), "{}", self.line.escape_ascii());
        }
        std::mem::replace(&mut self.last, Instant::now()).elapsed()
    }

    /// Sends the request and reads the whole response; the session cookie, if it sets one.
    fn exchange(&mut self) -> Option<Vec<u8>> {
        let Self { stream, request, line, .. } = self;
        stream.get_mut().write_all(request).unwrap();
        let head = read_head(stream, line);
        assert!(head.first.starts_with(b"HTTP/1.1 200 "), "{}", head.first.escape_ascii());
        read_body(stream, line, &head);
        head.cookie
    }
}

/// A host that answers every request in the way it was asked: chunked for chunked, with a length else.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        uncounted();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                uncounted();
                answer_all(stream);
            });
        }
    });
    address
}

fn answer_all(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while !stream.fill_buf().unwrap_or_default().is_empty() {
        let head = read_head(&mut stream, &mut line);
        read_body(&mut stream, &mut line, &head);
        let answer: &[u8] = if head.first.starts_with(b"GET /sse?a=b&s=abc ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 38\r\ncontent-type: text/event-stream\r\n\r\n\
              event: endpoint\ndata: /app?s=abc&d=e\n\n"
        } else if head.chunked {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: text/plain\r\n\r\nwiki"
        };
        if stream.get_mut().write_all(answer).is_err() {
            break;
        }
    }
}

#[derive(Default)]
struct Head {
    first: Vec<u8>,
    length: usize,
    chunked: bool,
    cookie: Option<Vec<u8>>,
}

fn read_head(stream: &mut BufReader<TcpStream>, line: &mut Vec<u8>) -> Head {
    let mut head = Head::default();
    loop {
        line.clear();
        assert!(stream.read_until(b'\n', line).unwrap() > 0, "closed inside a head");
        let text = line.trim_ascii();
        if text.is_empty() {
            return head;
        }
        if head.first.is_empty() {
            head.first = text.to_vec();
        }
        let lower = text.to_ascii_lowercase();
        if let Some(length) = lower.strip_prefix(b"content-length: ") {
            head.length = std::str::from_utf8(length).unwrap().parse().unwrap();
        }
        head.chunked |= lower == b"transfer-encoding: chunked";
        if lower.starts_with(b"set-cookie: ") {
            head.cookie = text["set-cookie: ".len()..].split(|&byte| byte == b';').next().map(<[u8]>::to_vec);
        }
    }
}

fn read_body(stream: &mut BufReader<TcpStream>, line: &mut Vec<u8>, head: &Head) {
    if !head.chunked {
        line.resize(head.length, 0);
        return stream.read_exact(line).unwrap();
    }
    line.clear();
    while !line.ends_with(b"0\r\n\r\n") {
        assert!(stream.read_until(b'\n', line).unwrap() > 0, "closed inside a body");
    }
}

// The allocator.

static COUNT: AtomicU64 = AtomicU64::new(0);
/// Only the first allocation of a window is traced; it is traced only while one is open.
static ARMED: AtomicBool = AtomicBool::new(false);
static FIRST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Nothing of this thread counts. Needs neither initialising nor dropping, so that the allocator may look at it.
    static UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// Nothing of the calling thread counts from here on.
fn uncounted() {
    UNCOUNTED.set(true);
}

fn first() -> String {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}

fn count() {
    if UNCOUNTED.get() || !ARMED.load(Ordering::Relaxed) {
        return;
    }
    COUNT.fetch_add(1, Ordering::SeqCst);
    // Tracing allocates too.
    UNCOUNTED.set(true);
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    if first.is_none() {
        let name = thread::current().name().unwrap_or("unnamed").to_owned();
        *first = Some(format!("thread {name}:\n{}", std::backtrace::Backtrace::force_capture()));
    }
    drop(first);
    UNCOUNTED.set(false);
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts and passes on")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
