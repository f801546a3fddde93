//! What the shells share about sockets and clocks: listeners handed over, connections begun, links looked at, time
//! read; and in [`readiness`] how a connection is driven where the kernel says when a socket is ready. No event loop, no HTTP.
//!
//! Every stream socket, TCP or unix, is held as a [`std::net::TcpStream`]: reading, writing and shutting down are the same
//! calls on the same kind of descriptor, so that a shell has one type of connection and not two.

pub mod drain;
pub mod pipe;
pub mod readiness;
mod rooms;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use homing_core::clock::{Now, Tick, UnixSecs};
use homing_core::hosts::Endpoint;
use homing_core::log::LogSink;
use homing_core::route::ListenerId;
use homing_core::stats::Counters;
use homing_core::worker::{Control, LinkLimits, Worker, is_roomy};
use rustix::event::{PollFd, PollFlags, Timespec};
#[cfg(target_os = "linux")]
use rustix::net::SocketFlags;
use rustix::net::{RecvFlags, SendFlags};
use slab::Slab;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::drain::{Door, Drain};

/// How often a worker looks at its timers, at the control plane, and hands its log over.
pub const TICK: Duration = Duration::from_millis(100);
/// How often a worker looks for dead and aged links in its pool, and gives back what a crowd has left behind.
pub const SWEEP: Duration = Duration::from_secs(1);

/// One worker's job, as the program hands it to a shell, which runs it on the calling thread.
pub struct Job {
    /// Bound, listening and non-blocking.
    pub listeners: Vec<(ListenerId, Socket)>,
    /// What to serve, and for how long.
    pub control: Arc<Control>,
    /// Whether the worker listens, for the others of the program to see.
    pub door: Door,
    /// The worker's own counters.
    pub counters: Arc<Counters>,
    /// Where the access log goes, if there is one.
    pub log: Option<Box<dyn LogSink>>,
    /// All random choices of the worker follow from it.
    pub seed: u64,
    /// What time it is.
    pub clock: Clock,
}

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// Where the wall clock stands still; `None`: it goes as the system's does.
    fixed: Option<UnixSecs>,
}

/// How far the wall clock was ahead of the origin of the ticks when it was last read.
#[derive(Clone, Copy, Debug)]
pub struct Ahead(Duration);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("listeners", &self.listeners)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// The core's part of the worker.
    pub fn worker(&mut self) -> Worker {
        Worker::new(self.control.snapshot(), Arc::clone(&self.counters), self.log.take(), self.seed)
    }

    /// The worker's part in the end of the program.
    pub fn drain(self) -> Drain {
        Drain::new(self.control, self.door)
    }

    /// The bounds of the worker's link pool.
    pub fn link_limits(&self) -> LinkLimits {
        link_limits(&self.control)
    }
}

/// The bounds of a link pool under the snapshot in force.
pub fn link_limits(control: &Control) -> LinkLimits {
    let snapshot = control.snapshot();
    let limits = &snapshot.limits;
    LinkLimits {
        connections: limits.host_connections,
        idle: limits.host_idle,
        pending: limits.host_pending,
        idle_timeout: limits.link_idle_timeout,
    }
}

impl Clock {
    /// A clock whose ticks count from now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), fixed: None }
    }

    /// The same, but the wall clock stands at `wall`, so that what was recorded at that moment can be run again.
    pub fn fixed(wall: UnixSecs) -> Self {
        Self { origin: Instant::now(), fixed: Some(wall) }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let wall = self.fixed.unwrap_or_else(|| UnixSecs::new(since_epoch().as_secs()));
        Now { tick: tick(self.origin.elapsed()), wall }
    }

    /// Both clocks by a reading of one, for whoever reads them often. `ahead` must be of the last tick or so, since the wall
    /// clock can be set and runs at a pace of its own.
    #[inline]
    pub fn now_by(&self, Ahead(ahead): Ahead) -> Now {
        let elapsed = self.origin.elapsed();
        let wall = self.fixed.unwrap_or_else(|| UnixSecs::new(ahead.saturating_add(elapsed).as_secs()));
        Now { tick: tick(elapsed), wall }
    }

    /// Reads both clocks for [`Clock::now_by`].
    pub fn ahead(&self) -> Ahead {
        Ahead(since_epoch().saturating_sub(self.origin.elapsed()))
    }
}

fn tick(elapsed: Duration) -> Tick {
    Tick::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// A wall clock before 1970 is a broken clock; every token is then far from its end.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Gives back what `slab` has grown by and does not need any more. Costs next to nothing when there is nothing to give.
pub fn slim<T>(slab: &mut Slab<T>) {
    if is_roomy(slab.len(), slab.capacity()) {
        slab.shrink_to_fit();
    }
}

/// The CPU time that the calling thread has used, in nanoseconds.
#[cfg(target_os = "linux")]
pub fn cpu_nanos() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = u64::try_from(spent.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(spent.tv_nsec).unwrap_or(0))
}

/// Begins a non-blocking connection. Once the socket is writable, [`connected`] says what became of it.
pub fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let (domain, address) = match endpoint {
        Endpoint::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Endpoint::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    spare_control(&socket, &address);
    match socket.connect(&address) {
        Ok(()) => {}
        // A unix socket whose queue is full says WouldBlock and never becomes connected: that is a failure.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && domain == Domain::UNIX => {
            return Err(error);
        }
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(adopt(socket))
}

/// What became of a connection that [`connect`] began.
pub fn connected(stream: &impl AsFd) -> io::Result<()> {
    match SockRef::from(stream).take_error()? {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Takes a listener over: connections that it accepts inherit what is set here, which spares each a system call.
///
/// Small writes leave at once, since a message leaves in one send. Linux acknowledges the first data on a connection at
/// once and by itself; as the answer follows soon, its acknowledgement is left to travel with it.
pub fn prepare(listener: &Socket) {
    // A unix socket has no such options.
    let _ = listener.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_quickack(listener, false);
    if let Ok(address) = listener.local_addr() {
        spare_control(listener, &address);
    }
}

/// Where `address`, one end of the socket, is the loopback's, so is the other, and there is no network between them whose
/// rate could be found out. So the simplest congestion control serves: one that paces and keeps a model, as a system's default
/// may, costs 3 % of a small request and a quarter of a long body (docs/decisions/0016).
fn spare_control(socket: &Socket, address: &SockAddr) {
    #[cfg(target_os = "linux")]
    if address.as_socket().is_some_and(|address| address.ip().to_canonical().is_loopback()) {
        // Every kernel has this one and lets everybody use it; should it not, the default works too.
        let _ = socket.set_tcp_congestion(b"reno");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, address);
}

/// Ends the listening at once, as closing would, but also where an operation of a ring still holds the socket: it goes when that
/// one has been called back, which takes the kernel some turns.
#[cfg(target_os = "linux")]
pub fn stop_listening(listener: &Socket) {
    // Linux does so for every kind of listener. Failing means that it does not listen any more.
    let _ = listener.shutdown(std::net::Shutdown::Read);
}

/// Takes a waiting connection of a listener that was [`prepare`]d: the stream, non-blocking, and the client's address
/// without its port. `None`: there is none. One that went away while it waited is passed over, so that `None` means an
/// empty queue, as edge-triggered shells need it.
pub fn accept(listener: &Socket) -> io::Result<Option<(TcpStream, String)>> {
    accept_as(listener, true)
}

/// The same, but the stream is blocking: a ring waits by itself, and on a non-blocking socket would say `WouldBlock`.
pub fn accept_blocking(listener: &Socket) -> io::Result<Option<(TcpStream, String)>> {
    accept_as(listener, false)
}

fn accept_as(listener: &Socket, nonblocking: bool) -> io::Result<Option<(TcpStream, String)>> {
    loop {
        match accept_one(listener, nonblocking) {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                // The client left between its SYN and now.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

/// Whether another [`accept`] would find a connection. It would make a whole socket before it found out that there is none to
/// take; to look costs a tenth of that.
pub fn somebody_waits(listener: &impl AsFd) -> bool {
    let mut look = [PollFd::new(listener, PollFlags::IN)];
    // Failing means that accepting says why.
    rustix::event::poll(&mut look, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
}

#[cfg(target_os = "linux")]
fn accept_one(listener: &Socket, nonblocking: bool) -> io::Result<(TcpStream, String)> {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    let (socket, address) = rustix::net::acceptfrom_with(listener, flags)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((TcpStream::from(socket), client_text(address)))
}

#[cfg(not(target_os = "linux"))]
fn accept_one(listener: &Socket, nonblocking: bool) -> io::Result<(TcpStream, String)> {
    let (socket, address) = listener.accept()?;
    socket.set_nonblocking(nonblocking)?;
    Ok((adopt(socket), client_text(address.as_socket())))
}

/// The client's address without its port, as `x-forwarded-for` has it; a unix socket's client has none.
pub fn client_text(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "unix".to_owned(), |address| address.ip().to_string())
}

/// Receives what has come, without waiting, into `into`; zero: the peer has closed its sending side.
///
/// # Errors
/// `WouldBlock`: nothing has come. Others: the connection is broken.
#[inline]
pub fn receive_now(stream: &impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(stream, into, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Sends what the socket takes of `bytes` without waiting.
///
/// This makes the system call itself, as [`receive_now`] does: in a program with several threads, the C library's functions
/// also keep account of thread cancellation, which costs a tenth of all the work done outside the kernel.
///
/// # Errors
/// `WouldBlock`: it takes nothing now. Others: the connection is broken.
#[inline]
pub fn send_now(stream: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // A broken connection is an error and no signal: Rust's programs ignore SIGPIPE, and where the flag is, so is this.
    #[cfg(target_os = "linux")]
    const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
    #[cfg(not(target_os = "linux"))]
    const FLAGS: SendFlags = SendFlags::DONTWAIT;
    Ok(rustix::net::send(stream, bytes, FLAGS)?)
}

/// Whether an idle link could still carry a request: nothing came from the host, neither an end nor stray bytes.
pub fn is_quiet(stream: &impl AsFd) -> bool {
    let peeked = rustix::net::recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
}

/// Makes the next close of the stream a reset, so that the peer does not take a truncated response for a whole one.
pub fn reset_on_close(stream: &impl AsFd) {
    // Failing means that the peer has gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    const EINPROGRESS: i32 = 115;
    #[cfg(not(target_os = "linux"))]
    const EINPROGRESS: i32 = 36;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(EINPROGRESS)
}

/// Takes the socket over as a stream; small writes leave at once, since a message leaves in one send.
fn adopt(socket: Socket) -> TcpStream {
    // A unix socket has no such option.
    let _ = socket.set_tcp_nodelay(true);
    TcpStream::from(OwnedFd::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pair() -> (Socket, TcpStream) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(8).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let stream = connect(&Endpoint::Tcp(address)).unwrap();
        (listener, stream)
    }

    #[test]
    fn one_clock_read_tells_what_both_say() {
        let clock = Clock::start();
        let ahead = clock.ahead();
        let (before, by, after) = (clock.now(), clock.now_by(ahead), clock.now());
        assert!((before.tick..=after.tick).contains(&by.tick));
        // The wall clock may be slewed meanwhile, so by a second more or less.
        let (earliest, latest) = (before.wall.get() - 1, after.wall.get() + 1);
        assert!((earliest..=latest).contains(&by.wall.get()), "{before:?} {by:?} {after:?}");
        let still = Clock::fixed(UnixSecs::new(7));
        assert_eq!(still.now_by(still.ahead()).wall, UnixSecs::new(7));
    }

    #[test]
    fn a_link_is_quiet_until_the_host_speaks_or_leaves() {
        let (listener, link) = pair();
        let (mut host, client) = accept(&listener).unwrap().unwrap();
        connected(&link).unwrap();
        assert_eq!(client, "127.0.0.1");
        assert!(is_quiet(&link));
        host.write_all(b"x").unwrap();
        let quiet_ends = (0..1000).any(|_| !is_quiet(&link));
        assert!(quiet_ends, "a byte was sent and not seen");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_loopback_has_the_simplest_congestion_control_and_a_network_its_own() {
        let (listener, link) = pair();
        prepare(&listener);
        let second = connect(&Endpoint::Tcp(listener.local_addr().unwrap().as_socket().unwrap())).unwrap();
        let accepted: Vec<_> = (0..2).map(|_| accept(&listener).unwrap().unwrap().0).collect();
        let of = |stream: &TcpStream| {
            let name = SockRef::from(stream).tcp_congestion().unwrap();
            String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!((of(&link), of(&second), of(&accepted[1])), ("reno".into(), "reno".into(), "reno".into()));
        let anywhere = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let before = anywhere.tcp_congestion().unwrap();
        anywhere.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).unwrap();
        anywhere.listen(1).unwrap();
        prepare(&anywhere);
        assert_eq!(anywhere.tcp_congestion().unwrap(), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_that_somebody_holds_stops_listening() {
        let (listener, _link) = pair();
        let address = listener.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!("homing-stop-listening-{}", std::process::id()));
        let unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        unix.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        unix.listen(8).unwrap();
        for (listener, address) in [(listener, address), (unix, SockAddr::unix(&path).unwrap())] {
            let held = listener.try_clone().unwrap();
            let client = || Socket::new(address.domain(), Type::STREAM, None).unwrap();
            client().connect(&address).unwrap();
            stop_listening(&listener);
            let refused = client().connect(&address).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            drop(held);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_refused_connection_is_seen() {
        let (listener, _) = pair();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        drop(listener);
        let refused = match connect(&Endpoint::Tcp(address)) {
            Err(_) => true,
            Ok(stream) => (0..1_000_000).any(|_| connected(&stream).is_err()),
        };
        assert!(refused);
    }
}
