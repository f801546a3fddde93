//! The HTTP matrix over sockets, on all three shells. Several lanes share the work: each has a listener of the proxy, an
//! upstream of its own, and takes one case after another, so that links to the upstream live on from case to case, as
//! they do in service.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, with more of it in helpers than in test functions"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use homing::config::{BindAddress, Settings, compile_texts};
use homing::shell::{Service, ShellError};
use homing_conformance::matrix::{CANARY, Case, Observed, all};
use homing_conformance::message::{Progress, Request, read_request};

const LANES: usize = 8;
/// Nothing takes so long unless it hangs; then the test fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn mio() {
    check("mio");
}

#[test]
fn monoio() {
    check("monoio");
}

#[test]
fn tokio() {
    check("tokio");
}

fn check(runtime: &str) {
    let lanes: Vec<Arc<Lane>> = (0..LANES).map(|_| Lane::open()).collect();
    let service = match Service::embedded(settings(runtime, &lanes)) {
        Ok(service) => service,
        Err(error @ ShellError::Runtime { .. }) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let cases: Vec<Arc<Case>> = all().unwrap().into_iter().map(Arc::new).collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (lane, address) in lanes.iter().zip(&service.ready.addresses) {
            let BindAddress::Tcp(address) = address else { panic!("{address:?} is no TCP address") };
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let faults = lane.run(case, *address);
                    if !faults.is_empty() {
                        let line = format!("{}: {}", case.name, faults.join("; "));
                        wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    }
                }
            });
        }
    });
    service.end();
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{runtime}, {} cases:\n{}", wrong.len(), wrong.join("\n"));
    println!("{runtime}: {} cases", cases.len());
}

fn settings(runtime: &str, lanes: &[Arc<Lane>]) -> Settings {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for (nth, lane) in lanes.iter().enumerate() {
        listeners += &format!(
            "- {{ name: l{nth}, address: \"127.0.0.1:0\", routes: [{{ forward: {{ cluster: c{nth} }} }}] }}\n"
        );
        clusters += &format!("- {{ name: c{nth}, hosts: [\"{}\"] }}\n", lane.upstream);
    }
    let text = format!("workers: 1\nruntime: {runtime}\nlisteners:\n{listeners}clusters:\n{clusters}");
    match compile_texts(&[("matrix.yaml", &text)], &|_, _| Err(ErrorKind::NotFound.into())) {
        Ok(settings) => settings,
        Err(error) => panic!("{error}"),
    }
}

/// An upstream, and what it is to play at the moment.
struct Lane {
    upstream: SocketAddr,
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    case: Option<Arc<Case>>,
    requests: Vec<Request>,
    broken: Vec<String>,
}

impl Lane {
    fn open() -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let upstream = listener.local_addr().unwrap();
        let lane = Arc::new(Self { upstream, stage: Mutex::default() });
        let host = Arc::clone(&lane);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, host) = (stream.unwrap(), Arc::clone(&host));
                thread::spawn(move || host.serve(stream));
            }
        });
        lane
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a case and says what is wrong with it.
    fn run(&self, case: &Arc<Case>, proxy: SocketAddr) -> Vec<String> {
        *self.stage() = Stage { case: Some(Arc::clone(case)), ..Stage::default() };
        let (received, reset) = match ask(case, proxy) {
            Ok(answer) => answer,
            Err(fault) => return vec![fault],
        };
        let Stage { requests, broken, .. } = std::mem::take(&mut *self.stage());
        let mut faults = broken;
        faults.extend(case.faults(&Observed { received, reset, requests }));
        faults
    }

    /// One connection of the proxy's.
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut inbox = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match read_request(&inbox) {
                Ok(Progress::Done(request, used)) => {
                    inbox.drain(..used);
                    let Some(case) = self.stage().case.clone() else { return };
                    let (answer, switches, closes) =
                        (case.answer(&request), case.switches(&request), case.closes(&request));
                    self.stage().requests.push(request);
                    if stream.write_all(&answer).is_err() || closes {
                        return;
                    }
                    if switches {
                        return echo(stream, inbox);
                    }
                    continue;
                }
                Ok(Progress::Partial | Progress::Head(_)) => {}
                Err(broken) => return self.stage().broken.push(format!("the upstream got {broken}")),
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => inbox.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// Sends back what comes until it ends in the canary, and closes.
fn echo(mut stream: TcpStream, mut seen: Vec<u8>) {
    let mut buffer = [0; 4096];
    let mut echoed = 0;
    while stream.write_all(&seen[echoed..]).is_ok() && !seen.ends_with(CANARY) {
        echoed = seen.len();
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Sends the case and reads to the end: what came, and whether the end was a reset.
fn ask(case: &Case, proxy: SocketAddr) -> Result<(Vec<u8>, bool), String> {
    let mut stream = TcpStream::connect(proxy).map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A refusal may come before everything is sent.
    let _ = stream.write_all(&case.sent());
    if case.client_ends() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((received, false)),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok((received, true)),
            Err(error) => {
                return Err(format!("no end after {:?}: {error}", received.escape_ascii().to_string()));
            }
        }
    }
}
