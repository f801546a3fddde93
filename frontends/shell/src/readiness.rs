//! How a connection is driven where the kernel says when a socket is ready: the same loop for every such shell.
//!
//! A shell brings its stream ([`Wire`]) and its way to watch sockets and wake connections ([`Shell`]). It keeps one
//! [`Conn`] per client and one [`Hub`] per worker, and calls [`Conn::drive`] whenever a socket of the connection
//! may have become ready or the connection was woken:
//!
//! ```text
//!            ┌───────────── step ◀──────────────┐
//!            ▼                                  │ something moved
//!  Fill: read · Send: write · Dial: link · HalfClose: shut down
//!            │ neither direction can move
//!            ▼
//!  buffers given back, timer set, wait ──── Rest ───▶ the socket alone is kept
//!            ▲                                             │ readable
//!            └───────────── another exchange ◀─────────────┘
//! ```
//!
//! Every decision is the exchange's; what is here is how its steps are carried out on non-blocking sockets.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use homing_core::clock::Tick;
use homing_core::exchange::{Dial, Dialed, Direction, Exchange, LinkOrder, Over, Step};
use homing_core::gate::{Full, Permit};
use homing_core::route::ListenerId;
use homing_core::window::{Class, Window};
use homing_core::worker::{Control, LinkKey, Links, Obtained, Phase, Wheel, Worker};
use socket2::SockRef;

use crate::drain::Drain;
use crate::pipe::Pipe;
use crate::rooms::Rooms;
use crate::{Clock, Job, SWEEP, TICK, connect, is_quiet, link_limits, reset_on_close};

/// Steps of one connection before the others get their turn: enough to pass 1 MiB through a large window, or 2 MiB past it.
const STEPS: u32 = 32;

/// A non-blocking stream and what is known of its readiness. "Pending" means that the connection will be driven again
/// when it may be otherwise: by an event, or through the context's waker.
pub trait Wire: AsFd {
    /// Whether a read is worth trying.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool;

    /// Reads into `into`, which is not empty; zero: the peer has closed its sending side. After a short read the stream
    /// counts as drained, so that a message costs one read.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes the front of `from`.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends by `send`, which says `WouldBlock` when the stream takes nothing.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>>;

    /// What became of a connection that was begun.
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A shell's way to watch sockets and to wake connections.
pub trait Shell {
    /// Its stream.
    type Wire: Wire;

    /// Begins to watch a new upstream stream, for the connection with this key.
    fn adopt(&mut self, stream: TcpStream, key: u32) -> io::Result<Self::Wire>;

    /// A link that served another connection, and in which nothing waits, now serves the one with this key.
    fn rejoin(&mut self, link: &mut Self::Wire, key: u32);

    /// Sees to it that the connection with this key, if it still exists, is driven soon. Called while one is driven.
    fn wake(&mut self, key: u32);

    /// Gives back what a crowd has left behind. Called every [`SWEEP`].
    fn slim(&mut self);
}

/// One worker's parts that its connections share.
#[derive(Debug)]
pub struct Hub<S: Shell> {
    /// The core's part.
    pub worker: Worker,
    /// The shell's part.
    pub shell: S,
    links: Links<S::Wire>,
    pipe: Pipe,
    wheel: Wheel,
    /// What connections hold while they are busy.
    rooms: Rooms<Busy<S::Wire>>,
    control: Arc<Control>,
    clock: Clock,
    published: u64,
    drain: Drain,
    connections: u32,
    next_tick: Tick,
    next_sweep: Tick,
}

/// One client connection: its socket, and what it takes to become busy again when it rests. Small, since most connections
/// of a crowd rest.
#[derive(Debug)]
pub struct Conn<W> {
    client: W,
    key: u32,
    listener: ListenerId,
    /// The client's address, as the exchange wants it.
    address: Box<str>,
    state: State,
    /// Counts the connection for as long as it lives.
    _permit: Permit,
}

/// What a connection does.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It has this room in the hub.
    Busy(u32),
    /// It waits for the client to speak, and not for ever.
    Rests {
        until: Tick,
        /// Empty lines skipped since the last request ([`Exchange::woken`]).
        empty_lines: usize,
    },
}

/// What a connection holds only while it is busy: its exchange, its link, its windows.
#[derive(Debug)]
struct Busy<W> {
    key: u32,
    exchange: Exchange,
    link: Option<Link<W>>,
    dialing: Dialing,
    inbound: Window,
    outbound: Window,
    phase: Phase,
    resting: bool,
}

/// What became of a busy phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// The connection waits for its sockets, its timer or its turn.
    Waits,
    /// It could go on, but others should have their turn first.
    Again,
    /// Nothing is expected soon, and the link has gone to the pool.
    Rests,
    /// It has ended.
    Over(Over),
}

/// What is to be done with a connection that was driven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driven {
    /// It waits for its sockets, its timer or its turn.
    Waits,
    /// It could go on, but others should have their turn first: drive it again.
    Again,
    /// It has ended and everything it held was given back: drop it.
    Over,
}

/// An upstream stream: in use, held between requests, or being made.
#[derive(Debug)]
struct Link<W> {
    key: LinkKey,
    wire: W,
}

/// How far the search for a link has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dialing {
    /// There is none under way.
    No,
    /// [`Busy::link`] is being made.
    Connecting,
    /// The connection stands in the host's queue.
    Waiting(LinkKey),
}

impl<S: Shell> Hub<S> {
    /// The parts of the worker that `job` describes.
    pub fn new(mut job: Job, shell: S) -> Self {
        // Read before the snapshot is: one that is published in between is then taken twice rather than missed.
        let published = job.control.published();
        let clock = job.clock;
        let mut worker = job.worker();
        worker.now = clock.now();
        let now = worker.now.tick;
        Self {
            worker,
            shell,
            links: Links::new(job.link_limits()),
            pipe: Pipe::default(),
            wheel: Wheel::new(now),
            rooms: Rooms::new(),
            control: Arc::clone(&job.control),
            clock,
            published,
            drain: job.drain(),
            connections: 0,
            next_tick: now.after(TICK),
            next_sweep: now.after(SWEEP),
        }
    }

    /// Reads the clocks. Called before connections are driven.
    pub fn read_clock(&mut self) {
        self.worker.now = self.clock.now();
    }

    /// The next moment at which [`Hub::tick`] has something to do.
    pub fn next_tick(&self) -> Tick {
        self.next_tick
    }

    /// What is due every [`TICK`]: the control plane's news, timers, the pool, the log.
    pub fn tick(&mut self) {
        let now = self.worker.now.tick;
        if now < self.next_tick {
            return;
        }
        self.next_tick = now.after(TICK);
        let published = self.control.published();
        if published != self.published {
            self.published = published;
            self.worker.publish(self.control.snapshot());
            self.links.set_limits(link_limits(&self.control));
            self.links.close_retired();
        }
        while let Some(key) = self.wheel.expire(now) {
            self.shell.wake(key);
        }
        if now >= self.next_sweep {
            self.next_sweep = now.after(SWEEP);
            self.links.sweep(now, is_quiet);
            self.slim();
        }
        self.worker.flush_log();
        self.drain.look(now, self.worker.snapshot().limits.drain_timeout);
    }

    /// Whether connections are accepted at all; if not, the listeners are to be closed, and [`Hub::closed`] be told.
    pub fn listens(&self) -> bool {
        self.drain.listens()
    }

    /// The listeners are closed. True: connections have to know how the program ends, and every one is to be driven. To be
    /// asked again after every tick, since other workers' listeners may still be open.
    pub fn closed(&mut self) -> bool {
        let is_news = self.drain.closed(self.worker.now.tick);
        if is_news && !std::mem::replace(&mut self.worker.stopping, true) {
            self.links.clear();
        }
        is_news
    }

    /// The right to accept another client connection on `listener`, or the cap that leaves no room. Other workers'
    /// connections count too, so that room may come without an event: it is asked for again after each tick.
    pub fn admit(&self, listener: ListenerId) -> Result<Permit, Full> {
        self.control.admit(self.worker.snapshot(), listener)
    }

    /// Whether the worker's job is done.
    pub fn is_finished(&self) -> bool {
        !self.listens() && self.connections == 0
    }

    /// Gives back what a crowd has left behind.
    fn slim(&mut self) {
        self.worker.slim();
        self.wheel.slim();
        self.rooms.slim();
        self.shell.slim();
    }

    fn enter(&mut self, busy: Busy<S::Wire>) -> u32 {
        let room = self.rooms.enter(busy);
        self.worker.windows.busy = self.rooms.taken();
        room
    }

    fn leave(&mut self, room: u32) -> Option<Busy<S::Wire>> {
        let busy = self.rooms.leave(room);
        self.worker.windows.busy = self.rooms.taken();
        busy
    }

    fn wake(&mut self, key: Option<u32>) {
        if let Some(key) = key {
            self.shell.wake(key);
        }
    }

    fn link_closed(&mut self, key: LinkKey) {
        let next = self.links.closed(key);
        self.wake(next);
    }

    fn gives_up(&mut self, key: LinkKey, asker: u32) {
        let next = self.links.give_up(key, asker);
        self.wake(next);
    }
}

impl<W: Wire> Conn<W> {
    /// A connection that was accepted on `listener` from `address`, with the permit for it. `key` names it to timers,
    /// queues and the shell.
    pub fn open<S: Shell<Wire = W>>(
        key: u32,
        client: W,
        (listener, permit): (ListenerId, Permit),
        address: String,
        hub: &mut Hub<S>,
    ) -> Self {
        let busy = Busy::begin(key, Exchange::new(listener, &address, &hub.worker));
        hub.wheel.set(key, busy.exchange.deadline());
        hub.worker.counters().accepted.add();
        hub.connections += 1;
        let state = State::Busy(hub.enter(busy));
        Self { client, key, listener, address: address.into(), state, _permit: permit }
    }

    /// The client's stream.
    pub fn client(&mut self) -> &mut W {
        &mut self.client
    }

    /// The upstream's stream, if there is one.
    pub fn upstream<'h, S: Shell<Wire = W>>(&self, hub: &'h mut Hub<S>) -> Option<&'h mut W> {
        let State::Busy(room) = self.state else { return None };
        hub.rooms.get_mut(room)?.link.as_mut().map(|link| &mut link.wire)
    }

    /// Does what there is to do: serves the client while it is busy, looks whether it has spoken while it rests.
    pub fn drive<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>, cx: &mut Context<'_>) -> Driven {
        let room = match self.state {
            State::Busy(room) => room,
            State::Rests { until, empty_lines } => {
                if hub.drain.told() != Phase::Run {
                    return self.close(Over::Close, hub);
                }
                if !self.client.poll_readable(cx) {
                    if hub.worker.now.tick >= until {
                        return self.close(Over::Close, hub);
                    }
                    hub.wheel.set(self.key, until);
                    return Driven::Waits;
                }
                let mut exchange = Exchange::new(self.listener, &self.address, &hub.worker);
                exchange.woken(empty_lines);
                let room = hub.enter(Busy::begin(self.key, exchange));
                self.state = State::Busy(room);
                room
            }
        };
        // Out of the hub, so that both can be used at once; to move them is to move a few words.
        let mut rooms = std::mem::take(&mut hub.rooms);
        let turn = rooms.get_mut(room).map(|busy| busy.drive(&mut self.client, hub, cx));
        hub.rooms = rooms;
        match turn {
            Some(Turn::Waits) => Driven::Waits,
            Some(Turn::Again) => Driven::Again,
            Some(Turn::Rests) => self.rest(room, hub, cx),
            Some(Turn::Over(over)) => {
                hub.leave(room);
                self.close(over, hub)
            }
            None => self.close(Over::Close, hub),
        }
    }

    /// Keeps the socket alone.
    fn rest<S: Shell<Wire = W>>(&mut self, room: u32, hub: &mut Hub<S>, cx: &mut Context<'_>) -> Driven {
        let Some(busy) = hub.leave(room) else { return self.close(Over::Close, hub) };
        let (until, empty_lines) = (busy.exchange.deadline(), busy.exchange.empty_lines());
        self.state = State::Rests { until, empty_lines };
        hub.wheel.clear(self.key);
        hub.wheel.set(self.key, until);
        // The client may have spoken meanwhile; and if not, asking is what makes the shell say when it does.
        if self.client.poll_readable(cx) { Driven::Again } else { Driven::Waits }
    }

    fn close<S: Shell<Wire = W>>(&mut self, over: Over, hub: &mut Hub<S>) -> Driven {
        if over == Over::Abort {
            reset_on_close(&self.client);
        }
        hub.wheel.clear(self.key);
        hub.worker.counters().closed.add();
        hub.connections -= 1;
        Driven::Over
    }
}

impl<W: Wire> Busy<W> {
    fn begin(key: u32, exchange: Exchange) -> Self {
        Self {
            key,
            exchange,
            link: None,
            dialing: Dialing::No,
            inbound: Window::new(),
            outbound: Window::new(),
            phase: Phase::Run,
            resting: false,
        }
    }

    /// Carries out the exchange's steps until neither direction can move or the connection has had its turn.
    fn drive<S: Shell<Wire = W>>(&mut self, client: &mut W, hub: &mut Hub<S>, cx: &mut Context<'_>) -> Turn {
        self.hear(hub, cx);
        let mut steps = 0;
        let mut stuck = 0;
        let mut direction = Direction::Request;
        while stuck < 2 && steps < STEPS && !self.resting && self.exchange.over().is_none() {
            if self.step(direction, client, hub, cx) {
                steps += 1;
                stuck = 0;
            } else {
                stuck += 1;
                direction = match direction {
                    Direction::Request => Direction::Response,
                    Direction::Response => Direction::Request,
                };
            }
        }
        if let Some(over) = self.exchange.over() {
            self.leave(hub);
            return Turn::Over(over);
        }
        if self.resting {
            self.leave(hub);
            return Turn::Rests;
        }
        hub.wheel.set(self.key, self.exchange.deadline());
        if stuck < 2 {
            return Turn::Again;
        }
        self.give_back(hub);
        Turn::Waits
    }

    /// Tells the exchange what the clock and the control plane say.
    fn hear<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>, cx: &mut Context<'_>) {
        if self.phase != hub.drain.told() {
            self.phase = hub.drain.told();
            match self.phase {
                Phase::Run => {}
                Phase::Drain => self.exchange.drain(),
                Phase::Stop => self.exchange.stop(&mut hub.worker),
            }
        }
        if self.exchange.deadline() <= hub.worker.now.tick {
            self.exchange.expired(&mut hub.worker);
        }
        self.obey(hub, cx);
    }

    /// One step of one direction; false: nothing moved.
    fn step<S: Shell<Wire = W>>(
        &mut self,
        direction: Direction,
        client: &mut W,
        hub: &mut Hub<S>,
        cx: &mut Context<'_>,
    ) -> bool {
        let before = self.exchange.states();
        let step = match direction {
            Direction::Request => self.exchange.request(&mut self.inbound, &mut hub.worker),
            Direction::Response => self.exchange.response(&mut self.outbound, &mut hub.worker),
        };
        self.obey(hub, cx);
        let moved = match step {
            Step::Hold => false,
            Step::Rest => {
                self.resting = true;
                false
            }
            Step::Fill => self.fill(direction, client, hub, cx),
            Step::Send(count) => self.send(direction, count, client, hub, cx),
            Step::HalfClose => self.half_close(direction, client, hub),
            Step::Dial(dial) => self.dial(dial, hub, cx),
        };
        self.obey(hub, cx);
        moved || self.exchange.states() != before
    }

    fn fill<S: Shell<Wire = W>>(
        &mut self,
        direction: Direction,
        client: &mut W,
        hub: &mut Hub<S>,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.pass(direction, client, hub, cx) {
            return true;
        }
        let (wire, window) = match (direction, &mut self.link) {
            (Direction::Request, _) => (client, &mut self.inbound),
            (Direction::Response, Some(link)) => (&mut link.wire, &mut self.outbound),
            (Direction::Response, None) => return false,
        };
        if !wire.poll_readable(cx) {
            return false;
        }
        hub.worker.windows.lend(window);
        if window.spare_len() == 0 {
            // A read into nothing would look like the end of the stream.
            return false;
        }
        match wire.poll_read(cx, window.spare_mut()) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) => self.exchange.filled(direction, window, count, &mut hub.worker),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(_)) => self.exchange.fill_failed(direction, window, &mut hub.worker),
        }
        true
    }

    /// Passes on what has come of a long body, through the pipe. False: nothing has that the kernel would move (it does not
    /// step over an urgent byte, say); a read tells.
    fn pass<S: Shell<Wire = W>>(
        &mut self,
        direction: Direction,
        client: &mut W,
        hub: &mut Hub<S>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(link) = &mut self.link else { return false };
        let (from, to, window) = match direction {
            Direction::Request => (client, &mut link.wire, &mut self.inbound),
            Direction::Response => (&mut link.wire, client, &mut self.outbound),
        };
        let (pipe, exchange) = (&mut hub.pipe, &mut self.exchange);
        let unseen = exchange.unseen(direction, window);
        if !(pipe.serves(unseen) && from.poll_readable(cx)) {
            return false;
        }
        let received = pipe.fill(from, unseen);
        let sent = match &received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Ok(1..) => to.poll_send(cx, |destination| pipe.pour(&destination)),
            _ => Poll::Pending,
        };
        pipe.report((received, sent), (exchange, direction), window, &mut hub.worker);
        true
    }

    fn send<S: Shell<Wire = W>>(
        &mut self,
        direction: Direction,
        count: usize,
        client: &mut W,
        hub: &mut Hub<S>,
        cx: &mut Context<'_>,
    ) -> bool {
        let (wire, window) = match (direction, &mut self.link) {
            (Direction::Response, _) => (client, &mut self.outbound),
            (Direction::Request, Some(link)) => (&mut link.wire, &mut self.inbound),
            (Direction::Request, None) => return false,
        };
        match wire.poll_write(cx, window.live().get(..count).unwrap_or_default()) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) => self.exchange.sent(direction, window, count, &mut hub.worker),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(_)) => self.exchange.send_failed(direction, &mut hub.worker),
        }
        true
    }

    fn half_close<S: Shell<Wire = W>>(&mut self, direction: Direction, client: &W, hub: &mut Hub<S>) -> bool {
        let wire = match (direction, &self.link) {
            (Direction::Response, _) => client,
            (Direction::Request, Some(link)) => &link.wire,
            (Direction::Request, None) => return false,
        };
        // Failing means that the peer has gone already; reading will tell.
        let _ = SockRef::from(wire).shutdown(Shutdown::Write);
        self.exchange.half_closed(direction, &mut hub.worker);
        true
    }

    /// Goes on with the search for a link; false: it needs more time.
    fn dial<S: Shell<Wire = W>>(&mut self, dial: Dial, hub: &mut Hub<S>, cx: &mut Context<'_>) -> bool {
        match (self.dialing, &mut self.link) {
            (Dialing::Connecting, Some(link)) => match link.wire.poll_connected(cx) {
                Poll::Pending if self.exchange.wants_dial() => return false,
                Poll::Ready(Ok(())) => self.dialed(Dialed::Fresh, hub),
                Poll::Pending | Poll::Ready(Err(_)) => {
                    self.drop_link(hub);
                    self.dialed(Dialed::Failed, hub);
                }
            },
            (Dialing::Waiting(key), _) if !self.exchange.wants_dial() => {
                hub.gives_up(key, self.key);
                self.dialed(Dialed::Full, hub);
            }
            _ => return self.find_link(dial, hub, cx),
        }
        true
    }

    fn find_link<S: Shell<Wire = W>>(&mut self, dial: Dial, hub: &mut Hub<S>, cx: &mut Context<'_>) -> bool {
        let Some(host) = self.exchange.host(dial.host()) else {
            self.dialed(Dialed::Failed, hub);
            return true;
        };
        let key = LinkKey::of(host.shared_cell());
        if let Some(mut held) = self.link.take() {
            if held.key != key {
                release(held, hub, cx);
            } else if !dial.fresh()
                && (!(dial.checked() || held.wire.poll_readable(cx)) || is_quiet(&held.wire))
            {
                self.link = Some(held);
                self.dialed(Dialed::Reused, hub);
                return true;
            } else {
                drop(held);
                hub.link_closed(key);
            }
        }
        let dialed = loop {
            match hub.links.obtain(host.shared_cell(), self.key, dial.fresh()) {
                Obtained::Link(mut wire) => {
                    // Nobody watches the pool closely, and what a host said there would reach another client.
                    if is_quiet(&wire) {
                        hub.shell.rejoin(&mut wire, self.key);
                        self.link = Some(Link { key, wire });
                        break Some(Dialed::Reused);
                    }
                    drop(wire);
                    hub.link_closed(key);
                }
                Obtained::Connect => {
                    let begun = connect(host.endpoint()).and_then(|stream| hub.shell.adopt(stream, self.key));
                    if let Ok(wire) = begun {
                        self.link = Some(Link { key, wire });
                        break None;
                    }
                    hub.link_closed(key);
                    break Some(Dialed::Failed);
                }
                Obtained::Wait => {
                    if self.dialing == Dialing::No {
                        self.dialing = Dialing::Waiting(key);
                        self.exchange.dial_waits(&hub.worker);
                    }
                    return false;
                }
                Obtained::Full => break Some(Dialed::Full),
            }
        };
        if self.dialing == Dialing::Waiting(key) {
            // Two links may have come free before this connection took one: the next in line gets the other.
            hub.gives_up(key, self.key);
        }
        match dialed {
            Some(dialed) => self.dialed(dialed, hub),
            None => {
                self.dialing = Dialing::Connecting;
                self.exchange.dial_begins(&hub.worker);
            }
        }
        true
    }

    fn dialed<S: Shell<Wire = W>>(&mut self, dialed: Dialed, hub: &mut Hub<S>) {
        self.dialing = Dialing::No;
        self.exchange.dialed(dialed, &mut hub.worker);
    }

    /// Does with the link what the exchange says.
    fn obey<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>, cx: &mut Context<'_>) {
        match self.exchange.take_link_order() {
            None => {}
            Some(LinkOrder::Pool) if self.dialing == Dialing::No => {
                if let Some(link) = self.link.take() {
                    release(link, hub, cx);
                }
            }
            Some(LinkOrder::Pool | LinkOrder::Close) => self.drop_link(hub),
        }
    }

    fn drop_link<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>) {
        if self.dialing == Dialing::Connecting {
            self.dialing = Dialing::No;
        }
        if let Some(Link { key, wire }) = self.link.take() {
            drop(wire);
            hub.link_closed(key);
        }
    }

    /// A connection that waits holds no empty buffer, but for a large one in the midst of a body.
    fn give_back<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>) {
        let idle = self.exchange.is_idle();
        for (direction, window) in
            [(Direction::Request, &mut self.inbound), (Direction::Response, &mut self.outbound)]
        {
            if idle || window.class() != Some(Class::Large) || !self.exchange.wants_fill(direction) {
                hub.worker.windows.reclaim(window);
            }
        }
    }

    /// Gives back what the busy phase held.
    fn leave<S: Shell<Wire = W>>(&mut self, hub: &mut Hub<S>) {
        if let Dialing::Waiting(key) = self.dialing {
            hub.gives_up(key, self.key);
        }
        self.drop_link(hub);
        hub.worker.windows.retire(&mut self.inbound);
        hub.worker.windows.retire(&mut self.outbound);
    }
}

/// Gives a link to the pool, unless the host is known to have closed it.
fn release<S: Shell>(mut link: Link<S::Wire>, hub: &mut Hub<S>, cx: &mut Context<'_>) {
    if link.wire.poll_readable(cx) && !is_quiet(&link.wire) {
        drop(link.wire);
        hub.link_closed(link.key);
    } else {
        let next = hub.links.release(link.key, link.wire, hub.worker.now.tick);
        hub.wake(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Door;
    use homing_core::limits::BUSY_CONNECTIONS;
    use homing_core::stats::{Counters, Ending};
    use socket2::{Domain, Socket, Type};
    use std::task::Waker;

    /// A client that has said something, or nothing. What is written to it is lost.
    struct Client {
        socket: TcpStream,
        says: &'static [u8],
    }

    struct Nobody;

    impl AsFd for Client {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }
    }

    impl Wire for Client {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> bool {
            !self.says.is_empty()
        }

        fn poll_read(&mut self, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            let said = std::mem::take(&mut self.says);
            into[..said.len()].copy_from_slice(said);
            Poll::Ready(Ok(said.len()))
        }

        fn poll_write(&mut self, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(from.len()))
        }

        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            _: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_connected(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Shell for Nobody {
        type Wire = Client;

        fn adopt(&mut self, socket: TcpStream, _: u32) -> io::Result<Client> {
            Ok(Client { socket, says: b"" })
        }

        fn rejoin(&mut self, _: &mut Client, _: u32) {}

        fn wake(&mut self, _: u32) {}

        fn slim(&mut self) {}
    }

    /// A worker without routes, which answers 404 to everything.
    fn hub() -> Hub<Nobody> {
        let control = Arc::new(Control::new(Arc::default()));
        let counters = Arc::<Counters>::default();
        let (listeners, door) = (Vec::new(), Door::of_one());
        Hub::new(
            Job { listeners, control, door, counters, log: None, seed: 1, clock: Clock::start() },
            Nobody,
        )
    }

    fn open(hub: &mut Hub<Nobody>) -> Conn<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().into();
        let permit = hub.admit(ListenerId(0)).unwrap();
        let client = Client { socket, says: b"" };
        Conn::open(0, client, (ListenerId(0), permit), "127.0.0.1".to_owned(), hub)
    }

    fn drive_at(millis: u64, conn: &mut Conn<Client>, hub: &mut Hub<Nobody>) -> Driven {
        hub.worker.now.tick = Tick::from_millis(millis);
        conn.drive(hub, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_connection_that_rests_has_no_room_and_gets_one_when_the_client_speaks() {
        let hub = &mut hub();
        let conn = &mut open(hub);
        assert_eq!((drive_at(0, conn, hub), hub.rooms.taken()), (Driven::Waits, 1));
        for turn in 0..3 {
            let now = turn * 10_000;
            assert_eq!((drive_at(now + 1000, conn, hub), hub.rooms.taken()), (Driven::Waits, 0));
            assert_eq!((drive_at(now + 2000, conn, hub), hub.rooms.taken()), (Driven::Waits, 0));
            conn.client.says = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
            assert_eq!((drive_at(now + 3000, conn, hub), hub.rooms.taken()), (Driven::Waits, 1));
        }
        assert_eq!(hub.worker.counters().endings[Ending::Answered as usize].get(), 3);
        assert_eq!(drive_at(30_000, conn, hub), Driven::Waits);
        assert_eq!((drive_at(200_000, conn, hub), hub.rooms.taken()), (Driven::Over, 0));
        assert_eq!(hub.connections, 0);
    }

    #[test]
    fn a_connection_that_rests_ends_when_the_program_does() {
        let hub = &mut hub();
        let conn = &mut open(hub);
        assert_eq!((drive_at(1000, conn, hub), hub.rooms.taken()), (Driven::Waits, 0));
        hub.control.advance(Phase::Drain);
        hub.tick();
        assert!(!hub.listens());
        assert_eq!(drive_at(1001, conn, hub), Driven::Waits, "others may listen");
        assert!(hub.closed());
        assert_eq!((drive_at(1001, conn, hub), hub.connections), (Driven::Over, 0));
    }

    #[test]
    fn a_crowd_rests_at_once() {
        let hub = &mut hub();
        let mut crowd: Vec<_> = (0..=BUSY_CONNECTIONS).map(|_| open(hub)).collect();
        let first = &mut crowd[0];
        first.client.says = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
        drive_at(1, first, hub);
        assert_eq!(hub.rooms.taken(), BUSY_CONNECTIONS, "it has rested as soon as it was served");
    }

    /// What a connection of a crowd costs, beside its socket's part: a number that must not grow unseen.
    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Conn<()>>() <= 64, "{}", size_of::<Conn<()>>());
    }
}
