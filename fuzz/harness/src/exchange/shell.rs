//! A shell for one connection that does one thing at a time, and holds the core to its rules while it does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homing_conformance::message::{Progress, read_request, read_response};
use homing_core::clock::{Now, Tick, UnixSecs};
use homing_core::exchange::machine::{RequestState, ResponseState};
use homing_core::exchange::{Dial, Dialed, Direction, Exchange, LinkOrder, Over, Step};
use homing_core::hosts::HostRef;
use homing_core::log::{LogSink, Record};
use homing_core::route::ListenerId;
use homing_core::stats::{Counters, Outcome};
use homing_core::window::Window;
use homing_core::worker::Worker;

use homing_core::snapshot::Snapshot;

/// Some moment in 2024.
const EPOCH: u64 = 1_718_000_000;
/// More deadlines than a connection can have once everybody is silent, and one for each byte that is still to be read:
/// every request in line may have to wait for its host.
const DEADLINES_MAX: usize = 40;

/// One side's bytes that have not been received yet, and what is behind them.
#[derive(Default)]
struct Source {
    bytes: VecDeque<u8>,
    closed: bool,
    reset: bool,
}

/// A connection to a host.
#[derive(Default)]
struct Link {
    host: Option<HostRef>,
    sent: Vec<u8>,
    received: Source,
    /// How often a request may have begun here.
    dialled: usize,
    /// Bytes pass unseen from here on.
    tunnel: bool,
    half_closed: bool,
}

pub(super) struct Shell {
    exchange: Exchange,
    worker: Worker,
    inbound: Window,
    outbound: Window,
    client: Source,
    to_client: Vec<u8>,
    client_half_closed: bool,
    /// A 101 was passed on: what follows is no HTTP.
    tunnelled: bool,
    link: Option<Link>,
    /// What a host will say on the link that is dialled next.
    script: Source,
    dialing: Option<Dial>,
    next_dial: Dialed,
    /// A dial was asked for and did not come to anything yet.
    dial_asked: bool,
    records: Arc<Mutex<Vec<Logged>>>,
    over: Option<Over>,
    leaves: bool,
    /// What need not be looked at goes past the windows.
    passes: bool,
}

/// What is kept of a record.
struct Logged {
    outcome: Outcome,
    method: Vec<u8>,
}

struct Sink(Arc<Mutex<Vec<Logged>>>);

impl LogSink for Sink {
    fn push(&mut self, record: &Record<'_>) {
        let logged = Logged { outcome: *record.outcome, method: record.method.to_vec() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(logged);
    }

    fn flush(&mut self) {}
}

impl Shell {
    pub(super) fn new(snapshot: Arc<Snapshot>, seed: u64) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let sink: Box<dyn LogSink> = Box::new(Sink(Arc::clone(&records)));
        let mut worker = Worker::new(snapshot, Arc::new(Counters::default()), Some(sink), seed);
        worker.now = clocks(Tick::from_millis(1000));
        Self {
            exchange: Exchange::new(ListenerId(0), "10.9.9.9", &worker),
            worker,
            inbound: Window::new(),
            outbound: Window::new(),
            client: Source::default(),
            to_client: Vec::new(),
            client_half_closed: false,
            tunnelled: false,
            link: None,
            script: Source::default(),
            dialing: None,
            next_dial: Dialed::Fresh,
            dial_asked: false,
            records,
            over: None,
            leaves: seed.is_multiple_of(2),
            passes: seed & 2 == 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    pub(super) fn client_says(&mut self, bytes: &[u8]) {
        if !self.client.closed {
            self.client.bytes.extend(bytes);
        }
    }

    /// The host speaks on the link there is, or on the next one.
    pub(super) fn host_says(&mut self, bytes: &[u8]) {
        let source = self.host();
        if !source.closed {
            source.bytes.extend(bytes);
        }
    }

    pub(super) fn says_much(&mut self, client: bool, count: usize) {
        let source = if client { &mut self.client } else { self.host() };
        if !source.closed {
            source.bytes.extend(std::iter::repeat_n(b'x', count));
        }
    }

    pub(super) fn client_ends(&mut self, reset: bool) {
        self.client.closed = true;
        self.client.reset |= reset;
    }

    pub(super) fn host_ends(&mut self, reset: bool) {
        let source = self.host();
        source.closed = true;
        source.reset |= reset;
    }

    pub(super) fn next_dials(&mut self, dialed: Dialed) {
        self.next_dial = dialed;
    }

    pub(super) fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.worker.publish(snapshot);
    }

    pub(super) fn drain(&mut self) {
        self.worker.stopping = true;
        self.exchange.drain();
        self.follow();
    }

    pub(super) fn stop(&mut self) {
        self.exchange.stop(&mut self.worker);
        self.follow();
    }

    /// The clock moves; who waits for a deadline on the way is told.
    pub(super) fn wait(&mut self, millis: u64) {
        let now = self.worker.now.tick.after(Duration::from_millis(millis));
        self.worker.now = clocks(now);
        if self.exchange.deadline() <= now {
            self.expire();
        }
    }

    /// The exchange is told of a deadline, come or not.
    pub(super) fn expire(&mut self) {
        self.exchange.expired(&mut self.worker);
        self.follow();
    }

    /// The next send of this direction fails.
    pub(super) fn fails_to_send(&mut self, direction: Direction) {
        if matches!(self.ask(direction), Step::Send(_)) {
            self.exchange.send_failed(direction, &mut self.worker);
            self.follow();
        }
    }

    /// Both directions take turns until nothing moves, at most `turns` times.
    pub(super) fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            let moved = self.step(Direction::Request, usize::MAX);
            if !(self.step(Direction::Response, usize::MAX) || moved) || self.is_over() {
                return;
            }
        }
    }

    /// One direction's step, on at most `most` bytes.
    pub(super) fn go(&mut self, direction: Direction, most: usize) {
        self.step(direction, most);
    }

    /// Everybody falls silent: time alone must end the connection, and the books must be right.
    pub(super) fn finish(&mut self) {
        // Half of the clients leave, the others only fall silent.
        self.client.closed |= self.leaves;
        let deadlines = DEADLINES_MAX + self.client.bytes.len() + self.inbound.live().len();
        for _ in 0..deadlines {
            self.run(100_000);
            if self.is_over() {
                break;
            }
            let deadline = self.exchange.deadline();
            assert!(deadline != Tick::NEVER, "waits for ever in {:?}", self.exchange.states());
            self.worker.now = clocks(deadline.max(self.worker.now.tick));
            self.expire();
        }
        assert!(self.is_over(), "{deadlines} deadlines end nothing: {:?}", self.exchange.states());
        self.check_finality();
        self.check_books();
    }

    fn step(&mut self, direction: Direction, most: usize) -> bool {
        if self.is_over() {
            return false;
        }
        let states = self.exchange.states();
        let step = self.ask(direction);
        self.follow();
        if self.is_over() {
            return true;
        }
        match (step, direction) {
            // What this direction found out may be news for the other one.
            (Step::Hold, _) => self.exchange.states() != states,
            (Step::Rest, Direction::Request) => {
                assert!(self.link.is_none(), "a connection rests and keeps its link");
                self.worker.windows.reclaim(&mut self.inbound);
                self.worker.windows.reclaim(&mut self.outbound);
                assert!(!self.inbound.has_buffer() && !self.outbound.has_buffer(), "bytes at rest");
                self.fill_from_client(most)
            }
            (Step::Fill, Direction::Request) => self.fill_from_client(most),
            (Step::Fill, Direction::Response) => self.fill_from_host(most),
            (Step::Send(count), _) => self.send(direction, count.min(most)),
            (Step::Dial(dial), Direction::Request) => self.dial(dial),
            (Step::HalfClose, _) => self.half_close(direction),
            (Step::Dial(_) | Step::Rest, Direction::Response) => panic!("{step:?} of the response"),
        }
    }

    /// Asks twice: without news the step, the states and the bytes stay.
    fn ask(&mut self, direction: Direction) -> Step {
        let first = self.ask_once(direction);
        let second = self.ask_once(direction);
        assert_eq!((first.0, first.1), (second.0, second.1), "asking again changes the step or the states");
        assert!(first.2 == second.2, "asking again changes the bytes for {:?} in {:?}", first.0, first.1);
        if let Step::Send(count) = first.0 {
            assert!((1..=first.2.len()).contains(&count), "Send({count}) of {} bytes", first.2.len());
        }
        self.dial_asked |= matches!(first.0, Step::Dial(_));
        self.tunnelled |= first.1.0 == RequestState::Tunnel;
        if let Some(link) = &mut self.link {
            link.tunnel |= first.1.0 == RequestState::Tunnel;
        }
        first.0
    }

    fn ask_once(&mut self, direction: Direction) -> (Step, (RequestState, ResponseState), Vec<u8>) {
        let window = match direction {
            Direction::Request => &mut self.inbound,
            Direction::Response => &mut self.outbound,
        };
        let step = match direction {
            Direction::Request => self.exchange.request(window, &mut self.worker),
            Direction::Response => self.exchange.response(window, &mut self.worker),
        };
        (step, self.exchange.states(), window.live().to_vec())
    }

    fn fill_from_client(&mut self, most: usize) -> bool {
        if self.pass(Direction::Request, most) {
            return true;
        }
        let Self { client, inbound, worker, exchange, .. } = self;
        let moved = fill(client, most, Direction::Request, inbound, exchange, worker);
        self.follow();
        moved
    }

    fn fill_from_host(&mut self, most: usize) -> bool {
        if self.pass(Direction::Response, most) {
            return true;
        }
        let Self { link, outbound, worker, exchange, .. } = self;
        let Some(link) = link else { panic!("Fill without a link") };
        let moved = fill(&mut link.received, most, Direction::Response, outbound, exchange, worker);
        self.follow();
        moved
    }

    /// What need not be looked at goes past the window, but for the half that the receiver does not take at once.
    fn pass(&mut self, direction: Direction, most: usize) -> bool {
        let Some(link) = &mut self.link else { return false };
        let (source, window, destination) = match direction {
            Direction::Request => (&mut self.client, &mut self.inbound, &mut link.sent),
            Direction::Response => (&mut link.received, &mut self.outbound, &mut self.to_client),
        };
        let unseen = usize::try_from(self.exchange.unseen(direction, window)).unwrap_or(usize::MAX);
        let count = source.bytes.len().min(most).min(unseen);
        if !self.passes || source.reset || count == 0 {
            return false;
        }
        assert!(window.live().is_empty() && window.kept_len() == 0, "bytes would overtake others");
        self.worker.windows.lend(window);
        let rest = (count / 2).min(window.spare_len());
        destination.extend(source.bytes.drain(..count - rest));
        self.exchange.passed(direction, count - rest, &mut self.worker);
        if rest > 0 {
            window.spare_mut()[..rest].copy_from_slice(&source.bytes.make_contiguous()[..rest]);
            source.bytes.drain(..rest);
            self.exchange.filled(direction, window, rest, &mut self.worker);
        }
        self.follow();
        true
    }

    fn send(&mut self, direction: Direction, count: usize) -> bool {
        let window = match direction {
            Direction::Request => {
                let Some(link) = &mut self.link else { panic!("Send without a link") };
                assert!(!link.half_closed, "Send behind the end");
                link.sent.extend_from_slice(&self.inbound.live()[..count]);
                &mut self.inbound
            }
            Direction::Response => {
                assert!(!self.client_half_closed, "Send behind the end");
                self.to_client.extend_from_slice(&self.outbound.live()[..count]);
                &mut self.outbound
            }
        };
        self.exchange.sent(direction, window, count, &mut self.worker);
        self.follow();
        true
    }

    fn half_close(&mut self, direction: Direction) -> bool {
        match direction {
            Direction::Request => match &mut self.link {
                Some(link) => link.half_closed = true,
                None => panic!("half-close without a link"),
            },
            Direction::Response => self.client_half_closed = true,
        }
        self.exchange.half_closed(direction, &mut self.worker);
        self.follow();
        true
    }

    /// First the dial begins, then it comes to what was said before.
    fn dial(&mut self, dial: Dial) -> bool {
        if self.dialing.replace(dial).is_none() {
            assert!(self.exchange.host(dial.host()).is_some(), "a dial to a host that is not there");
            if self.next_dial == Dialed::Full {
                self.exchange.dial_waits(&self.worker);
            } else {
                self.exchange.dial_begins(&self.worker);
            }
            return true;
        }
        self.dialing = None;
        let dialed = match self.next_dial {
            _ if !self.exchange.wants_dial() => Dialed::Failed,
            Dialed::Reused if dial.fresh() => Dialed::Fresh,
            dialed => dialed,
        };
        let held = self.link.take();
        if matches!(dialed, Dialed::Reused | Dialed::Fresh) {
            let kept = held.filter(|link| dialed == Dialed::Reused && link.host == Some(dial.host()));
            let mut link = kept.unwrap_or_else(|| Link {
                host: Some(dial.host()),
                received: std::mem::take(&mut self.script),
                ..Link::default()
            });
            link.dialled += 1;
            self.link = Some(link);
        }
        self.dial_asked = false;
        self.exchange.dialed(dialed, &mut self.worker);
        self.follow();
        true
    }

    /// Carries out what the exchange says beside its steps.
    fn follow(&mut self) {
        if let Some(order) = self.exchange.take_link_order() {
            let Some(link) = self.link.take() else { panic!("{order:?} without a link") };
            check_link(&link, order == LinkOrder::Pool);
        }
        if self.over.is_none() && self.exchange.over().is_some() {
            self.over = self.exchange.over();
            if self.dial_asked {
                // From the dial on, the link that was held is the shell's: it closes with the connection.
                self.link = None;
            }
            assert!(self.link.is_none(), "the connection is over and its link was not spoken of");
            assert_eq!(self.exchange.deadline(), Tick::NEVER, "what is over waits for nothing");
        }
    }

    fn host(&mut self) -> &mut Source {
        match &mut self.link {
            Some(link) => &mut link.received,
            None => &mut self.script,
        }
    }

    /// What is over stays over, whatever is reported.
    fn check_finality(&mut self) {
        let records = self.count();
        let Self { exchange, worker, inbound, outbound, .. } = self;
        for direction in [Direction::Request, Direction::Response] {
            let window = if direction == Direction::Request { &mut *inbound } else { &mut *outbound };
            worker.windows.lend(window);
            exchange.filled(direction, window, 0, worker);
            exchange.fill_failed(direction, window, worker);
            exchange.send_failed(direction, worker);
            exchange.half_closed(direction, worker);
            assert!(!exchange.wants_fill(direction));
        }
        exchange.dialed(Dialed::Fresh, worker);
        exchange.expired(worker);
        exchange.stop(worker);
        assert_eq!(exchange.request(inbound, worker), Step::Hold);
        assert_eq!(exchange.response(outbound, worker), Step::Hold);
        assert_eq!((exchange.over(), exchange.take_link_order()), (self.over, None));
        assert!(!self.exchange.wants_dial());
        assert_eq!(self.count(), records, "a record behind the end");
    }

    /// Every response that the client got belongs to one record, in order and with its status; a connection that was
    /// closed in order ends with a whole response.
    fn check_books(&self) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.over == Some(Over::Close);
        let (mut rest, mut answered) = (self.to_client.as_slice(), 0);
        while !rest.is_empty() {
            let record = records.get(answered);
            let to_head = record.is_some_and(|record| record.method == b"HEAD");
            let progress = match read_response(rest, to_head, ended) {
                Ok(progress) => progress,
                Err(broken) => panic!("the client received {broken}: {}", rest.escape_ascii()),
            };
            let (response, used) = match progress {
                Progress::Done(response, used) => (response, used),
                Progress::Head(response) => (response, rest.len()),
                Progress::Partial => {
                    assert!(self.over == Some(Over::Abort), "half a head, then an orderly end");
                    break;
                }
            };
            if response.is_interim() {
                rest = &rest[used..];
                continue;
            }
            let Some(record) = record else { panic!("a response {} without a record", response.status) };
            assert_eq!(record.outcome.status, response.status, "{:?}", record.outcome);
            answered += 1;
            if response.status == 101 {
                assert!(self.tunnelled);
                break;
            }
            rest = &rest[used..];
        }
        assert!(records.len() <= answered + 1, "{} records of {answered} responses", records.len());
    }

    fn count(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Receives at most `most` bytes, or the end.
fn fill(
    source: &mut Source,
    most: usize,
    direction: Direction,
    window: &mut Window,
    exchange: &mut Exchange,
    worker: &mut Worker,
) -> bool {
    assert!(exchange.wants_fill(direction) || direction == Direction::Request, "a fill that is not wanted");
    if source.reset {
        exchange.fill_failed(direction, window, worker);
        return true;
    }
    if source.bytes.is_empty() && !source.closed {
        return false;
    }
    worker.windows.lend(window);
    assert!(window.spare_len() > 0, "Fill of a full window");
    let count = source.bytes.len().min(most).min(window.spare_len());
    window.spare_mut()[..count].copy_from_slice(&source.bytes.make_contiguous()[..count]);
    source.bytes.drain(..count);
    exchange.filled(direction, window, count, worker);
    true
}

/// A link carries well-framed requests, no more than were dialled, and none in part when it goes to the pool.
fn check_link(link: &Link, pooled: bool) {
    if link.tunnel {
        assert!(!pooled, "a tunnel's link goes to the pool");
        return;
    }
    let (mut rest, mut requests) = (link.sent.as_slice(), 0);
    while !rest.is_empty() {
        requests += 1;
        match read_request(rest) {
            Ok(Progress::Done(_, used)) => rest = &rest[used..],
            Ok(Progress::Partial | Progress::Head(_)) => {
                assert!(!pooled, "a link goes to the pool with a part of a request");
                break;
            }
            Err(broken) => panic!("the host received {broken}: {}", rest.escape_ascii()),
        }
    }
    assert!(requests <= link.dialled, "{requests} requests where {} were dialled", link.dialled);
}

fn clocks(tick: Tick) -> Now {
    Now { tick, wall: UnixSecs::new(EPOCH + tick.millis() / 1000) }
}
