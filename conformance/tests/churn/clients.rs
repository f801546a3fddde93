//! The clients: sessions at a constant rate on connections that are kept and on new ones, and streams that are held open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use homing_core::rng::Rng;

use super::World;
use super::hosts::{Alive, Kind};

/// Nothing takes so long unless it hangs; then the test fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answered by the session's home, without a new token.
    pub(crate) stayed: u64,
    /// Without a session before, and placed.
    pub(crate) new: u64,
    /// Answered by another host than the session's home.
    pub(crate) moved: u64,
    /// Strict: refused.
    pub(crate) refused: u64,
    /// No answer of a host.
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.stayed += other.stayed;
        self.new += other.new;
        self.moved += other.moved;
        self.refused += other.refused;
        self.failed += other.failed;
    }

    pub(crate) fn total(&self) -> u64 {
        self.stayed + self.new + self.moved + self.refused + self.failed
    }

    pub(crate) fn show(&self) -> String {
        let Self { stayed, new, moved, refused, failed } = self;
        let total = self.total();
        format!(
            "{total} requests: {stayed} at home, {new} new, {moved} moved, {refused} refused, {failed} failed in flight"
        )
    }
}

/// A session: its home, and the token that leads there.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    address: SocketAddr,
    home: String,
    token: String,
}

struct Answer {
    status: u16,
    host: Option<String>,
    token: Option<String>,
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, path: &str, token: Option<&str>, fields: &str) -> io::Result<Answer> {
        let token = token.map(|token| format!("x-session: {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{token}{fields}\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let head = read_head(&mut self.0).ok_or(io::ErrorKind::UnexpectedEof)?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        self.0.read_exact(&mut vec![0; length])?;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer { status, host: field("x-be"), token: field("x-session") })
    }
}

/// A head; `None`: the connection ended.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Asks at a constant rate until the world is over.
pub(crate) fn run(address: SocketAddr, strict: bool, rate: u32, mut rng: Rng, world: &World) -> Tally {
    let period = Duration::from_secs(1) / rate;
    let mut tally = Tally::default();
    let mut session: Option<Session> = None;
    let mut connection = None;
    let mut due = Instant::now();
    while !world.is_over() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += period;
        if rng.below(5) == 0 {
            connection = None;
        }
        if rng.below(20) == 0 {
            session = None;
        }
        let path = if rng.below(4) == 0 { "/slow" } else { "/" };
        let alive: Vec<Alive> = world.hosts.iter().map(super::Host::alive).collect();
        let mut used = match connection.take() {
            Some(connection) => connection,
            None => Connection::open(address).unwrap(),
        };
        let token = session.as_ref().map(|session| session.token.as_str());
        let answer = used.ask(path, token, "");
        let any_death = || world.hosts.iter().zip(&alive).any(|(host, &alive)| host.was_down(alive));
        let home = session.as_ref().map(|session| world.host(&session.home));
        // A home that nothing has happened to that could end a session.
        let living = home.is_some_and(|home| match home.kind {
            Kind::Steady => true,
            Kind::Volatile => false,
            Kind::Mortal => {
                let alive = world.hosts.iter().zip(&alive).find(|(host, _)| host.name == home.name);
                alive.is_some_and(|(home, &alive)| !home.was_down(alive))
            }
        });
        let fault = |what: &str| {
            let home = home.map(|home| (home.kind, &home.name));
            world.fault(format!("{what}; strict: {strict}, {path}, home: {home:?}"));
        };
        match answer {
            Ok(Answer { status: 200, host: Some(host), token: None }) => {
                tally.stayed += 1;
                if home.is_none_or(|home| home.name != host) {
                    fault(&format!("{host} answered without a new token"));
                }
                connection = Some(used);
            }
            Ok(Answer { status: 200, host: Some(host), token: Some(token) }) => {
                if home.is_none() {
                    tally.new += 1;
                } else {
                    tally.moved += 1;
                }
                if living {
                    fault(&format!("moved to {host}"));
                } else if strict && home.is_some() {
                    fault(&format!("a strict session moved to {host}"));
                }
                session = Some(Session { address, home: host, token });
                connection = Some(used);
            }
            Ok(Answer { status: 410 | 503, host: None, .. }) if strict && home.is_some() => {
                tally.refused += 1;
                if living {
                    fault("refused");
                }
                session = None;
                connection = Some(used);
            }
            Ok(Answer { status, .. }) => {
                tally.failed += 1;
                if living || !any_death() {
                    fault(&format!("answered {status}"));
                }
            }
            // The proxy answers every request: cutting a response needs a host that dies in it, and these are short.
            Err(error) => fault(&format!("no answer: {error}")),
        }
    }
    tally
}

impl Session {
    /// Begins sessions until one is placed there; also how many were begun.
    pub(crate) fn begin_at(address: SocketAddr, home: &str) -> (Self, u64) {
        let mut connection = Connection::open(address).unwrap();
        for asked in 1..1000 {
            let answer = connection.ask("/", None, "").unwrap();
            if answer.host.as_deref() == Some(home) {
                return (Self { address, home: home.to_owned(), token: answer.token.unwrap() }, asked);
            }
        }
        panic!("no session is placed at {home}");
    }

    /// Opens a stream at home.
    pub(crate) fn open(&self, path: &'static str) -> Held {
        let mut connection = Connection::open(self.address).unwrap();
        let fields = if path == "/tunnel" { "connection: upgrade\r\nupgrade: echo\r\n" } else { "" };
        let answer = connection.ask(path, Some(&self.token), fields).unwrap();
        assert_eq!(answer.host.as_deref(), Some(&*self.home), "{path} with {}", answer.status);
        Held { connection, home: self.home.clone() }
    }
}

/// A stream that must live until the world is over.
pub(crate) struct Held {
    connection: Connection,
    home: String,
}

impl Held {
    /// Speaks and hears the echo, until the end; one request.
    pub(crate) fn hold_tunnel(mut self, world: &World) -> u64 {
        while !world.is_over() {
            let mut heard = [0; 4];
            let spoken = self.connection.0.get_mut().write_all(b"ping");
            let answered = spoken.and_then(|()| self.connection.0.read_exact(&mut heard));
            if answered.is_err() || heard != *b"ping" {
                world.fault(format!("the tunnel at {} broke: {answered:?} {heard:?}", self.home));
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        1
    }

    /// Hears events until the end; one request.
    pub(crate) fn hold_events(mut self, world: &World) -> u64 {
        while !world.is_over() {
            let mut chunk = [0; 14];
            let heard = self.connection.0.read_exact(&mut chunk);
            if heard.is_err() || !chunk.starts_with(b"9\r\ndata: x") {
                world.fault(format!("the events of {} broke off: {heard:?} {chunk:?}", self.home));
                break;
            }
        }
        1
    }
}
