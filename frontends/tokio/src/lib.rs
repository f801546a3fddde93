//! Homing's shell on tokio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
//!
//! One worker is one single-threaded runtime. Each connection has a task, which only names it by its key: the connections lie in
//! a slab beside the worker's parts (`Shared`), and the task runs the loop that readiness shells share. Timers and queues name
//! connections by key too, and `Tasks` knows whom to wake for one:
//!
//! ```text
//!  socket ready ──┐
//!  timer, drain ──┼─▶ wake ──▶ task of the connection: drive, then pending
//!  host's turn  ──┘
//! ```

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use homing_core::gate::Permit;
use homing_core::route::ListenerId;
use homing_core::worker::slim_behind;
use homing_shell::readiness::{Conn, Driven, Hub, Shell, Wire};
use homing_shell::{Job, TICK, accept, connected, prepare, receive_now, send_now, slim, somebody_waits};
use slab::Slab;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::sleep;

/// Runs one worker on the calling thread until its control says that it should drain and its connections have ended,
/// or that it should stop.
///
/// # Errors
///
/// The runtime could not be made, or a listener could not be watched. Nothing that happens on a connection is an
/// error here.
pub fn run(job: Job) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, serve(job))
}

/// One worker. Only one task at a time uses its parts: never across an await.
struct Shared {
    hub: RefCell<Hub<Tasks>>,
    /// Whether somebody looks at milliseconds (the access log). Else the time of the last tick is good enough.
    precise: bool,
    /// By key. Not in their tasks, which the runtime aligns to 128 bytes; boxed, they fit the gaps that this leaves.
    conns: RefCell<Slab<Box<Conn<Stream>>>>,
}

/// Whom to wake.
#[derive(Debug, Default)]
struct Tasks {
    /// By the connection's key; `None`: there is no such connection, or its task has not run yet and will.
    connections: Vec<Option<Waker>>,
    /// Tasks that accept and wait for room.
    accepting: Vec<Waker>,
}

/// A stream of the runtime.
#[derive(Debug)]
struct Stream(tokio::net::TcpStream);

/// The task of one connection.
struct Serve {
    key: u32,
    shared: Rc<Shared>,
}

async fn serve(mut job: Job) -> io::Result<()> {
    let listeners = std::mem::take(&mut job.listeners);
    let precise = job.log.is_some();
    let hub = RefCell::new(Hub::new(job, Tasks::default()));
    let shared = Rc::new(Shared { hub, precise, conns: RefCell::default() });
    let mut accepting: Vec<JoinHandle<()>> = Vec::with_capacity(listeners.len());
    for (id, socket) in listeners {
        prepare(&socket);
        // The runtime watches streams of any kind by this type; a listener becomes readable like one.
        let socket = tokio::net::TcpStream::from_std(TcpStream::from(OwnedFd::from(socket)))?;
        accepting.push(spawn_local(accept_all(socket, id, Rc::clone(&shared))));
    }
    while !shared.hub.borrow().is_finished() {
        let wait = patience(&shared.hub.borrow());
        sleep(wait).await;
        tick(&shared);
        if !shared.hub.borrow().listens() {
            leave(&shared, &mut accepting).await;
        }
    }
    Ok(())
}

fn tick(shared: &Shared) {
    let mut hub = shared.hub.borrow_mut();
    hub.read_clock();
    hub.tick();
    slim(&mut shared.conns.borrow_mut());
    // Another worker's connection may have ended.
    hub.shell.wake_accepting();
}

/// Closes the listeners, and tells the connections once all workers have closed theirs.
async fn leave(shared: &Shared, accepting: &mut Vec<JoinHandle<()>>) {
    for task in accepting.drain(..) {
        // Which asks the runtime to drop it, and the listener with it; it has once the task is over.
        task.abort();
        let _ = task.await;
    }
    let mut hub = shared.hub.borrow_mut();
    if hub.closed() {
        hub.shell.wake_all();
    }
}

/// How long there is nothing to do for the worker as a whole.
fn patience(hub: &Hub<Tasks>) -> Duration {
    Duration::from_millis(hub.next_tick().since(hub.worker.now.tick))
}

async fn accept_all(socket: tokio::net::TcpStream, listener: ListenerId, shared: Rc<Shared>) {
    // One was taken since the runtime last said that somebody waits.
    let mut taken = false;
    loop {
        let accepted = socket.async_io(Interest::READABLE, || {
            if std::mem::take(&mut taken) && !somebody_waits(&socket) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // None: there is no room.
            let Ok(permit) = shared.hub.borrow().admit(listener) else { return Ok(None) };
            let accepted = accept(&SockRef::from(&socket))?.ok_or(io::ErrorKind::WouldBlock)?;
            Ok(Some((accepted, permit)))
        });
        match accepted.await {
            Ok(Some(((stream, address), permit))) => {
                open(stream, address, (listener, permit), &shared);
                taken = true;
            }
            Ok(None) => room(&shared.hub, listener).await,
            // Out of descriptors, most likely: another worker or a closing connection may free some.
            Err(_) => sleep(TICK).await,
        }
    }
}

/// Waits until the caps leave room for another connection.
async fn room(hub: &RefCell<Hub<Tasks>>, listener: ListenerId) {
    let mut counted = false;
    poll_fn(|cx| {
        let mut hub = hub.borrow_mut();
        let Err(full) = hub.admit(listener).map(drop) else { return Poll::Ready(()) };
        if !std::mem::replace(&mut counted, true) {
            hub.worker.counters().pause(full);
        }
        hub.shell.accepting.push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Gives an accepted connection its task. A stream that cannot be watched is dropped, which closes it.
fn open(stream: TcpStream, address: String, at: (ListenerId, Permit), shared: &Rc<Shared>) {
    let Ok(client) = tokio::net::TcpStream::from_std(stream) else { return };
    let (mut hub, mut conns) = (shared.hub.borrow_mut(), shared.conns.borrow_mut());
    hub.read_clock();
    let entry = conns.vacant_entry();
    let key = key_of(entry.key());
    entry.insert(Box::new(Conn::open(key, Stream(client), at, address, &mut hub)));
    spawn_local(Serve { key, shared: Rc::clone(shared) });
}

impl Future for Serve {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (mut hub, mut conns) = (self.shared.hub.borrow_mut(), self.shared.conns.borrow_mut());
        if self.shared.precise {
            hub.read_clock();
        }
        hub.shell.remember(self.key, cx.waker());
        match conns.get_mut(self.key as usize).map(|conn| conn.drive(&mut hub, cx)) {
            Some(Driven::Waits) => Poll::Pending,
            Some(Driven::Again) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Driven::Over) | None => {
                hub.shell.forget(self.key);
                drop(conns.try_remove(self.key as usize));
                hub.shell.wake_accepting();
                Poll::Ready(())
            }
        }
    }
}

impl Tasks {
    fn remember(&mut self, key: u32, waker: &Waker) {
        if self.connections.len() <= key as usize {
            self.connections.resize(key as usize + 1, None);
        }
        if let Some(known) = self.connections.get_mut(key as usize)
            && !known.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *known = Some(waker.clone());
        }
    }

    fn forget(&mut self, key: u32) {
        if let Some(known) = self.connections.get_mut(key as usize) {
            *known = None;
        }
    }

    fn wake_accepting(&mut self) {
        self.accepting.drain(..).for_each(Waker::wake);
    }

    fn wake_all(&self) {
        self.connections.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Shell for Tasks {
    type Wire = Stream;

    fn adopt(&mut self, stream: TcpStream, _: u32) -> io::Result<Stream> {
        tokio::net::TcpStream::from_std(stream).map(Stream)
    }

    /// Whoever polls a stream is woken for it: there is nothing to change.
    fn rejoin(&mut self, _: &mut Stream, _: u32) {}

    fn wake(&mut self, key: u32) {
        if let Some(Some(waker)) = self.connections.get(key as usize) {
            waker.wake_by_ref();
        }
    }

    fn slim(&mut self) {
        slim_behind(&mut self.connections, Option::is_some);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream {
    /// Moves bytes, at most `whole`. As the runtime's own methods do, a short count is taken for the last one, which spares the
    /// system call that would say so. They would go through the C library, though (see [`send_now`]).
    fn moved(
        &self,
        interest: Interest,
        whole: usize,
        mut move_bytes: impl FnMut() -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut short = None;
        let moved = self.0.try_io(interest, || match move_bytes()? {
            count if (1..whole).contains(&count) => {
                short = Some(count);
                Err(io::ErrorKind::WouldBlock.into())
            }
            count => Ok(count),
        });
        match (short, moved) {
            (Some(count), _) => Some(Ok(count)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            (None, moved) => Some(moved),
        }
    }
}

impl Wire for Stream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.poll_read_ready(cx).is_ready()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            if let Some(read) = self.moved(Interest::READABLE, into.len(), || receive_now(&self.0, into)) {
                return Poll::Ready(read);
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            if let Some(written) = self.moved(Interest::WRITABLE, from.len(), || send_now(&self.0, from)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_io(Interest::WRITABLE, || send(self.0.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_write_ready(cx))?;
        Poll::Ready(connected(&self.0))
    }
}

/// Keys of connections are positions in the slab, and there are never more than the cap, a `u32`.
#[expect(clippy::cast_possible_truncation, reason = "the slab holds at most u32::MAX connections")]
const fn key_of(position: usize) -> u32 {
    position as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task takes a multiple of 128 bytes, of which the runtime has 104, and a connection is to fit the gap that this
    /// leaves in the allocator's pages.
    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Serve>() <= 16, "{}", size_of::<Serve>());
        assert!(size_of::<Conn<Stream>>() <= 104, "{}", size_of::<Conn<Stream>>());
    }
}
