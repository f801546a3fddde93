//! A representative part of the vectors over sockets, on all three shells: the same lists, the same projection, the same
//! rows of the ledger as in memory.
//!
//! Each vector has a service of its own, with one worker, whose wall clock stands at the moment of the recording and
//! whose choices follow from the same seed as in memory. The hosts listen on ports that the kernel gives, and the vector is
//! rewritten to name those ([`Moves`]). What was decided is read from the records that the worker hands to its log, and
//! Envoy's counters from the worker's own.
//!
//! Which vectors: of each topic every n-th, so that about [`PER_TOPIC`] remain, small topics whole; and of each row of the
//! ledger the first [`PER_ROW`]. Left out is what lacks a feature, what no socket takes part in (configurations), what
//! needs the clocks to move while it runs, and names that a resolver would have to turn into our ports.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, with more of it in helpers than in test functions"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use homing::config::{Bind, BindAddress, Runtime, Settings};
use homing::shell::{Clock, Embedding, Service, ShellError};
use homing_conformance::memory::Act;
use homing_conformance::message::{Progress, Request, read_request};
use homing_conformance::vectors::classes::{classify_run, committed};
use homing_conformance::vectors::moved::Moves;
use homing_conformance::vectors::run::{self, Repeat, Run};
use homing_conformance::vectors::{Behaviour, Mode, Saw, TEXT, Vector, all, setup};
use homing_core::clock::UnixSecs;
use homing_core::log::{LogSink, Record};
use homing_core::route::ListenerId;
use homing_core::snapshot::Snapshot;
use homing_core::stats::{EnvoyCounter, Outcome};
use socket2::{Domain, SockRef, Socket, Type};

/// How many vectors of each topic run here, about.
const PER_TOPIC: usize = 20;
/// How many vectors of each row of the ledger run here, at least, if there are so many.
const PER_ROW: usize = 2;
/// Fewer than this are no representative part.
const ENOUGH: usize = 300;
const LANES: usize = 8;
/// Nothing takes so long unless it hangs; then the test fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(20);
/// The recorded hosts that listen.
const HOSTS: [&str; 7] = [
    "127.0.0.1:21101",
    "127.0.0.1:21102",
    "127.0.0.1:21103",
    "127.0.0.1:21104",
    "127.0.0.1:21105",
    "127.0.0.1:21106",
    IPV6_HOST,
];
/// Its vectors are left out where the machine has no such address.
const IPV6_HOST: &str = "[::1]:21107";

#[test]
fn mio() {
    check(Runtime::Mio);
}

#[test]
fn monoio() {
    check(Runtime::Monoio);
}

#[test]
fn tokio() {
    check(Runtime::Tokio);
}

fn check(runtime: Runtime) {
    let chosen = &*CHOSEN;
    assert!(chosen.len() >= ENOUGH, "only {} vectors are chosen", chosen.len());
    let (next, skipped) = (AtomicUsize::new(0), Mutex::new(None));
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let lane = Lane::open();
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let vector = lane.moves.vector(case.line).unwrap();
                    match lane.run(&vector, case.listed, runtime) {
                        Ok(None) => {}
                        Ok(Some(fault)) => held(&wrong).push(fault),
                        Err(error @ ShellError::Runtime { .. }) => return *held(&skipped) = Some(error),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    if let Some(error) = skipped.into_inner().unwrap() {
        return println!("skipped: {error}");
    }
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort_unstable();
    assert!(wrong.is_empty(), "{}, {} vectors:\n{}", runtime.as_str(), wrong.len(), wrong.join("\n"));
    println!("{}: {} vectors", runtime.as_str(), chosen.len());
}

/// The runner itself must be able to fail: in the host, the expiry, the counters and the status.
#[test]
fn a_changed_record_is_noticed() {
    let lane = Lane::open();
    let changed = |id: &str, change: fn(&mut Vector)| {
        let is_it = |line: &&&str| line.contains(&format!("\"id\": \"{id}\""));
        let lines: Vec<&str> = TEXT.lines().collect();
        let line = lines.iter().find(is_it).unwrap();
        let mut vector = lane.moves.vector(line).unwrap();
        assert_eq!(lane.run(&vector, ("same", ""), Runtime::Mio).unwrap(), None, "{id}");
        change(&mut vector);
        lane.run(&vector, ("same", ""), Runtime::Mio).unwrap().unwrap_or_default()
    };
    let later = changed("setc-004", |vector| vector.now += 1);
    assert!(later.contains("set-cookie"), "an expiry that is a second off: {later}");
    let other = changed("setc-048", |vector| vector.observed.repeats[0] = Some("127.0.0.9:1".to_owned()));
    assert!(other.contains("host Some"), "another host than the token's: {other}");
    let counted = changed("setc-048", |vector| vector.observed.stats_delta_over_repeats.clear());
    assert!(counted.contains("counters"), "counters: {counted}");
    let status = changed("setc-093", |vector| vector.observed.status = Some(201));
    assert!(status.contains("status 201"), "status: {status}");
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector that runs here: its line, and what the lists say of it.
struct Chosen {
    line: &'static str,
    listed: (&'static str, &'static str),
}

/// The vectors that run here, by the rule above.
static CHOSEN: LazyLock<Vec<Chosen>> = LazyLock::new(|| {
    let (lists, vectors) = (committed().unwrap(), all().unwrap());
    let has_ipv6 = bind(IPV6_HOST).is_some();
    let runs = |(vector, line): &(&Vector, &str)| {
        let (list, rest) = lists[vector.id.as_str()];
        let is_refused = rest.ends_with("\trefused");
        let has_hosts = !line.contains("localhost:") && (has_ipv6 || !line.contains(IPV6_HOST));
        vector.mode != Mode::Config && list != "absent" && !is_refused && has_hosts
    };
    let mut topics: BTreeMap<&str, Vec<(&Vector, &'static str)>> = BTreeMap::new();
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    let is_immediate =
        |vector: &Vector| setup::prepare(vector).is_ok_and(|setup| run::run(vector, &setup).is_immediate);
    for (vector, line) in vectors.iter().zip(TEXT.lines()).filter(runs) {
        topics.entry(vector.topic()).or_default().push((vector, line));
        let (list, rest) = lists[vector.id.as_str()];
        let row = rest.split(['\t', ',']).next().unwrap_or_default();
        let seen = rows.entry(row).or_default();
        if list == "divergence" && *seen < PER_ROW && is_immediate(vector) {
            *seen += 1;
            wanted.insert(&vector.id);
        }
    }
    let mut chosen = Vec::new();
    for of_topic in topics.values() {
        let every = of_topic.len().div_ceil(PER_TOPIC);
        for (at, (vector, line)) in of_topic.iter().enumerate() {
            let is_wanted = wanted.contains(vector.id.as_str());
            if is_wanted || at % every == 0 && is_immediate(vector) {
                chosen.push(Chosen { line, listed: lists[vector.id.as_str()] });
            }
        }
    }
    chosen
});

/// Upstream hosts, and what they play at the moment.
struct Lane {
    moves: Moves,
    stage: Arc<Mutex<Stage>>,
    /// Bound, and nobody listens: connections to it are refused.
    _dead: Socket,
}

#[derive(Default)]
struct Stage {
    behaviour: Behaviour,
    /// How often a host was tried, by the request's `x-vec-id`.
    tries: BTreeMap<String, usize>,
    requests: Vec<(String, Request)>,
    broken: Vec<String>,
}

/// A socket on a port that the kernel gives, with an address of its own in the loopback network, whose text is as long as
/// the recorded one: a port of five digits. None: the machine has no such address.
fn bind(recorded: &str) -> Option<(Socket, String)> {
    let (domain, address) =
        if recorded == IPV6_HOST { (Domain::IPV6, "[::1]:0") } else { (Domain::IPV4, "127.0.0.9:0") };
    let address: SocketAddr = address.parse().unwrap();
    let mut too_short = Vec::new();
    loop {
        let socket = Socket::new(domain, Type::STREAM, None).ok()?;
        socket.bind(&address.into()).ok()?;
        let text = socket.local_addr().ok()?.as_socket()?.to_string();
        if text.len() == recorded.len() {
            return Some((socket, text));
        }
        // Held, lest the kernel give the same one again.
        too_short.push(socket);
    }
}

impl Lane {
    fn open() -> Self {
        let stage: Arc<Mutex<Stage>> = Arc::default();
        let mut moves = Moves::default();
        let (dead, refusing) = bind(run::DEAD).unwrap();
        moves.add(run::DEAD, &refusing).unwrap();
        for recorded in HOSTS {
            let Some((socket, address)) = bind(recorded) else { continue };
            socket.listen(128).unwrap();
            let listener = TcpListener::from(socket);
            moves.add(recorded, &address).unwrap();
            let stage = Arc::clone(&stage);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (stream, address, stage) = (stream.unwrap(), address.clone(), Arc::clone(&stage));
                    thread::spawn(move || serve(stream, &address, &stage));
                }
            });
        }
        Self { moves, stage, _dead: dead }
    }

    /// Runs a vector and says what is wrong with it.
    fn run(
        &self,
        vector: &Vector,
        listed: (&str, &str),
        runtime: Runtime,
    ) -> Result<Option<String>, ShellError> {
        let run = match self.service(vector, runtime)? {
            Ok(run) => run,
            Err(fault) => return Ok(Some(format!("{} ({}): {fault}", vector.id, vector.note))),
        };
        let found = match classify_run(vector, &run) {
            Ok(class) => class.listed(),
            Err(differences) => {
                let told: Vec<String> = differences.iter().map(|found| format!("    {found}")).collect();
                ("none", format!("\n{}", told.join("\n")))
            }
        };
        Ok((found.0 != listed.0 || found.1 != listed.1).then(|| {
            format!(
                "{} ({})\n  listed: {listed:?}\n  found:  {} {}",
                vector.id, vector.note, found.0, found.1
            )
        }))
    }

    fn service(&self, vector: &Vector, runtime: Runtime) -> Result<Result<Run, String>, ShellError> {
        *held(&self.stage) = Stage { behaviour: vector.upstream_behaviour.clone(), ..Stage::default() };
        let setup = setup::prepare(vector).unwrap();
        let counted = setup.is_counted(run::session_of(vector, &setup));
        let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let embedding = Embedding {
            clock: Clock::fixed(UnixSecs::new(vector.now)),
            seed: run::seed(vector),
            log: Box::new(Sink(Arc::clone(&outcomes))),
        };
        let snapshot = Arc::into_inner(setup.snapshot).unwrap();
        let service = Service::embedded_with(settings(snapshot, runtime), embedding)?;
        let BindAddress::Tcp(proxy) = service.ready.addresses[0] else { panic!("no TCP address") };
        let mut answers = Vec::new();
        for at in 0..vector.observed.repeats.len().max(1) {
            let asked = held(&self.stage).requests.len();
            match ask(&run::request_bytes(vector, at), proxy) {
                Ok(received) => answers.push((received, held(&self.stage).requests.split_off(asked))),
                Err(fault) => {
                    service.end();
                    return Ok(Err(fault));
                }
            }
        }
        let counters = service.counters().to_vec();
        // All records are there once the worker has ended.
        service.end();
        let broken = std::mem::take(&mut held(&self.stage).broken);
        let outcomes = std::mem::take(&mut *held(&outcomes));
        if !broken.is_empty() || outcomes.len() != answers.len() {
            return Ok(Err(format!("{} records of {} requests; {broken:?}", outcomes.len(), answers.len())));
        }
        let counters = counted.then(|| {
            let count =
                |which: EnvoyCounter| counters.iter().map(|own| own.envoy[which as usize].get()).sum();
            let counts = EnvoyCounter::ALL.map(|which| (which.as_str(), count(which)));
            counts.into_iter().filter(|(_, count)| *count > 0).collect()
        });
        let repeats = answers.into_iter().zip(outcomes).map(|(answer, outcome)| repeat(answer, outcome));
        Ok(Ok(Run { repeats: repeats.collect(), counters, is_immediate: true }))
    }
}

fn repeat((received, requests): (Received, Vec<(String, Request)>), outcome: Outcome) -> Repeat {
    let Received { bytes, to_head, ended } = received;
    let (interim, response) = run::received(&bytes, to_head, ended);
    let tries = requests.iter().map(|(host, request)| (host.clone(), Saw::from(request))).collect();
    Repeat { response, interim, tries, outcome }
}

fn settings(snapshot: Snapshot, runtime: Runtime) -> Settings {
    let address = BindAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let bind = Bind { id: ListenerId(0), name: "vector".into(), gateway: None, address };
    Settings {
        notes: Vec::new(),
        snapshot,
        policies: Vec::new(),
        listeners: vec![bind],
        workers: 1,
        runtime,
        access_log: None,
        watch: Duration::ZERO,
    }
}

/// Keeps the outcomes of all records.
struct Sink(Arc<Mutex<Vec<Outcome>>>);

impl LogSink for Sink {
    fn push(&mut self, record: &Record<'_>) {
        held(&self.0).push(*record.outcome);
    }

    fn flush(&mut self) {}
}

/// One connection of the proxy's to a host.
fn serve(mut stream: TcpStream, host: &str, stage: &Mutex<Stage>) {
    stream.set_nodelay(true).unwrap();
    let (mut inbox, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match read_request(&inbox) {
            Ok(Progress::Done(request, used)) => {
                inbox.drain(..used);
                for act in respond(request, host, &mut held(stage)) {
                    let done = match act {
                        Act::Bytes(bytes) => stream.write_all(&bytes),
                        Act::CloseSend => stream.shutdown(Shutdown::Write),
                        Act::Reset => {
                            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                            return;
                        }
                        other => return held(stage).broken.push(format!("{other:?} needs a clock")),
                    };
                    if done.is_err() {
                        return;
                    }
                }
                continue;
            }
            Ok(Progress::Partial | Progress::Head(_)) => {}
            Err(broken) => return held(stage).broken.push(format!("{host} got {broken}")),
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => inbox.extend_from_slice(&buffer[..count]),
        }
    }
}

fn respond(request: Request, host: &str, stage: &mut Stage) -> Vec<Act> {
    let count = stage.tries.entry(request.field("x-vec-id").unwrap_or_default().to_owned()).or_default();
    let acts = run::answer(stage.behaviour.of_try(host, *count), host, &request.method);
    *count += 1;
    stage.requests.push((host.to_owned(), request));
    acts
}

/// What a client received.
struct Received {
    bytes: Vec<u8>,
    to_head: bool,
    /// The connection has ended.
    ended: bool,
}

/// Sends the segments and reads until the final response is whole or the connection ends.
fn ask(segments: &[Vec<u8>], proxy: SocketAddr) -> Result<Received, String> {
    let mut stream = TcpStream::connect(proxy).map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    for segment in segments {
        // A refusal may come before everything is sent.
        let _ = stream.write_all(segment);
    }
    let to_head = segments.first().is_some_and(|bytes| bytes.starts_with(b"HEAD "));
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while !run::is_answered(&bytes, to_head) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Received { bytes, to_head, ended: true }),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Ok(Received { bytes, to_head, ended: true });
            }
            Err(error) => {
                return Err(format!("no end after {:?}: {error}", bytes.escape_ascii().to_string()));
            }
        }
    }
    Ok(Received { bytes, to_head, ended: false })
}
