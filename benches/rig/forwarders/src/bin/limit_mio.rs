//! The bare forwarder on mio: readiness, edge-triggered, one thread, one buffer for all connections.

use std::io::{self, ErrorKind, Read, Write};

use forwarders::{Plan, RESPONSE_BUFFER};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

const LISTENER: Token = Token(usize::MAX);

/// Pair `n` owns the tokens `2n` (the client) and `2n + 1` (its upstream).
struct Pair {
    sides: [Side; 2],
}

struct Side {
    stream: TcpStream,
    /// Bytes from the other side that this socket did not take yet.
    waiting: Vec<u8>,
}

/// Whether the pair lives on.
#[derive(PartialEq)]
enum Fate {
    Live,
    Ended,
}

fn main() -> io::Result<()> {
    let mut plan = Plan::from_args();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(plan.listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    // Places freed in one turn are reused in the next: events of the same turn may still name them.
    let (mut free, mut freed) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; RESPONSE_BUFFER];
    let mut events = Events::with_capacity(512);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Some(client) = accept(&listener)? {
                    let at = free.pop().unwrap_or_else(|| {
                        pairs.push(None);
                        pairs.len() - 1
                    });
                    pairs[at] = Some(Pair::open(client, &mut plan, poll.registry(), at)?);
                }
                continue;
            }
            let at = event.token().0 / 2;
            let Some(pair) = &mut pairs[at] else { continue };
            if pair.on_event(event, &mut buffer) == Fate::Ended {
                pairs[at] = None;
                freed.push(at);
            }
        }
        free.append(&mut freed);
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((client, _)) => Ok(Some(client)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Pair {
    fn open(client: TcpStream, plan: &mut Plan, registry: &Registry, at: usize) -> io::Result<Self> {
        let upstream = TcpStream::connect(plan.next_upstream())?;
        let mut sides = [client, upstream].map(|stream| Side { stream, waiting: Vec::new() });
        for (number, side) in sides.iter_mut().enumerate() {
            side.stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut side.stream, Token(2 * at + number), both)?;
        }
        Ok(Self { sides })
    }

    fn on_event(&mut self, event: &Event, buffer: &mut [u8]) -> Fate {
        let [client, upstream] = &mut self.sides;
        let (this, other) =
            if event.token().0.is_multiple_of(2) { (client, upstream) } else { (upstream, client) };
        if event.is_writable() && !this.waiting.is_empty() {
            // Once it is drained, the other side may hold bytes whose edge has passed.
            if this.flush() == Fate::Ended || pump(other, this, buffer, true) == Fate::Ended {
                return Fate::Ended;
            }
        }
        if event.is_readable() {
            return pump(this, other, buffer, event.is_read_closed());
        }
        Fate::Live
    }
}

impl Side {
    fn flush(&mut self) -> Fate {
        match self.stream.write(&self.waiting) {
            Ok(sent) => {
                self.waiting.drain(..sent);
                Fate::Live
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Fate::Live,
            Err(_) => Fate::Ended,
        }
    }
}

/// Moves what `from` holds to `to`, until `from` is empty or `to` is full. A short read means empty (epoll(7)),
/// unless `to_the_end`: then an end may lie behind it that has no edge of its own.
fn pump(from: &mut Side, to: &mut Side, buffer: &mut [u8], to_the_end: bool) -> Fate {
    while to.waiting.is_empty() {
        let length = match from.stream.read(buffer) {
            Ok(0) => return Fate::Ended,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Live,
            Err(_) => return Fate::Ended,
        };
        let sent = match to.stream.write(&buffer[..length]) {
            Ok(sent) => sent,
            // Not connected yet, or full.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => 0,
            Err(_) => return Fate::Ended,
        };
        to.waiting.extend_from_slice(&buffer[sent..length]);
        if length < buffer.len() && !to_the_end {
            return Fate::Live;
        }
    }
    Fate::Live
}
