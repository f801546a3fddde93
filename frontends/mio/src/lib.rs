//! Homing's shell on mio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
//!
//! One turn of the loop, for all connections of a worker on one thread:
//!
//! ```text
//!  poll ──▶ readiness noted ──▶ tick, if due ──▶ accept ──▶ drive what is ready, each once ──▶ poll
//! ```
//!
//! Readiness is edge-triggered and kept as bits beside each socket. A bit is a hint: it may be stale, and a read or write
//! that would block clears it. All events of a turn are noted before any connection is driven, so that a connection
//! with news on both sides is driven once.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use homing_core::clock::Tick;
use homing_core::route::ListenerId;
use homing_core::worker::{is_roomy, slim_behind};
use homing_shell::readiness::{Conn, Driven, Hub, Shell, Wire};
use homing_shell::{Job, accept, connected, prepare, receive_now, send_now, slim, somebody_waits};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use socket2::{SockRef, Socket};

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Connections that one listener accepts before those accepted get their turn.
const ACCEPTS: usize = 64;
/// Tokens from here on are listeners; below, `2 * key` is a connection's client, and `2 * descriptor + 1` a link, which may
/// serve one connection after another.
const LISTENERS: usize = usize::MAX / 2;

/// Runs one worker on the calling thread until its control says that it should drain and its connections have ended,
/// or that it should stop.
///
/// # Errors
///
/// The poll could not be made, a listener could not be watched, or polling failed. Nothing that happens on a
/// connection is an error here.
pub fn run(mut job: Job) -> io::Result<()> {
    let poll = mio::Poll::new()?;
    let watch = Watch {
        registry: poll.registry().try_clone()?,
        ready: VecDeque::new(),
        queued: Vec::new(),
        links: Vec::new(),
    };
    let mut listeners = Vec::with_capacity(job.listeners.len());
    for (position, (id, socket)) in job.listeners.drain(..).enumerate() {
        prepare(&socket);
        let token = Token(LISTENERS + position);
        watch.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        listeners.push(Listener { id, socket, pending: true, paused: false });
    }
    let hub = Hub::new(job, watch);
    Loop { hub, conns: Slab::new(), listeners, paused_until: Tick::from_millis(0) }.run(poll)
}

/// One worker.
struct Loop {
    hub: Hub<Watch>,
    /// By key. Boxed, so that the slab grows without moving them.
    conns: Slab<Box<Conn<Stream>>>,
    listeners: Vec<Listener>,
    /// Accepting failed; it is tried again then.
    paused_until: Tick,
}

struct Listener {
    id: ListenerId,
    socket: Socket,
    /// The accept queue may hold connections.
    pending: bool,
    /// A cap leaves no room for them; it is asked again after the next tick, or when a connection here has ended.
    paused: bool,
}

/// Watches sockets and remembers which connections are to be driven.
struct Watch {
    registry: Registry,
    /// Keys, each at most once.
    ready: VecDeque<u32>,
    /// By key: whether it is in `ready`.
    queued: Vec<bool>,
    /// By a link's descriptor: the key of the connection that it served last. Never slimmed, since nobody says here when a
    /// link closes; it is bounded by the limit on open files, at 4 bytes each.
    links: Vec<u32>,
}

/// A stream and the readiness last heard of.
struct Stream {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    /// The peer has closed its sending side, or the connection is broken: no further event will come, so a short read
    /// is not the last one.
    ended: bool,
}

impl Loop {
    fn run(mut self, mut poll: mio::Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.hub.is_finished() {
            match poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.hub.read_clock();
            for event in &events {
                self.note(event);
            }
            let due = self.hub.next_tick() <= self.hub.worker.now.tick;
            self.hub.tick();
            if due {
                self.resume();
                slim(&mut self.conns);
            }
            if !self.hub.listens() {
                self.leave();
            }
            self.accept();
            self.drive();
        }
        Ok(())
    }

    /// How long there is nothing to do unless an event comes.
    fn patience(&self) -> Duration {
        let busy = !self.hub.shell.ready.is_empty() || self.can_accept();
        let wait = self.hub.next_tick().since(self.hub.worker.now.tick);
        if busy { Duration::ZERO } else { Duration::from_millis(wait) }
    }

    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        if let Some(position) = token.checked_sub(LISTENERS) {
            if let Some(listener) = self.listeners.get_mut(position) {
                listener.pending = true;
            }
            return;
        }
        if token % 2 == 0 {
            let Some(conn) = self.conns.get_mut(token / 2) else { return };
            conn.client().note(event);
            self.hub.shell.wake(key_of(token / 2));
        } else {
            self.note_link(token / 2, event);
        }
    }

    /// An event of the link with this descriptor. None of a pooled one matters: who takes it looks at it first.
    fn note_link(&mut self, descriptor: usize, event: &Event) {
        let Some(&key) = self.hub.shell.links.get(descriptor) else { return };
        let Some(link) = self.conns.get(key as usize).and_then(|conn| conn.upstream(&mut self.hub)) else {
            return;
        };
        if index_of(&link.socket) == descriptor {
            link.note(event);
            self.hub.shell.wake(key);
        }
    }

    /// Closes the listeners, and tells the connections once all workers have closed theirs.
    fn leave(&mut self) {
        self.listeners.clear();
        if self.hub.closed() {
            for (key, _) in &self.conns {
                self.hub.shell.wake(key_of(key));
            }
        }
    }

    fn can_accept(&self) -> bool {
        self.listeners.iter().any(|listener| listener.pending && !listener.paused)
            && self.hub.worker.now.tick >= self.paused_until
    }

    /// There may be room again.
    fn resume(&mut self) {
        for listener in &mut self.listeners {
            listener.paused = false;
        }
    }

    fn accept(&mut self) {
        if !self.can_accept() {
            return;
        }
        for listener in &mut self.listeners {
            for _ in 0..ACCEPTS {
                if !listener.pending || listener.paused {
                    break;
                }
                let permit = match self.hub.admit(listener.id) {
                    Ok(permit) => permit,
                    Err(full) => {
                        listener.paused = true;
                        self.hub.worker.counters().pause(full);
                        break;
                    }
                };
                match accept(&listener.socket) {
                    Ok(Some((socket, address))) => {
                        let entry = self.conns.vacant_entry();
                        let key = key_of(entry.key());
                        // A stream that cannot be watched is dropped, which closes it.
                        if let Ok(client) = self.hub.shell.watch(socket, Token(entry.key() * 2), false) {
                            let at = (listener.id, permit);
                            let conn = Conn::open(key, client, at, address, &mut self.hub);
                            entry.insert(Box::new(conn));
                        }
                        listener.pending = somebody_waits(&listener.socket);
                    }
                    Ok(None) => listener.pending = false,
                    // Out of descriptors, most likely: another worker or a closing connection may free some.
                    Err(_) => {
                        self.paused_until = self.hub.next_tick();
                        return;
                    }
                }
            }
        }
    }

    /// Drives every connection that is ready now; those that become so meanwhile have their turn after the next poll.
    fn drive(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..self.hub.shell.ready.len() {
            let Some(key) = self.hub.shell.next() else { return };
            let Some(conn) = self.conns.get_mut(key as usize) else { continue };
            match conn.drive(&mut self.hub, &mut context) {
                Driven::Waits => {}
                Driven::Again => self.hub.shell.wake(key),
                Driven::Over => {
                    drop(self.conns.remove(key as usize));
                    self.resume();
                }
            }
        }
    }
}

impl Watch {
    fn watch(&self, socket: TcpStream, token: Token, connecting: bool) -> io::Result<Stream> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)?;
        Ok(Stream { socket, readable: false, writable: !connecting, ended: false })
    }

    /// From now on, the link's events are for the connection with this key.
    fn join(&mut self, link: &TcpStream, key: u32) {
        let index = index_of(link);
        if self.links.len() <= index {
            self.links.resize(index + 1, key);
        }
        if let Some(served) = self.links.get_mut(index) {
            *served = key;
        }
    }

    fn next(&mut self) -> Option<u32> {
        let key = self.ready.pop_front()?;
        if let Some(queued) = self.queued.get_mut(key as usize) {
            *queued = false;
        }
        Some(key)
    }
}

impl Shell for Watch {
    type Wire = Stream;

    fn adopt(&mut self, stream: TcpStream, key: u32) -> io::Result<Stream> {
        self.join(&stream, key);
        let token = Token(index_of(&stream) * 2 + 1);
        self.watch(stream, token, true)
    }

    /// The kernel goes on to report what happens to the link, edge by edge, and nothing waits in it: nothing need be said.
    fn rejoin(&mut self, link: &mut Stream, key: u32) {
        self.join(&link.socket, key);
        (link.readable, link.writable, link.ended) = (false, true, false);
    }

    fn wake(&mut self, key: u32) {
        if self.queued.len() <= key as usize {
            self.queued.resize(key as usize + 1, false);
        }
        if let Some(queued) = self.queued.get_mut(key as usize)
            && !std::mem::replace(queued, true)
        {
            self.ready.push_back(key);
        }
    }

    fn slim(&mut self) {
        slim_behind(&mut self.queued, |&queued| queued);
        if is_roomy(self.ready.len(), self.ready.capacity()) {
            self.ready.shrink_to_fit();
        }
    }
}

impl Stream {
    fn note(&mut self, event: &Event) {
        self.ended |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ended;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Wire for Stream {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> bool {
        self.readable
    }

    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.readable {
            return Poll::Pending;
        }
        match receive_now(&self.socket, into) {
            Ok(count) => {
                // epoll(7): a read that returns less than was asked for has drained the stream.
                self.readable = count == into.len() || self.ended;
                Poll::Ready(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        match send_now(&self.socket, from) {
            Ok(count) => {
                self.writable = count == from.len();
                Poll::Ready(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        match send(self.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Poll::Pending
            }
            sent => Poll::Ready(sent),
        }
    }

    fn poll_connected(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.writable {
            return Poll::Pending;
        }
        let ended = connected(&self.socket).and_then(|()| SockRef::from(&self.socket).peer_addr().map(drop));
        match ended {
            // Writable and neither connected nor broken: the event said too much. A session must not move for it. What
            // fails here says why in `connected`.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                (self.readable, self.writable, self.ended) = (false, false, false);
                Poll::Pending
            }
            ended => Poll::Ready(ended),
        }
    }
}

/// Descriptors are small numbers: the kernel gives the lowest that is free.
fn index_of(stream: &TcpStream) -> usize {
    usize::try_from(stream.as_raw_fd()).unwrap_or(0)
}

/// Keys of connections are positions in the slab, and there are never more than the cap, a `u32`.
#[expect(clippy::cast_possible_truncation, reason = "the slab holds at most u32::MAX connections")]
const fn key_of(position: usize) -> u32 {
    position as u32
}
