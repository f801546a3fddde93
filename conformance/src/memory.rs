//! A shell in memory: it drives exchanges exactly as one with sockets does, with clients and hosts that follow a
//! script, clocks that move when told to, and every free choice drawn from one seed.
//!
//! ```text
//!  client_send ─▶ Pipe ─▶ Exchange ─▶ Pipe ─▶ host: reads requests, follows its script
//!  client_received ◀───── Exchange ◀─ Pipe ◀───┘
//! ```
//!
//! At every step the rules of the core are held: asking twice gives the same step; a send is not longer than what is
//! live; a link that goes to the pool has no half message on it; what a host receives is well framed; nothing runs
//! for ever. A broken rule panics with the seed.

mod upstream;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homing_core::clock::{Now, Tick, UnixSecs};
use homing_core::exchange::machine::{RequestState, ResponseState, Trace};
use homing_core::exchange::{Dial, Dialed, Direction, Exchange, LinkOrder, Over, Step};
use homing_core::hosts::HostCell;
use homing_core::limits::Limits;
use homing_core::log::{Clip, LogSink, Record, TARGET_KEPT};
use homing_core::rng::Rng;
use homing_core::route::ListenerId;
use homing_core::snapshot::Snapshot;
use homing_core::stats::{Counters, Outcome};
use homing_core::window::Window;
use homing_core::worker::{LinkKey, LinkLimits, Links, Obtained, Worker};

use crate::message::{Request, Response, responses};
pub use upstream::{Act, MemoryLink, Upstream, answer};
use upstream::{End, HostSide, Pipe, Wire};

/// Wall time at the start: some moment in 2024, so that dates have all their digits.
const EPOCH: u64 = 1_718_000_000;
/// More rounds than any test needs without the clock moving.
const ROUNDS_MAX: usize = 2_000_000;
/// More alarms than can come at one moment.
const ALARMS_MAX: usize = 1000;
const SWEEP_MILLIS: u64 = 1000;

/// How rough the shell is.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    /// Every read and write is cut at a size drawn from 1 to this; zero: none is cut.
    pub cut: u32,
    /// Operations under way keep their window until they complete or are given up, as under `io_uring`;
    /// otherwise the exchange is asked anew each time, as under `epoll`.
    pub completion: bool,
    /// Connections and directions take their turns in a drawn order, and miss turns; connecting takes time; the
    /// exchange is told of deadlines that have not come.
    pub disorder: bool,
}

/// What a host does with new connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Door {
    /// Takes them.
    #[default]
    Open,
    /// Refuses them.
    Refusing,
    /// Never answers.
    Hanging,
    /// Takes them and never reads.
    Deaf,
}

/// Names a client of a [`Lab`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClientId(usize);

/// How a client's connection was ended by the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// An orderly end: everything that was sent can be read.
    Close,
    /// Closed while the client's bytes were not all read: a kernel answers that with a reset, and what
    /// was sent last may be lost.
    CloseUnread,
    /// A reset.
    Reset,
}

/// A worker, its clients, and the hosts behind it.
pub struct Lab {
    seed: u64,
    knobs: Knobs,
    rng: Rng,
    worker: Worker,
    links: Links<MemoryLink>,
    clients: Vec<Option<Box<Client>>>,
    sides: Vec<HostSide>,
    doors: BTreeMap<String, Door>,
    upstream: Box<dyn Upstream>,
    requests: Vec<(String, Request)>,
    woken: BTreeSet<u32>,
    log: Arc<Mutex<Vec<Logged>>>,
    next_sweep: Tick,
    /// Wall time at tick zero.
    epoch: u64,
    trace: Trace,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("seed", &self.seed).field("knobs", &self.knobs).finish_non_exhaustive()
    }
}

struct Client {
    key: u32,
    exchange: Exchange,
    inbound: Window,
    outbound: Window,
    to_proxy: Pipe,
    received: Vec<u8>,
    /// Bytes the client still takes.
    credit: usize,
    /// The client has closed its socket: what it is sent is answered by a reset.
    gone: bool,
    half_closed: bool,
    ended: Option<Ended>,
    link: Option<Held>,
    dialing: Option<Dialing>,
    /// Operations under way, by direction.
    under_way: [Option<Step>; 2],
}

struct Held {
    key: LinkKey,
    link: MemoryLink,
}

struct Dialing {
    cell: Arc<HostCell>,
    address: String,
    dial: Dial,
    stage: Stage,
}

enum Stage {
    /// In the queue of a full host.
    Queued,
    /// So many rounds until it is known what becomes of it.
    Connecting(u32),
}

/// What is kept of a record.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// The facts.
    pub outcome: Outcome,
    /// The target as the log has it.
    pub target: Clip<TARGET_KEPT>,
}

struct Sink(Arc<Mutex<Vec<Logged>>>);

impl LogSink for Sink {
    fn push(&mut self, record: &Record<'_>) {
        let logged = Logged { outcome: *record.outcome, target: Clip::new(record.target) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(logged);
    }

    fn flush(&mut self) {}
}

impl Knobs {
    /// Everything that can be done is done at once, in one order.
    pub const PLAIN: Self = Self { cut: 0, completion: false, disorder: false };

    /// A mixture that follows from `seed`.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed ^ 0x6b6e_6f62);
        let cut = [0, 1, 3, 16, 200, 5000].get(rng.below(6) as usize).copied().unwrap_or(0);
        Self { cut, completion: rng.below(2) == 0, disorder: rng.below(4) != 0 }
    }
}

impl Lab {
    /// A worker that serves `snapshot`, with hosts that answer 200 to everything.
    pub fn new(snapshot: Arc<Snapshot>, seed: u64) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink: Box<dyn LogSink> = Box::new(Sink(Arc::clone(&log)));
        let links = Links::new(link_limits(&snapshot.limits));
        let mut worker = Worker::new(snapshot, Arc::new(Counters::default()), Some(sink), seed);
        worker.now = clocks(EPOCH, Tick::from_millis(SWEEP_MILLIS));
        Self {
            seed,
            knobs: Knobs::PLAIN,
            rng: Rng::seeded(seed),
            worker,
            links,
            clients: Vec::new(),
            sides: Vec::new(),
            doors: BTreeMap::new(),
            upstream: Box::new(|_: &str, _: &Request| {
                answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            }),
            requests: Vec::new(),
            woken: BTreeSet::new(),
            log,
            next_sweep: Tick::from_millis(2 * SWEEP_MILLIS),
            epoch: EPOCH,
            trace: Trace::default(),
        }
    }

    /// The same, with other hosts.
    #[must_use]
    pub fn with(mut self, upstream: impl Upstream + 'static) -> Self {
        self.upstream = Box::new(upstream);
        self
    }

    /// The same, rougher.
    #[must_use]
    pub fn rough(mut self, knobs: Knobs) -> Self {
        self.knobs = knobs;
        self
    }

    /// The same worker, but the shell's own choices follow from another seed: segmentation, order, missed turns.
    #[must_use]
    pub fn ordered_by(mut self, seed: u64) -> Self {
        (self.rng, self.seed) = (Rng::seeded(seed), seed);
        self
    }

    /// Puts another snapshot in force.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.links.set_limits(link_limits(&snapshot.limits));
        self.worker.publish(snapshot);
    }

    /// What `host` does with new connections from now on.
    pub fn door(&mut self, host: &str, door: Door) {
        self.doors.insert(host.to_owned(), door);
    }

    /// `host` closes its idle connections.
    pub fn host_closes_idle(&mut self, host: &str) {
        for side in self.sides.iter_mut().filter(|side| side.wire.borrow().host == host && side.is_idle()) {
            side.close();
        }
    }

    /// A new client on `listener`.
    pub fn connect(&mut self, listener: ListenerId) -> ClientId {
        let number = self.clients.len();
        let address = format!("10.9.{}.{}", number / 250, number % 250 + 1);
        self.clients.push(Some(Box::new(Client {
            key: u32::try_from(number).unwrap_or(u32::MAX),
            exchange: Exchange::new(listener, &address, &self.worker),
            inbound: Window::new(),
            outbound: Window::new(),
            to_proxy: Pipe::default(),
            received: Vec::new(),
            credit: usize::MAX,
            gone: false,
            half_closed: false,
            ended: None,
            link: None,
            dialing: None,
            under_way: [None, None],
        })));
        ClientId(number)
    }

    /// A new client on the first listener.
    pub fn client(&mut self) -> ClientId {
        self.connect(ListenerId(0))
    }

    /// The client sends `bytes`. They wait in its socket until [`Lab::run`].
    pub fn client_send(&mut self, id: ClientId, bytes: impl AsRef<[u8]>) {
        let client = self.at(id);
        if client.ended.is_none() && client.to_proxy.end == End::Open {
            client.to_proxy.bytes.extend(bytes.as_ref());
        }
    }

    /// The client closes its sending side and goes on to read.
    pub fn client_half_close(&mut self, id: ClientId) {
        self.at(id).to_proxy.end = End::Fin;
    }

    /// The client closes its socket.
    pub fn client_close(&mut self, id: ClientId) {
        let client = self.at(id);
        client.to_proxy.end = End::Fin;
        client.gone = true;
    }

    /// The client resets its connection.
    pub fn client_reset(&mut self, id: ClientId) {
        let client = self.at(id);
        client.to_proxy.end = End::Reset;
        client.gone = true;
    }

    /// The client takes only so many more bytes; `usize::MAX`: all.
    pub fn client_takes(&mut self, id: ClientId, credit: usize) {
        self.at(id).credit = credit;
    }

    /// Everything the client has received.
    pub fn client_received(&self, id: ClientId) -> &[u8] {
        self.see(id).map(|client| client.received.as_slice()).unwrap_or_default()
    }

    /// The responses the client has received, interim ones included. `methods` are those of its requests; missing
    /// ones are GET.
    ///
    /// # Panics
    /// When they are not well framed, or the last is not complete.
    pub fn client_responses(&self, id: ClientId, methods: &[&str]) -> Vec<Response> {
        let ended = self.client_ended(id).is_some() || self.client_is_half_closed(id);
        match responses(self.client_received(id), methods, ended) {
            Ok(found) => found,
            Err(broken) => self.fail(&format!("{id:?} received {broken}")),
        }
    }

    /// Whether the proxy has closed the connection, one way or another.
    pub fn client_is_closed(&self, id: ClientId) -> bool {
        self.client_ended(id).is_some()
    }

    /// Whether the proxy has closed its sending side, at least.
    pub fn client_is_half_closed(&self, id: ClientId) -> bool {
        self.see(id).is_some_and(|client| client.half_closed || client.ended.is_some())
    }

    /// How the proxy has ended the connection.
    pub fn client_ended(&self, id: ClientId) -> Option<Ended> {
        self.see(id)?.ended
    }

    /// The states of the client's exchange.
    pub fn client_states(&self, id: ClientId) -> (RequestState, ResponseState) {
        self.see(id).map(|client| client.exchange.states()).unwrap_or_default()
    }

    /// How many window buffers the client's connection holds.
    pub fn client_buffers(&self, id: ClientId) -> usize {
        self.see(id).map_or(0, |client| {
            usize::from(client.inbound.has_buffer()) + usize::from(client.outbound.has_buffer())
        })
    }

    /// The whole requests that hosts received, with the host's address, in order.
    pub fn requests(&self) -> &[(String, Request)] {
        &self.requests
    }

    /// Every connection to a host, in order: the host's address and all bytes the proxy sent.
    pub fn wires(&self) -> Vec<(String, Vec<u8>)> {
        let wire = |side: &HostSide| {
            let wire = side.wire.borrow();
            (wire.host.clone(), wire.sent.clone())
        };
        self.sides.iter().map(wire).collect()
    }

    /// Connections to hosts that the proxy has not closed.
    pub fn open_wires(&self) -> usize {
        self.sides.iter().filter(|side| !side.wire.borrow().proxy_gone).count()
    }

    /// Idle links in the pool.
    pub fn pooled(&self) -> usize {
        self.links.idle()
    }

    /// What was recorded so far, one for each request.
    pub fn outcomes(&self) -> Vec<Logged> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker's counters.
    pub fn counters(&self) -> &Counters {
        self.worker.counters()
    }

    /// Sets the wall clock; the other one goes on.
    pub fn set_wall(&mut self, wall: UnixSecs) {
        let tick = self.worker.now.tick;
        self.epoch = wall.get().saturating_sub(tick.millis() / 1000);
        self.worker.now = clocks(self.epoch, tick);
    }

    /// Which rows of the core's state tables the clients' exchanges have used. Empty without debug assertions.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        self.worker.now
    }

    /// The program stops: connections end after the request under way.
    pub fn drain(&mut self) {
        self.worker.stopping = true;
        self.each(|_, client| {
            client.exchange.drain();
        });
    }

    /// The drain deadline has passed.
    pub fn stop(&mut self) {
        self.each(|lab, client| client.exchange.stop(&mut lab.worker));
    }

    /// Goes on until nothing moves.
    ///
    /// # Panics
    /// When a rule of the core is broken.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let patient = self.knobs.disorder && self.rng.below(2) == 0;
            let moved = self.round(patient) || (patient && self.round(false));
            if !moved {
                return;
            }
        }
        let busy: Vec<_> = self.clients.iter().flatten().filter(|client| client.ended.is_none()).collect();
        let states: Vec<_> = busy.iter().map(|client| client.exchange.states()).collect();
        self.fail(&format!("never comes to rest: {states:?}"));
    }

    /// Moves both clocks on, stopping at every deadline on the way.
    pub fn advance(&mut self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX / 2);
        let target = Tick::from_millis(self.worker.now.tick.millis() + millis);
        let mut stuck = 0;
        loop {
            self.run();
            let deadlines = self.clients.iter().flatten().filter(|client| client.ended.is_none());
            let deadlines = deadlines.map(|client| client.exchange.deadline());
            let wakes = self.sides.iter().filter_map(|side| side.wake);
            let next = deadlines.chain(wakes).chain([self.next_sweep]).min().unwrap_or(target);
            if next > target {
                break;
            }
            let before = self.worker.now;
            self.worker.now = clocks(self.epoch, next.max(before.tick));
            self.expire();
            stuck = if before.tick == self.worker.now.tick { stuck + 1 } else { 0 };
            if stuck > ALARMS_MAX {
                let due = self.clients.iter().flatten().filter(|client| client.exchange.deadline() <= next);
                let due: Vec<_> = due.map(|client| (client.key, client.exchange.states())).collect();
                self.fail(&format!("a deadline that comes again and again: {due:?}"));
            }
        }
        self.worker.now = clocks(self.epoch, target);
        self.run();
    }

    fn expire(&mut self) {
        let now = self.worker.now.tick;
        if now >= self.next_sweep {
            self.links.sweep(now, MemoryLink::is_quiet);
            self.next_sweep = now.after(Duration::from_millis(SWEEP_MILLIS));
        }
        self.each(|lab, client| {
            if client.exchange.deadline() <= now {
                client.exchange.expired(&mut lab.worker);
            }
        });
    }

    fn round(&mut self, patient: bool) -> bool {
        let mut moved = false;
        for at in 0..self.sides.len() {
            let now = self.worker.now.tick;
            let Some(side) = self.sides.get_mut(at) else { continue };
            match side.turn(now, &mut *self.upstream, &mut self.requests) {
                Ok(one) => moved |= one,
                Err(broken) => self.fail(&broken),
            }
        }
        let count = self.clients.len();
        let first = if self.knobs.disorder { self.draw(count) } else { 0 };
        for at in (first..count).chain(0..first) {
            if !(patient && self.rng.below(3) == 0) {
                moved |= self.turn(at);
            }
        }
        moved
    }

    fn turn(&mut self, at: usize) -> bool {
        let Some(mut client) = self.take(at) else { return false };
        let mut directions = [Direction::Request, Direction::Response];
        if self.knobs.disorder {
            if self.rng.below(2) == 0 {
                directions.reverse();
            }
            if self.rng.below(8) == 0 {
                client.exchange.expired(&mut self.worker);
                self.follow(&mut client);
            }
        }
        let mut moved = false;
        for direction in directions {
            if client.ended.is_none() {
                let before = client.exchange.states();
                moved |= self.go(&mut client, direction);
                self.follow(&mut client);
                // A question in one direction can give the other something to do.
                moved |= client.exchange.states() != before;
            }
        }
        self.put(at, client);
        moved
    }

    /// One direction's step. True: something moved.
    fn go(&mut self, client: &mut Client, direction: Direction) -> bool {
        let slot = direction as usize;
        let kept = client.under_way.get_mut(slot).and_then(Option::take);
        let step = match kept {
            Some(Step::Fill) if !client.exchange.wants_fill(direction) => self.ask(client, direction),
            Some(step) => step,
            None => self.ask(client, direction),
        };
        self.follow(client);
        if client.ended.is_some() {
            return true;
        }
        let moved = match (step, direction) {
            (Step::Hold, _) => return false,
            (Step::Rest, _) => self.rest(client),
            (Step::Fill, Direction::Request) => self.fill_from_client(client),
            (Step::Fill, Direction::Response) => self.fill_from_host(client),
            (Step::Send(count), Direction::Request) => self.send_to_host(client, count),
            (Step::Send(count), Direction::Response) => self.send_to_client(client, count),
            (Step::Dial(dial), _) => self.dial(client, dial),
            (Step::HalfClose, Direction::Request) => {
                let Some(held) = &client.link else { self.fail("half-close without a link") };
                held.link.0.borrow_mut().to_host.end = End::Fin;
                client.exchange.half_closed(direction, &mut self.worker);
                true
            }
            (Step::HalfClose, Direction::Response) => {
                client.half_closed = true;
                client.exchange.half_closed(direction, &mut self.worker);
                true
            }
        };
        if !moved
            && self.knobs.completion
            && matches!(step, Step::Fill | Step::Send(_))
            && let Some(place) = client.under_way.get_mut(slot)
        {
            *place = Some(step);
        }
        moved
    }

    /// Asks twice, and holds the answers against each other and against the window.
    fn ask(&mut self, client: &mut Client, direction: Direction) -> Step {
        let Client { exchange, inbound, outbound, .. } = client;
        let window = match direction {
            Direction::Request => inbound,
            Direction::Response => outbound,
        };
        let mut once = |worker: &mut Worker| {
            let step = match direction {
                Direction::Request => exchange.request(window, worker),
                Direction::Response => exchange.response(window, worker),
            };
            (step, exchange.states(), window.live().len())
        };
        let first = once(&mut self.worker);
        let second = once(&mut self.worker);
        if first != second {
            self.fail(&format!(
                "{direction:?}: {:?} in {:?}, then {:?} in {:?}",
                first.0, first.1, second.0, second.1
            ));
        }
        if let Step::Send(count) = first.0
            && (count == 0 || count > first.2)
        {
            self.fail(&format!("{direction:?}: Send({count}) of {} live bytes", first.2));
        }
        first.0
    }

    fn rest(&mut self, client: &mut Client) -> bool {
        if client.link.is_some() {
            self.fail("a connection rests and keeps its link");
        }
        self.worker.windows.reclaim(&mut client.inbound);
        self.worker.windows.reclaim(&mut client.outbound);
        if client.inbound.has_buffer() || client.outbound.has_buffer() {
            self.fail("a connection rests with bytes in its windows");
        }
        self.fill_from_client(client)
    }

    fn fill_from_client(&mut self, client: &mut Client) -> bool {
        let Client { exchange, inbound, to_proxy, .. } = client;
        if to_proxy.bytes.is_empty() && to_proxy.end == End::Open {
            return false;
        }
        self.worker.windows.lend(inbound);
        if inbound.spare_len() == 0 {
            self.fail("Fill of the inbound window, which is full");
        }
        match (to_proxy.bytes.len(), to_proxy.end) {
            (0, End::Fin) => exchange.filled(Direction::Request, inbound, 0, &mut self.worker),
            (0, _) => exchange.fill_failed(Direction::Request, inbound, &mut self.worker),
            (waiting, _) => {
                let count = self.cut(waiting.min(inbound.spare_len()));
                receive(inbound, to_proxy, count);
                exchange.filled(Direction::Request, inbound, count, &mut self.worker);
            }
        }
        true
    }

    fn fill_from_host(&mut self, client: &mut Client) -> bool {
        let Client { exchange, outbound, link, .. } = client;
        let Some(held) = link else { self.fail("Fill without a link") };
        let mut wire = held.link.0.borrow_mut();
        if wire.to_proxy.bytes.is_empty() && wire.to_proxy.end == End::Open {
            return false;
        }
        self.worker.windows.lend(outbound);
        if outbound.spare_len() == 0 {
            self.fail("Fill of the outbound window, which is full");
        }
        match (wire.to_proxy.bytes.len(), wire.to_proxy.end) {
            (0, End::Fin) => exchange.filled(Direction::Response, outbound, 0, &mut self.worker),
            (0, _) => exchange.fill_failed(Direction::Response, outbound, &mut self.worker),
            (waiting, _) => {
                let count = self.cut(waiting.min(outbound.spare_len()));
                let bytes = receive(outbound, &mut wire.to_proxy, count);
                wire.received.extend(bytes);
                exchange.filled(Direction::Response, outbound, count, &mut self.worker);
            }
        }
        true
    }

    fn send_to_host(&mut self, client: &mut Client, count: usize) -> bool {
        let Client { exchange, inbound, link, .. } = client;
        let Some(held) = link else { self.fail("Send without a link") };
        let mut wire = held.link.0.borrow_mut();
        if wire.to_proxy.end == End::Reset {
            drop(wire);
            exchange.send_failed(Direction::Request, &mut self.worker);
            return true;
        }
        if wire.host_gone {
            // The kernel takes the bytes; the host's answers with a reset.
            wire.to_proxy.end = End::Reset;
        }
        let room = wire.to_host.capacity.saturating_sub(wire.to_host.bytes.len());
        let count = self.cut(count.min(room));
        if count == 0 {
            return false;
        }
        let bytes = inbound.live().get(..count).unwrap_or_default();
        wire.to_host.bytes.extend(bytes);
        wire.sent.extend_from_slice(bytes);
        drop(wire);
        exchange.sent(Direction::Request, inbound, count, &mut self.worker);
        true
    }

    fn send_to_client(&mut self, client: &mut Client, count: usize) -> bool {
        if client.half_closed {
            self.fail("Send behind the end of the sending side");
        }
        if client.gone {
            // A closed socket's kernel answers the first bytes with a reset, which the next call sees.
            if client.to_proxy.end == End::Reset {
                client.exchange.send_failed(Direction::Response, &mut self.worker);
                return true;
            }
            client.to_proxy.end = End::Reset;
        }
        let count = self.cut(count.min(client.credit));
        if count == 0 {
            return false;
        }
        let bytes = client.outbound.live().get(..count).unwrap_or_default();
        client.received.extend_from_slice(bytes);
        if client.credit != usize::MAX {
            client.credit -= count;
        }
        client.exchange.sent(Direction::Response, &mut client.outbound, count, &mut self.worker);
        true
    }

    /// A dial that is wanted: begun, waiting, or come to something.
    fn dial(&mut self, client: &mut Client, dial: Dial) -> bool {
        let Some(dialing) = client.dialing.take() else { return self.dial_begins(client, dial) };
        if !client.exchange.wants_dial() {
            let result = self.give_up(client.key, &dialing);
            client.exchange.dialed(result, &mut self.worker);
            return true;
        }
        if dialing.dial != dial {
            self.fail(&format!("dialling {:?}, now asked for {dial:?}", dialing.dial));
        }
        match dialing.stage {
            Stage::Queued if self.woken.remove(&client.key) => self.obtain(client, dialing),
            Stage::Queued => {
                client.dialing = Some(dialing);
                false
            }
            Stage::Connecting(rounds) => self.connecting(client, dialing, rounds),
        }
    }

    fn dial_begins(&mut self, client: &mut Client, dial: Dial) -> bool {
        let Some(host) = client.exchange.host(dial.host()) else {
            self.fail("a dial to a host that is not there")
        };
        let (cell, address) = (Arc::clone(host.shared_cell()), host.address().to_owned());
        if let Some(held) = client.link.take() {
            if held.key == LinkKey::of(&cell) && !dial.fresh() && (!dial.checked() || held.link.is_quiet()) {
                client.link = Some(held);
                client.exchange.dialed(Dialed::Reused, &mut self.worker);
                return true;
            }
            self.pool(held);
        }
        self.obtain(client, Dialing { cell, address, dial, stage: Stage::Queued })
    }

    fn obtain(&mut self, client: &mut Client, mut dialing: Dialing) -> bool {
        let key = LinkKey::of(&dialing.cell);
        loop {
            match self.links.obtain(&dialing.cell, client.key, dialing.dial.fresh()) {
                Obtained::Link(link) if !link.is_quiet() => {
                    drop(link);
                    let next = self.links.closed(key);
                    self.wake(next);
                }
                Obtained::Link(link) => {
                    client.link = Some(Held { key, link });
                    client.exchange.dialed(Dialed::Reused, &mut self.worker);
                    return true;
                }
                Obtained::Connect => {
                    client.exchange.dial_begins(&self.worker);
                    let rounds = if self.knobs.disorder { self.rng.below(3) } else { 0 };
                    return self.connecting(client, dialing, rounds);
                }
                Obtained::Wait => {
                    client.exchange.dial_waits(&self.worker);
                    dialing.stage = Stage::Queued;
                    client.dialing = Some(dialing);
                    return true;
                }
                Obtained::Full => {
                    client.exchange.dialed(Dialed::Full, &mut self.worker);
                    return true;
                }
            }
        }
    }

    fn connecting(&mut self, client: &mut Client, mut dialing: Dialing, rounds: u32) -> bool {
        let door = self.doors.get(&dialing.address).copied().unwrap_or_default();
        if door == Door::Hanging || rounds > 0 {
            dialing.stage = Stage::Connecting(rounds.saturating_sub(1));
            client.dialing = Some(dialing);
            return door != Door::Hanging;
        }
        let key = LinkKey::of(&dialing.cell);
        if door == Door::Refusing {
            let next = self.links.closed(key);
            self.wake(next);
            client.exchange.dialed(Dialed::Failed, &mut self.worker);
            return true;
        }
        let wire = Rc::new(RefCell::new(Wire { host: dialing.address, ..Wire::default() }));
        self.sides.push(HostSide::new(Rc::clone(&wire), door != Door::Deaf));
        client.link = Some(Held { key, link: MemoryLink(wire) });
        client.exchange.dialed(Dialed::Fresh, &mut self.worker);
        true
    }

    /// Drops a dial that is not wanted any more.
    fn give_up(&mut self, key: u32, dialing: &Dialing) -> Dialed {
        let host = LinkKey::of(&dialing.cell);
        self.woken.remove(&key);
        match dialing.stage {
            Stage::Queued => {
                let next = self.links.give_up(host, key);
                self.wake(next);
                Dialed::Full
            }
            Stage::Connecting(_) => {
                let next = self.links.closed(host);
                self.wake(next);
                Dialed::Failed
            }
        }
    }

    /// Carries out what the exchange says beside its steps.
    fn follow(&mut self, client: &mut Client) {
        if let Some(order) = client.exchange.take_link_order() {
            let Some(held) = client.link.take() else {
                self.fail(&format!("{order:?} without a link in {:?}", client.exchange.states()))
            };
            // Operations on the link end with it; so does their hold on the windows.
            client.under_way[1] = client.under_way[1].filter(|step| *step != Step::Fill);
            client.under_way[0] = client.under_way[0].filter(|step| *step == Step::Fill);
            match order {
                LinkOrder::Pool => self.pool(held),
                LinkOrder::Close => {
                    drop(held.link);
                    let next = self.links.closed(held.key);
                    self.wake(next);
                }
            }
        }
        let Some(over) = client.exchange.over().filter(|_| client.ended.is_none()) else { return };
        if let Some(dialing) = client.dialing.take() {
            self.give_up(client.key, &dialing);
        }
        if client.link.is_some() {
            self.fail("a connection is over and its link was not spoken of");
        }
        client.ended = Some(match over {
            Over::Abort => Ended::Reset,
            Over::Close if client.to_proxy.bytes.is_empty() => Ended::Close,
            Over::Close => Ended::CloseUnread,
        });
        self.worker.windows.retire(&mut client.inbound);
        self.worker.windows.retire(&mut client.outbound);
    }

    fn pool(&mut self, held: Held) {
        if let Some(why) = held.link.unclean() {
            self.fail(&format!("a link goes to the pool with {why}"));
        }
        let next = self.links.release(held.key, held.link, self.worker.now.tick);
        self.wake(next);
    }

    fn wake(&mut self, next: Option<u32>) {
        self.woken.extend(next);
    }

    fn cut(&mut self, count: usize) -> usize {
        match self.knobs.cut {
            0 => count,
            most => count.min(1 + self.rng.below(most) as usize),
        }
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.rng.below(u32::try_from(bound).unwrap_or(u32::MAX)) as usize
    }

    fn each(&mut self, mut change: impl FnMut(&mut Self, &mut Client)) {
        for at in 0..self.clients.len() {
            if let Some(mut client) = self.take(at) {
                change(self, &mut client);
                self.follow(&mut client);
                self.put(at, client);
            }
        }
    }

    /// Takes a client that has not ended out of its place, to be put back.
    fn take(&mut self, at: usize) -> Option<Box<Client>> {
        self.clients.get_mut(at)?.take_if(|client| client.ended.is_none())
    }

    fn put(&mut self, at: usize, client: Box<Client>) {
        let used = client.exchange.trace();
        self.trace.request |= used.request;
        self.trace.response |= used.response;
        self.trace.joint |= used.joint;
        if let Some(place) = self.clients.get_mut(at) {
            *place = Some(client);
        }
    }

    fn see(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id.0)?.as_deref()
    }

    fn at(&mut self, id: ClientId) -> &mut Client {
        let seed = self.seed;
        match self.clients.get_mut(id.0) {
            Some(Some(client)) => client,
            _ => panic!("{id:?} is not of this lab (seed {seed})"),
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\nseed {}, {:?}", self.seed, self.knobs)
    }
}

/// Copies `count` bytes into the window's spare part, without taking note of them there.
fn receive(window: &mut Window, pipe: &mut Pipe, count: usize) -> Vec<u8> {
    let bytes: Vec<u8> = pipe.bytes.drain(..count).collect();
    if let Some(to) = window.spare_mut().get_mut(..count) {
        to.copy_from_slice(&bytes);
    }
    bytes
}

fn clocks(epoch: u64, tick: Tick) -> Now {
    Now { tick, wall: UnixSecs::new(epoch + tick.millis() / 1000) }
}

fn link_limits(limits: &Limits) -> LinkLimits {
    LinkLimits {
        connections: limits.host_connections,
        idle: limits.host_idle,
        pending: limits.host_pending,
        idle_timeout: limits.link_idle_timeout,
    }
}
