//! Homing's shell on tokio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
//!
//! One worker is one single-threaded runtime. Each connection is one task around the loop that readiness shells share;
//! the worker's parts lie in a cell beside them. Timers and queues name connections by key, and `Tasks` knows
//! whom to wake for a key:
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
use homing_shell::readiness::{Conn, Driven, Hub, Shell, Wire};
use homing_shell::{Job, TICK, accept, connected, prepare};
use slab::Slab;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
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

/// The worker's parts, which only one task at a time uses: never across an await.
type SharedHub = Rc<RefCell<Hub<Tasks>>>;

/// Whom to wake.
#[derive(Debug, Default)]
struct Tasks {
    /// By the connection's key; `None`: its task has not run yet and will.
    connections: Slab<Option<Waker>>,
    /// Tasks that accept and wait for room.
    accepting: Vec<Waker>,
}

/// A stream of the runtime.
#[derive(Debug)]
struct Stream(tokio::net::TcpStream);

async fn serve(mut job: Job) -> io::Result<()> {
    let listeners = std::mem::take(&mut job.listeners);
    let hub: SharedHub = Rc::new(RefCell::new(Hub::new(&mut job, Tasks::default())));
    let mut accepting: Vec<JoinHandle<()>> = Vec::with_capacity(listeners.len());
    for (id, socket) in listeners {
        prepare(&socket);
        // The runtime watches streams of any kind by this type; a listener becomes readable like one.
        let socket = tokio::net::TcpStream::from_std(TcpStream::from(OwnedFd::from(socket)))?;
        accepting.push(spawn_local(accept_all(socket, id, Rc::clone(&hub))));
    }
    while !hub.borrow().is_finished() {
        let wait = patience(&hub.borrow());
        sleep(wait).await;
        let mut hub = hub.borrow_mut();
        hub.read_clock();
        let news = hub.tick();
        // Another worker's connection may have ended.
        hub.shell.wake_accepting();
        if !hub.is_running() {
            // Dropping the tasks drops the listeners; before a client can see that its connection is drained.
            accepting.drain(..).for_each(|task| task.abort());
        }
        if news {
            hub.shell.wake_all();
        }
    }
    Ok(())
}

/// How long there is nothing to do for the worker as a whole.
fn patience(hub: &Hub<Tasks>) -> Duration {
    Duration::from_millis(hub.next_tick().since(hub.worker.now.tick))
}

async fn accept_all(socket: tokio::net::TcpStream, listener: ListenerId, hub: SharedHub) {
    loop {
        let accepted = socket.async_io(Interest::READABLE, || {
            // None: there is no room.
            let Ok(permit) = hub.borrow().admit(listener) else { return Ok(None) };
            let accepted = accept(&SockRef::from(&socket))?.ok_or(io::ErrorKind::WouldBlock)?;
            Ok(Some((accepted, permit)))
        });
        match accepted.await {
            Ok(Some(((stream, address), permit))) => open(stream, &address, (listener, permit), &hub),
            Ok(None) => room(&hub, listener).await,
            // Out of descriptors, most likely: another worker or a closing connection may free some.
            Err(_) => sleep(TICK).await,
        }
    }
}

/// Waits until the caps leave room for another connection.
async fn room(hub: &SharedHub, listener: ListenerId) {
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
fn open(stream: TcpStream, address: &str, at: (ListenerId, Permit), shared: &SharedHub) {
    let Ok(client) = tokio::net::TcpStream::from_std(stream) else { return };
    let mut hub = shared.borrow_mut();
    hub.read_clock();
    let key = key_of(hub.shell.connections.insert(None));
    let conn = Conn::open(key, Stream(client), at, address, &mut hub);
    spawn_local(drive(conn, key, Rc::clone(shared)));
}

/// The task of one connection.
async fn drive(mut conn: Conn<Stream>, key: u32, hub: SharedHub) {
    poll_fn(|cx| {
        let mut hub = hub.borrow_mut();
        hub.read_clock();
        hub.shell.remember(key, cx.waker());
        match conn.drive(&mut hub, cx) {
            Driven::Waits => Poll::Pending,
            Driven::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Driven::Over => Poll::Ready(()),
        }
    })
    .await;
    drop(conn);
    hub.borrow_mut().shell.forget(key);
}

impl Tasks {
    fn remember(&mut self, key: u32, waker: &Waker) {
        if let Some(known) = self.connections.get_mut(key as usize)
            && !known.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *known = Some(waker.clone());
        }
    }

    fn forget(&mut self, key: u32) {
        self.connections.try_remove(key as usize);
        self.wake_accepting();
    }

    fn wake_accepting(&mut self) {
        self.accepting.drain(..).for_each(Waker::wake);
    }

    fn wake_all(&self) {
        self.connections.iter().filter_map(|(_, waker)| waker.as_ref()).for_each(Waker::wake_by_ref);
    }
}

impl Shell for Tasks {
    type Wire = Stream;

    fn adopt(&mut self, stream: TcpStream, _: u32) -> io::Result<Stream> {
        tokio::net::TcpStream::from_std(stream).map(Stream)
    }

    /// Whoever polls a stream is woken for it: there is nothing to change.
    fn rejoin(&mut self, _: &mut Stream, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake(&mut self, key: u32) {
        if let Some(Some(waker)) = self.connections.get(key as usize) {
            waker.wake_by_ref();
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The runtime's own polling methods take a short read or write as the last one, and keep the end of the stream in
/// mind, where its `try_` methods would call the kernel once more.
impl Wire for Stream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.poll_read_ready(cx).is_ready()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_io(Interest::READABLE, || receive(self.0.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
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
