//! Change under load: clients at a constant rate, with sessions, keep-alive and new connections, WebSocket-like tunnels and
//! event streams that stay open throughout, while hosts come, go, drain, fall ill, recover and die, by reloads of the whole
//! configuration and by the handle of the service, as fast as they can be made.
//!
//! There are three kinds of hosts, and what may happen to a session follows from the kind of its home:
//!
//! | kind | what happens to it | what may happen to its sessions |
//! |---|---|---|
//! | steady | drained, leaving, open; healthy, degraded, unknown; weights | nothing: not one request fails or moves |
//! | volatile | leaves and returns; barred; unhealthy | soft ones move, strict ones are refused; no request fails |
//! | mortal | dies with all its connections, and is revived | as volatile, and requests in flight at its death may fail |
//!
//! In the end the access log must account for every request, by the reasons that the clients have seen.
//!
//! ```text
//! HOMING_CHURN_SECONDS=600 HOMING_CHURN_SEED=7 cargo test --release -p homing-conformance --test churn -- --nocapture
//! ```
//!
//! `HOMING_CHURN_SECONDS` is for each shell, 2 by default. The seed is printed; it gives the same changes and the same
//! clients again, though threads meet differently.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, with more of it in helpers than in test functions"
)]

#[path = "churn/clients.rs"]
mod clients;
#[path = "churn/hosts.rs"]
mod hosts;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Session, Tally};
use homing::config::{BindAddress, Settings, compile_texts};
use homing::control::{Handle, ReloadReason};
use homing::shell::{Service, ShellError};
use homing_core::hosts::{Admission, Health};
use homing_core::rng::Rng;
use hosts::{Host, Kind};

/// Clients of each of the two listeners, and the requests each makes in a second.
const CLIENTS: u32 = 6;
const RATE: u32 = 40;
/// Between two changes, at most; half of it on average.
const PAUSE_MICROS: u32 = 4000;

#[test]
fn change_under_load() {
    let seconds = variable("HOMING_CHURN_SECONDS").unwrap_or(2);
    let seed = variable("HOMING_CHURN_SEED").unwrap_or(2026);
    // One after another: three at once would share the machine.
    for runtime in ["mio", "tokio", "monoio"] {
        println!("{runtime}: {seconds} s, HOMING_CHURN_SEED={seed}");
        churn(runtime, Duration::from_secs(seconds), seed);
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// What all threads of one run share.
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) over: AtomicBool,
    faults: Mutex<Vec<String>>,
}

impl World {
    /// Notes what must not happen.
    pub(crate) fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The host that calls itself so.
    pub(crate) fn host(&self, address: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == address).unwrap()
    }
}

fn churn(runtime: &str, duration: Duration, seed: u64) {
    let kinds = [Kind::Steady, Kind::Volatile, Kind::Mortal];
    let hosts = kinds.iter().flat_map(|&kind| [kind; 3]).map(Host::start).collect();
    let world = Arc::new(World { hosts, over: AtomicBool::new(false), faults: Mutex::default() });
    let log = log_file(runtime);
    let mut plan =
        Plan { runtime: runtime.to_owned(), log: log.clone(), written: vec![Written::default(); 9] };
    let service = match Service::embedded(plan.settings(&world)) {
        Ok(service) => service,
        Err(error @ ShellError::Runtime { .. }) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let [BindAddress::Tcp(soft), BindAddress::Tcp(firm)] = service.ready.addresses[..] else {
        panic!("{:?}", service.ready)
    };
    let end = Instant::now() + duration;
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let world = &*world;
        // Streams that stay open throughout, at homes that never leave and at homes that come and go.
        let held: Vec<_> = world.hosts.iter().filter(|host| host.kind != Kind::Mortal).collect();
        let sessions: Vec<_> = held.iter().map(|host| Session::begin_at(soft, &host.name)).collect();
        let streams: Vec<_> = sessions
            .into_iter()
            .flat_map(|(session, asked)| {
                tally.new += asked;
                let tunnel = session.open("/tunnel");
                let events = session.open("/events");
                [
                    scope.spawn(move || tunnel.hold_tunnel(world)),
                    scope.spawn(move || events.hold_events(world)),
                ]
            })
            .collect();
        let seeds = (1..=u64::from(CLIENTS)).map(|nth| seed.wrapping_mul(0x9e37_79b9).wrapping_add(nth));
        let clients: Vec<_> = seeds
            .flat_map(|seed| {
                let run =
                    move |address, strict| clients::run(address, strict, RATE, Rng::seeded(seed), world);
                [scope.spawn(move || run(soft, false)), scope.spawn(move || run(firm, true))]
            })
            .collect();
        let handle = service.handle();
        let changes = plan.churn(&handle, world, Rng::seeded(seed), end);
        world.over.store(true, Ordering::Relaxed);
        for client in clients {
            tally.add(&client.join().unwrap());
        }
        // The streams must have lived until now.
        for stream in streams {
            tally.stayed += stream.join().unwrap();
        }
        println!("{runtime}: {changes} changes, {}", tally.show());
        let rejected = handle.reloads(ReloadReason::Rejected) + handle.reloads(ReloadReason::Draining);
        assert_eq!(rejected, 0);
    });
    let counted = service.counters().to_vec();
    service.end();
    let faults = std::mem::take(&mut *world.faults.lock().unwrap());
    assert!(
        faults.is_empty(),
        "{runtime}, seed {seed}, {} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    let total: u64 =
        counted.iter().flat_map(|each| &each.reasons).map(homing_core::stats::Counter::get).sum();
    let open: u64 = counted.iter().map(|each| each.accepted.get() - each.closed.get()).sum();
    assert_eq!(
        (total, open),
        (tally.total(), 0),
        "{runtime}, seed {seed}: requests counted, connections left"
    );
    account(&log, &tally, &format!("{runtime}, seed {seed}"));
}

fn log_file(runtime: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("churn");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{runtime}-access.log"));
    let _ = fs::remove_file(&file);
    file
}

/// Holds what the access log says of every request against what the clients saw.
fn account(log: &Path, tally: &Tally, which: &str) {
    let text = fs::read_to_string(log).unwrap();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = Tally::default();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (Some(reason), Some(status)) = (line["reason"].as_str(), line["status"].as_u64()) else {
            panic!("{which}: {line}: the log lost records, or they have no reason")
        };
        *reasons.entry(format!("{reason} {}", line["ending"].as_str().unwrap())).or_default() += 1;
        match (reason, status) {
            ("pinned", 200 | 101) => seen.stayed += 1,
            ("placed.absent", 200) => seen.new += 1,
            // A session without a home that met a dead host first.
            ("moved.connect_failed" | "moved.reset", 200) => seen.moved += 1,
            ("placed.gone" | "placed.barred", 200) => seen.moved += 1,
            ("refused.gone", 410) | ("refused.barred" | "refused.connect_failed", 503) => seen.refused += 1,
            // In flight at a host that died. A connection that is refused must lead to another host.
            (_, 502 | 503) if line["ending"] == "upstream_reset" => seen.failed += 1,
            _ => panic!("{which}: nobody asked for {line}"),
        }
    }
    println!("{which}: {reasons:?}");
    // Where the balancer's host was dead, the log says moved and the client saw a new session.
    assert_eq!(seen.new + seen.moved, tally.new + tally.moved, "{which}: placed; {seen:?} {tally:?}");
    assert!(seen.new <= tally.new, "{which}: {seen:?} {tally:?}");
    assert_eq!(seen.stayed, tally.stayed, "{which}: pinned");
    assert_eq!(seen.refused, tally.refused, "{which}: refused");
    assert_eq!(seen.failed, tally.failed, "{which}: failed");
}

/// The configuration, and how it goes on.
struct Plan {
    runtime: String,
    log: PathBuf,
    /// By host.
    written: Vec<Written>,
}

/// What the file says of a host.
#[derive(Clone)]
struct Written {
    absent: bool,
    weight: u32,
    admission: Admission,
}

impl Default for Written {
    fn default() -> Self {
        Self { absent: false, weight: 1, admission: Admission::Open }
    }
}

/// No time-outs: a machine that stands still for a minute is not what is tested here.
const LIMITS: &str = "{ connectTimeout: 0s, responseTimeout: 0s, bodyIdleTimeout: 0s, tunnelIdleTimeout: 0s, \
                      keepAliveTimeout: 0s, requestHeadTimeout: 0s }";

/// What keeps a home.
const KEEPS: [Admission; 3] = [Admission::Open, Admission::Draining, Admission::Leaving];
const USABLE: [Health; 3] = [Health::Unknown, Health::Healthy, Health::Degraded];

impl Plan {
    fn settings(&self, world: &World) -> Settings {
        let mut hosts = String::new();
        for (host, written) in world.hosts.iter().zip(&self.written).filter(|(_, written)| !written.absent) {
            hosts += &format!(
                "  - {{ address: \"{}\", weight: {}, admission: {} }}\n",
                host.name,
                written.weight,
                written.admission.as_str()
            );
        }
        let text = format!(
            "workers: 2\nruntime: {}\naccessLog: {{ to: {} }}\nlimits: {LIMITS}\n\
             routes: [{{ forward: {{ cluster: app }} }}]\nlisteners:\n\
             - {{ name: soft, address: \"127.0.0.1:0\", statefulSession: {{ headerBased: {{ headerName: x-session }} }} }}\n\
             - {{ name: firm, address: \"127.0.0.1:0\", statefulSession: {{ headerBased: {{ headerName: x-session }}, \
             strict: true, statusOnStrictDestinationNotFound: 410 }} }}\n\
             clusters:\n- name: app\n  hosts:\n{hosts}",
            self.runtime,
            self.log.display()
        );
        match compile_texts(&[("churn.yaml", &text)], &|_, _| Err(ErrorKind::NotFound.into())) {
            Ok(settings) => settings,
            Err(error) => panic!("{error}"),
        }
    }

    /// Makes changes until the end; how many.
    fn churn(&mut self, handle: &Handle, world: &World, mut rng: Rng, end: Instant) -> u64 {
        let mut changes = 0;
        while Instant::now() < end {
            // The first host stays open and healthy, so that there always is a place for a new session.
            let at = 1 + rng.below(8) as usize;
            let (host, kind) = (&world.hosts[at], world.hosts[at].kind);
            match rng.below(10) {
                0..=4 => self.rewrite(at, kind, handle, world, &mut rng),
                5 | 6 => {
                    let choices: &[Health] = if kind == Kind::Volatile { &Health::ALL } else { &USABLE };
                    let health = choices[rng.below(choices.len() as u32) as usize];
                    // A host that has just left cannot be told.
                    assert!(handle.set_health("app", &host.name, health).is_ok() || self.written[at].absent);
                }
                7 | 8 => {
                    let barred = kind == Kind::Volatile && rng.below(4) == 0;
                    let admission = if barred { Admission::Barred } else { KEEPS[rng.below(3) as usize] };
                    let told = handle.set_admission("app", &host.name, admission);
                    assert!(told.is_ok() || self.written[at].absent);
                }
                // One at a time, so that whoever meets a dead host finds a living one at the next try.
                _ if host.is_dead() || kind == Kind::Mortal && !world.hosts.iter().any(Host::is_dead) => {
                    host.die_or_revive();
                }
                _ => continue,
            }
            changes += 1;
            thread::sleep(Duration::from_micros(rng.below(PAUSE_MICROS).into()));
        }
        changes
    }

    /// Writes something else of a host, and reloads.
    fn rewrite(&mut self, at: usize, kind: Kind, handle: &Handle, world: &World, rng: &mut Rng) {
        let written = &mut self.written[at];
        written.weight = 1 + rng.below(5);
        if kind == Kind::Volatile {
            written.absent = rng.below(2) == 0;
        } else {
            written.admission = KEEPS[rng.below(3) as usize];
        }
        let before = handle.snapshot().generation;
        let changes = handle.reload(self.settings(world)).unwrap();
        assert_eq!((changes.generation, changes.restart), (before + 1, Vec::new()));
    }
}
