//! L2: one client connection's requests and responses, one step at a time.
//!
//! The shell owns two windows and two sockets. It asks each direction for its [`Step`], carries it out, reports what
//! happened, and asks again:
//!
//! ```text
//!  client ──Fill──▶ inbound window  ──Send──▶ upstream        Exchange::request
//!  client ◀──Send── outbound window ◀──Fill── upstream        Exchange::response
//! ```
//!
//! - *Steps*: [`Exchange::request`], [`Exchange::response`]. Asking again without news repeats the step. Being asked is
//!   news for the other direction when it changes [`Exchange::states`]: a head that is refused begins a response, a response
//!   that is complete lets the next request in. So a shell asks both until neither has anything to do.
//! - *News*: [`Exchange::filled`], [`Exchange::fill_failed`], [`Exchange::sent`], [`Exchange::send_failed`],
//!   [`Exchange::dialed`], [`Exchange::half_closed`], [`Exchange::expired`].
//! - *Past the window*: [`Exchange::unseen`] says how many bytes need not be looked at, [`Exchange::passed`] takes note of
//!   those that the shell moved from socket to socket.
//! - *After any of these*: [`Exchange::take_link_order`] says what to do with the upstream link, [`Exchange::over`] whether
//!   the connection has ended, [`Exchange::wants_fill`] whether a read in flight still makes sense,
//!   [`Exchange::deadline`] when to call [`Exchange::expired`].
//!
//! `LIFECYCLE.md` beside this file draws the states.

mod attempt;
mod body;
mod dial;
mod h1;
pub mod machine;

use core::time::Duration;

use crate::affinity::Refusal;
use crate::clock::{Now, Tick};
use crate::field::Status;
use crate::hosts::{Host, HostRef};
use crate::http1::{Method, Splicer, Version};
use crate::limits::Limits;
use crate::log::{ADDRESS_KEPT, Clip, METHOD_KEPT, Record, TARGET_KEPT};
use crate::route::ListenerId;
use crate::stats::{Ending, Outcome};
use crate::window::Window;
use crate::worker::{Waits, Worker};
use attempt::Attempt;
use body::Flow;
pub use dial::Dial;
use machine::{Joint, Machine, RequestState, ResponseState};

/// A connection without a request keeps its read armed and its link this long, then rests: most next requests come
/// sooner, and the rest should not hold a buffer.
const REST_AFTER: Duration = Duration::from_millis(500);
/// While a response is awaited, the client's side is not read at first; after this time it is, to notice that it left.
const WATCH_AFTER: Duration = Duration::from_secs(1);

/// Memory for a redirect's target that a connection keeps between requests, in bytes. A target can be as long as a head.
const NOTE_KEPT: usize = 256;

/// A held link that was still this long is looked at before it is used again. Looking costs a system call, which
/// back-to-back requests are spared.
const LOOK_AFTER_MILLIS: u64 = 10;

/// One of the two directions of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client to the upstream, through the inbound window.
    Request,
    /// From the upstream to the client, through the outbound window.
    Response,
}

impl Direction {
    /// The one against it.
    #[inline]
    pub const fn other(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }
}

/// What the shell is to do next in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Receive into the window's spare part.
    Fill,
    /// Nothing is expected soon: give the buffers of both windows back and wait until the client's socket is readable;
    /// only then take a buffer and receive, as for [`Step::Fill`]. The link has gone to the pool by then.
    Rest,
    /// Send the first so many live bytes.
    Send(usize),
    /// Find a link to the host, then report [`Exchange::dialed`]. The link that the connection holds from earlier
    /// requests, if any, is used when it leads there and need not be fresh; else it goes to the pool.
    Dial(Dial),
    /// Close the sending side of the direction's destination, then report [`Exchange::half_closed`].
    HalfClose,
    /// Nothing, until there is news.
    Hold,
}

/// What a dial came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialed {
    /// A link that served other requests before.
    Reused,
    /// A new connection.
    Fresh,
    /// The connection could not be made.
    Failed,
    /// The host has no connection to spare, and its queue is full.
    Full,
}

/// What to do with the upstream link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkOrder {
    /// It is clean: give it to the pool.
    Pool,
    /// It is not: close it. Results of reads and writes that were under way on it do not count any more.
    Close,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// Close it.
    Close,
    /// Reset it, so that the client does not take a truncated response for a whole one.
    Abort,
}

/// The link as the exchange sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Link {
    #[default]
    None,
    /// In use, or held between requests.
    Live {
        /// It served other requests before: its death is not the host's failure.
        reused: bool,
    },
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// A fault: status and one line of text.
    Fault(u16, &'static str),
    /// A strict refusal.
    Refusal(Refusal),
    /// What the route says; a redirect's target stands in `note`.
    Redirect(Status),
    /// What the route says.
    Respond(Status),
}

/// What is remembered of a request once its head has been edited.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: Method,
    version: Version,
    upgrade: bool,
    expects_continue: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { method: Method::Get, version: Version::Http11, upgrade: false, expects_continue: false }
    }
}

/// What the log wants to know; held only when there is a log.
#[derive(Debug, Default)]
struct Draft {
    method: Clip<METHOD_KEPT>,
    target: Clip<TARGET_KEPT>,
}

/// One client connection. Small, reused for every request on it.
#[derive(Debug)]
pub struct Exchange {
    listener: ListenerId,
    client: Clip<ADDRESS_KEPT>,
    machine: Machine,
    attempt: Attempt,
    asked: Asked,
    inbound: Flow,
    outbound: Flow,
    link: Link,
    /// The last dial's link had to be a new one.
    fresh: bool,
    /// The whole request so far is kept in the inbound window and may be sent again.
    replayable: bool,
    /// The window must be rewound before the next dial: the request is sent again.
    rewind: bool,
    /// The held link, if any, was still for a while.
    stood: bool,
    /// Bytes of the last response went past the window, and perhaps its end: what the host may have sent behind it, nobody has
    /// seen.
    unseen_end: bool,
    /// The connection may serve another request.
    persist: bool,
    /// The upstream link may serve another request.
    link_persists: bool,
    /// The client has closed its sending side.
    client_done: bool,
    /// The upstream has closed its sending side.
    upstream_done: bool,
    /// An outcome is owed: a request has begun and was not recorded yet.
    owed: bool,
    /// Whether the first bytes of the answer were put into the outbound window.
    answered: bool,
    answer: Option<Answer>,
    note: Vec<u8>,
    /// Bytes of an unfinished head that were searched already.
    scanned: usize,
    /// Body bytes that may still be dropped.
    discard_left: u64,
    /// Bytes of an unfinished response head that were searched already.
    response_scanned: usize,
    /// The response is de-chunked for an HTTP/1.0 client.
    dechunk: bool,
    /// The response is an event stream that is rewritten.
    splicer: Option<Box<Splicer>>,
    /// The upstream broke off: what came is passed on, then the connection is cut.
    truncated: bool,
    /// What the outbound window holds is of an attempt that was given up.
    stale: bool,
    /// So many live bytes of the inbound window, and all kept ones, belong to a request that was given up.
    forget: Option<usize>,
    /// A dial has taken too long.
    dial_expired: bool,
    /// A dial waits for its turn at a full host.
    dial_queued: bool,
    /// Idle for long enough to give up the buffer and the link.
    resting: bool,
    /// Bytes wait at the socket: the next thing to do is to read them.
    woken: bool,
    /// So many empty lines were skipped since the last request.
    empty_lines: usize,
    /// The client's side is read although a response is awaited.
    watching: bool,
    order: Option<LinkOrder>,
    over: Option<Over>,
    started: Tick,
    request_due: Tick,
    response_due: Tick,
    draft: Option<Box<Draft>>,
}

impl Exchange {
    /// A connection that was accepted on `listener` from `client`, whose address (without port) is given as text.
    pub fn new(listener: ListenerId, client: &str, worker: &Worker) -> Self {
        Self {
            listener,
            client: Clip::new(client.as_bytes()),
            machine: Machine::default(),
            attempt: Attempt::default(),
            asked: Asked::default(),
            inbound: Flow::default(),
            outbound: Flow::default(),
            link: Link::None,
            fresh: false,
            replayable: false,
            rewind: false,
            stood: false,
            unseen_end: false,
            persist: true,
            link_persists: false,
            client_done: false,
            upstream_done: false,
            owed: false,
            answered: false,
            answer: None,
            note: Vec::new(),
            scanned: 0,
            discard_left: 0,
            response_scanned: 0,
            dechunk: false,
            splicer: None,
            truncated: false,
            stale: false,
            forget: None,
            dial_expired: false,
            dial_queued: false,
            resting: false,
            woken: false,
            empty_lines: 0,
            watching: false,
            order: None,
            over: None,
            started: worker.now.tick,
            request_due: worker.now.tick.after(REST_AFTER),
            response_due: Tick::NEVER,
            draft: worker.log.is_some().then(Box::default),
        }
    }

    /// What the request direction wants. `window` is the inbound one, at rest.
    pub fn request(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        loop {
            if self.over.is_some() {
                return Step::Hold;
            }
            let before = self.states();
            let step = self.step_request(window, worker);
            // Nothing to do in one state may lead to something in the next.
            if step != Step::Hold || self.states() == before {
                return step;
            }
        }
    }

    /// What the response direction wants. `window` is the outbound one, at rest.
    pub fn response(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        loop {
            if self.over.is_some() {
                return Step::Hold;
            }
            let before = self.states();
            let step = self.step_response(window, worker);
            if step != Step::Hold || self.states() == before {
                return step;
            }
        }
    }

    /// `count` bytes were received by a [`Step::Fill`]; zero: the sender has closed its sending side.
    pub fn filled(&mut self, direction: Direction, window: &mut Window, count: usize, worker: &mut Worker) {
        if self.over.is_some() {
            return;
        }
        match direction {
            Direction::Request if count == 0 => self.client_closed(worker),
            Direction::Request => {
                window.commit(count);
                self.request_progress(worker);
            }
            Direction::Response if !self.wants_upstream() => {}
            Direction::Response if count == 0 => self.upstream_closed(window, worker),
            Direction::Response => {
                window.commit(count);
                self.response_progress(worker);
            }
        }
    }

    /// Of what a [`Step::Fill`] is to receive, so many bytes belong to the message whatever they are, and will not be sent
    /// again: the shell may move as many or fewer from socket to socket, past the `window`, which is empty, and report
    /// [`Exchange::passed`]. What it has received and could not send goes into the window, as ever.
    #[inline]
    pub fn unseen(&self, direction: Direction, window: &Window) -> u64 {
        let flow = match (direction, self.states()) {
            (Direction::Request, (RequestState::Body, _)) if !self.replayable => &self.inbound,
            (Direction::Response, (_, ResponseState::Body)) if self.splicer.is_none() => &self.outbound,
            _ => return 0,
        };
        if window.is_empty() && self.over.is_none() { flow.body.unseen() } else { 0 }
    }

    /// `count` of the [`Exchange::unseen`] bytes were received and sent.
    pub fn passed(&mut self, direction: Direction, count: usize, worker: &mut Worker) {
        if self.over.is_none() && count > 0 {
            self.went_past(direction, count, worker);
        }
    }

    /// Receiving failed: the sender reset the connection.
    pub fn fill_failed(&mut self, direction: Direction, window: &mut Window, worker: &mut Worker) {
        if self.over.is_some() {
            return;
        }
        match direction {
            Direction::Request => self.client_reset(worker),
            Direction::Response if self.wants_upstream() => self.upstream_reset(window, worker),
            Direction::Response => {}
        }
    }

    /// `count` bytes were sent by a [`Step::Send`].
    pub fn sent(&mut self, direction: Direction, window: &mut Window, count: usize, worker: &mut Worker) {
        if self.over.is_some() {
            return;
        }
        match direction {
            Direction::Request => self.request_sent(window, count, worker),
            Direction::Response => self.response_sent(window, count, worker),
        }
    }

    /// Sending failed: the receiver is gone.
    pub fn send_failed(&mut self, direction: Direction, worker: &mut Worker) {
        if self.over.is_some() {
            return;
        }
        match direction {
            Direction::Request => self.upstream_deaf(worker),
            Direction::Response => self.client_reset(worker),
        }
    }

    /// The dial waits for its turn at a full host.
    pub fn dial_waits(&mut self, worker: &Worker) {
        self.dial_queued = true;
        self.request_due = worker.now.tick.after(self.waits(worker).pending);
    }

    /// The connection is being made.
    pub fn dial_begins(&mut self, worker: &Worker) {
        self.dial_queued = false;
        self.request_due = worker.now.tick.after(self.waits(worker).connect);
    }

    /// What became of a [`Step::Dial`].
    pub fn dialed(&mut self, dialed: Dialed, worker: &mut Worker) {
        if self.over.is_none() && self.machine.request() == RequestState::Dialing {
            self.link_made(dialed, worker);
        }
    }

    /// A [`Step::HalfClose`] was carried out.
    pub fn half_closed(&mut self, direction: Direction, worker: &mut Worker) {
        if self.over.is_none() {
            self.closed_half(direction, worker);
        }
    }

    /// The deadline has come, or may have come.
    pub fn expired(&mut self, worker: &mut Worker) {
        if self.over.is_none() {
            self.time_out(worker);
        }
    }

    /// The program stops: a connection between requests ends now, any other after its response.
    pub fn drain(&mut self) {
        self.persist = false;
        if self.machine.request() == RequestState::Idle && !self.client_done && self.over.is_none() {
            self.end(Over::Close);
        }
    }

    /// The drain deadline has passed: whatever runs is cut off and recorded.
    pub fn stop(&mut self, worker: &mut Worker) {
        if self.over.is_none() {
            self.abort(Ending::Stopped, worker);
        }
    }

    /// When [`Exchange::expired`] should be called; [`Tick::NEVER`]: not at all.
    pub fn deadline(&self) -> Tick {
        self.request_due.min(self.response_due)
    }

    /// Whether the connection has ended, and how.
    pub fn over(&self) -> Option<Over> {
        self.over
    }

    /// For a shell that waited by itself while the connection rested, and begins this exchange because the client spoke.
    /// What waits is read, however many windows are lent: a connection that rested again unread would be woken again
    /// at once, for as long as the crowd lasts.
    /// `empty_lines` is what the exchange before it said of itself: a client that sends nothing else has its connection
    /// for so many rests only.
    pub fn woken(&mut self, empty_lines: usize) {
        self.woken = true;
        self.empty_lines = empty_lines;
    }

    /// So many empty lines were skipped since the last request.
    pub fn empty_lines(&self) -> usize {
        self.empty_lines
    }

    /// What to do with the upstream link, said once.
    pub fn take_link_order(&mut self) -> Option<LinkOrder> {
        self.order.take()
    }

    /// Whether a [`Step::Fill`] under way is still wanted. If not, the shell takes the window back and asks again.
    pub fn wants_fill(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => match self.machine.request() {
                RequestState::Idle => !self.resting && self.over.is_none(),
                RequestState::Head
                | RequestState::Body
                | RequestState::Discard
                | RequestState::Tunnel
                | RequestState::Linger
                | RequestState::Paused
                | RequestState::Sent => self.over.is_none(),
                _ => false,
            },
            Direction::Response => self.wants_upstream(),
        }
    }

    /// Whether a [`Step::Dial`] under way is still wanted. If not, the shell drops it and reports [`Dialed::Failed`].
    pub fn wants_dial(&self) -> bool {
        self.machine.request() == RequestState::Dialing && !self.dial_expired && self.over.is_none()
    }

    /// Whether the exchange is between requests.
    pub fn is_idle(&self) -> bool {
        self.machine.request() == RequestState::Idle
    }

    /// The facts of the request under way, or of the last one.
    pub fn outcome(&self) -> &Outcome {
        &self.attempt.outcome
    }

    /// The host that a [`Step::Dial`] names.
    pub fn host(&self, at: HostRef) -> Option<&Host> {
        self.attempt.snapshot()?.host(at)
    }

    /// Both states, for tests and messages.
    pub fn states(&self) -> (RequestState, ResponseState) {
        (self.machine.request(), self.machine.response())
    }

    /// Which rows of the state tables this connection has used. Empty without debug assertions.
    pub fn trace(&self) -> machine::Trace {
        self.machine.trace()
    }

    fn limits<'w>(&'w self, worker: &'w Worker) -> &'w Limits {
        match self.attempt.snapshot() {
            Some(snapshot) => &snapshot.limits,
            None => &worker.view.snapshot().limits,
        }
    }

    fn waits<'w>(&'w self, worker: &'w Worker) -> &'w Waits {
        self.attempt.waits().unwrap_or_else(|| worker.view.waits())
    }

    fn wants_upstream(&self) -> bool {
        let wanted = matches!(
            self.machine.response(),
            ResponseState::Head | ResponseState::Body | ResponseState::Tunnel
        );
        wanted && self.link != Link::None && self.over.is_none()
    }

    /// Carries out what the two states together call for.
    fn settle(&mut self, worker: &mut Worker) {
        while self.over.is_none() {
            match self.machine.joint() {
                None => return,
                Some(Joint::Cycle) => self.cycle(worker),
                Some(Joint::Curtail) => self.curtail(worker),
            }
        }
    }

    /// The exchange is complete: on to the next request, or to the end of the connection.
    fn cycle(&mut self, worker: &mut Worker) {
        self.record(Ending::Complete, worker);
        if self.upstream_done || !self.link_persists {
            self.drop_link(LinkOrder::Close);
        }
        if self.persist && !worker.stopping && !self.client_done {
            self.next(worker.now);
        } else if self.client_done || !self.must_linger() {
            self.end(Over::Close);
        } else {
            self.drop_link(LinkOrder::Pool);
            self.machine.move_response(ResponseState::Close);
        }
    }

    /// The response is complete, the request is not.
    fn curtail(&mut self, worker: &mut Worker) {
        if self.machine.request() == RequestState::Paused {
            // The upgrade was declined; what waited behind the head is the next request.
            self.machine.move_request(RequestState::Sent);
            return;
        }
        self.drop_link(LinkOrder::Close);
        let discardable = self.machine.request() == RequestState::Body
            && self.inbound.body.left().is_none_or(|left| left <= self.discard_left);
        if self.persist && discardable && !self.asked.expects_continue && !self.client_done {
            self.forget = Some(self.inbound.cleared);
            self.machine.move_request(RequestState::Discard);
            self.request_due = worker.now.tick.after(self.waits(worker).body_idle);
        } else {
            self.record(Ending::Complete, worker);
            self.machine.move_request(RequestState::Cut);
            self.machine.move_response(ResponseState::Close);
        }
    }

    /// Ready for the next request.
    fn next(&mut self, now: Now) {
        self.machine.move_request(RequestState::Idle);
        self.machine.move_response(ResponseState::Idle);
        self.inbound = Flow::default();
        self.outbound = Flow::default();
        self.rewind = false;
        self.replayable = false;
        self.answer = None;
        self.answered = false;
        self.note.clear();
        self.note.shrink_to(NOTE_KEPT);
        self.dechunk = false;
        self.truncated = false;
        self.resting = false;
        self.woken = false;
        self.empty_lines = 0;
        self.watching = false;
        self.scanned = 0;
        self.response_scanned = 0;
        self.response_due = Tick::NEVER;
        self.started = now.tick;
        self.request_due = now.tick.after(REST_AFTER);
    }

    /// Whether the client may still be sending, so that closing at once could destroy the answer on its way.
    /// A client that asked for the close sends no more (RFC 9112 §9.6).
    fn must_linger(&self) -> bool {
        self.answer.is_some() || !self.inbound.last
    }

    fn drop_link(&mut self, order: LinkOrder) {
        if self.link != Link::None {
            self.link = Link::None;
            self.order = Some(order);
        }
    }

    fn end(&mut self, how: Over) {
        self.over = Some(how);
        let clean = matches!(
            (self.machine.request(), self.machine.response()),
            (RequestState::Idle, ResponseState::Idle) | (RequestState::Sent, ResponseState::Sent)
        );
        let reusable = clean && self.link_persists && !self.upstream_done;
        self.drop_link(if reusable { LinkOrder::Pool } else { LinkOrder::Close });
        self.attempt.release();
        self.request_due = Tick::NEVER;
        self.response_due = Tick::NEVER;
    }

    /// Ends the connection in the middle of a message, and writes down why. What was sent of it must not be taken for all
    /// of it, so the client sees a reset.
    fn abort(&mut self, ending: Ending, worker: &mut Worker) {
        self.record(ending, worker);
        self.end(Over::Abort);
    }

    /// Writes down the outcome of the request under way, once. `ending` counts unless a worse one was noted before.
    fn record(&mut self, ending: Ending, worker: &mut Worker) {
        if !self.owed {
            return;
        }
        self.owed = false;
        self.attempt.release();
        if let Some(splicer) = self.splicer.take() {
            worker.give_splicer(splicer);
        }
        if self.attempt.outcome.ending == Ending::Complete {
            self.attempt.outcome.ending = ending;
        }
        let outcome = &self.attempt.outcome;
        worker.counters.record(outcome);
        if let (Some(log), Some(draft)) = (worker.log.as_mut(), self.draft.as_deref()) {
            let host = outcome.host.and_then(|at| self.attempt.snapshot()?.host(at));
            let upstream = host.map_or("", Host::address).as_bytes();
            log.push(&Record {
                at: worker.now.wall,
                took_millis: worker.now.tick.since(self.started),
                listener: self.listener,
                outcome,
                received: self.inbound.passed,
                sent: self.outbound.passed,
                method: draft.method.as_bytes(),
                target: draft.target.as_bytes(),
                client: self.client.as_bytes(),
                upstream: upstream.get(..ADDRESS_KEPT).unwrap_or(upstream),
            });
        }
    }
}
