//! Upstream hosts that follow a script, and the connections that lead to them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use homing_core::clock::Tick;

use crate::message::{Progress, Request, read_request, responses};

/// What the hosts answer.
pub trait Upstream {
    /// A whole request has come to `host`.
    fn respond(&mut self, host: &str, request: &Request) -> Vec<Act>;

    /// A head has come to `host`, and its body has not come yet, at least not whole. `None`: wait for it.
    fn early(&mut self, host: &str, request: &Request) -> Option<Vec<Act>> {
        let _ = (host, request);
        None
    }
}

impl<F: FnMut(&str, &Request) -> Vec<Act>> Upstream for F {
    fn respond(&mut self, host: &str, request: &Request) -> Vec<Act> {
        self(host, request)
    }
}

/// One thing a host does. A script ends where the host waits for the next request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Act {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Waits so many milliseconds.
    Delay(u64),
    /// Waits until the whole request has come.
    AwaitBody,
    /// Closes the connection; what the proxy sends afterwards is answered by a reset.
    Close,
    /// Closes the sending side.
    CloseSend,
    /// Resets the connection.
    Reset,
    /// Does nothing more on this connection, for ever.
    Hold,
    /// Reads no more.
    StopReading,
    /// Sends back every byte it gets, and the end too.
    Echo,
}

/// A script of one response, whole.
pub fn answer(bytes: impl AsRef<[u8]>) -> Vec<Act> {
    vec![Act::Bytes(bytes.as_ref().to_vec())]
}

/// How one side of a connection has ended its sending.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum End {
    #[default]
    Open,
    Fin,
    Reset,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    pub(super) end: End,
    /// Most bytes that wait to be read.
    pub(super) capacity: usize,
}

impl Default for Pipe {
    fn default() -> Self {
        Self { bytes: VecDeque::new(), end: End::Open, capacity: usize::MAX }
    }
}

/// A connection to a host, as both sides see it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) host: String,
    pub(super) to_host: Pipe,
    pub(super) to_proxy: Pipe,
    /// The proxy has closed its socket.
    pub(super) proxy_gone: bool,
    /// The host has closed its socket.
    pub(super) host_gone: bool,
    /// Every byte the proxy sent.
    pub(super) sent: Vec<u8>,
    /// Every byte the proxy received.
    pub(super) received: Vec<u8>,
}

/// The proxy's end of a connection. Dropping it closes it.
#[derive(Debug)]
pub struct MemoryLink(pub(super) Rc<RefCell<Wire>>);

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.0.borrow_mut().proxy_gone = true;
    }
}

impl MemoryLink {
    /// Whether nothing has come from the host, neither bytes nor an end.
    pub(super) fn is_quiet(&self) -> bool {
        let wire = self.0.borrow();
        wire.to_proxy.bytes.is_empty() && wire.to_proxy.end == End::Open
    }

    /// Why the link may not go to the pool: a message on it is not complete, in either direction.
    pub(super) fn unclean(&self) -> Option<String> {
        let wire = self.0.borrow();
        let (mut at, mut methods) = (0, Vec::new());
        while let Some(rest) = wire.sent.get(at..).filter(|rest| !rest.is_empty()) {
            match read_request(rest) {
                Ok(Progress::Done(request, used)) => {
                    at += used;
                    methods.push(request.method);
                }
                other => return Some(format!("an unfinished request: {other:?}")),
            }
        }
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        match responses(&wire.received, &methods, false) {
            Ok(found) => {
                let finals = found.iter().filter(|response| !response.is_interim()).count();
                (finals != methods.len()).then(|| format!("{} requests, {finals} responses", methods.len()))
            }
            Err(broken) => Some(broken),
        }
    }
}

/// The host's end of a connection.
#[derive(Debug)]
pub(super) struct HostSide {
    pub(super) wire: Rc<RefCell<Wire>>,
    inbox: Vec<u8>,
    acts: VecDeque<Act>,
    reading: bool,
    echo: bool,
    /// The script of the request at the front of the inbox was given already.
    answered: bool,
    /// The head of the request at the front of the inbox was shown already.
    shown: bool,
    held: bool,
    /// Bytes of the inbox that need not be looked at again before there are more than this.
    searched: usize,
    /// The length of the request at the front of the inbox, once its head was shown and if it says so.
    length: Option<usize>,
    pub(super) wake: Option<Tick>,
}

impl HostSide {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, reading: bool) -> Self {
        if !reading {
            wire.borrow_mut().to_host.capacity = DEAF_ROOM;
        }
        Self {
            wire,
            inbox: Vec::new(),
            acts: VecDeque::new(),
            reading,
            echo: false,
            answered: false,
            shown: false,
            held: false,
            searched: 0,
            length: None,
            wake: None,
        }
    }

    /// Whether the host is between requests and would close an idle connection.
    pub(super) fn is_idle(&self) -> bool {
        self.acts.is_empty() && self.inbox.is_empty() && !self.echo && !self.wire.borrow().host_gone
    }

    /// Closes the connection, as a host does with an idle one.
    pub(super) fn close(&mut self) {
        let mut wire = self.wire.borrow_mut();
        wire.host_gone = true;
        if wire.to_proxy.end == End::Open {
            wire.to_proxy.end = End::Fin;
        }
    }

    /// Does what can be done now. True: something was done. Whole requests go to `requests`.
    pub(super) fn turn(
        &mut self,
        now: Tick,
        upstream: &mut dyn Upstream,
        requests: &mut Vec<(String, Request)>,
    ) -> Result<bool, String> {
        if self.wire.borrow().host_gone || self.held {
            return Ok(false);
        }
        let mut moved = self.read();
        loop {
            let heard = self.listen(upstream, requests)?;
            let acted = self.act(now);
            moved |= heard || acted;
            if !(heard || acted) {
                return Ok(moved);
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut wire = self.wire.borrow_mut();
        if !self.reading || wire.to_host.bytes.is_empty() {
            if self.echo && wire.to_host.end == End::Fin && wire.to_proxy.end == End::Open {
                wire.to_proxy.end = End::Fin;
                return true;
            }
            return false;
        }
        let bytes = wire.to_host.bytes.drain(..);
        self.inbox.extend(bytes);
        true
    }

    /// Takes a request off the inbox, if the last one's script is done or waits for its body.
    fn listen(
        &mut self,
        upstream: &mut dyn Upstream,
        requests: &mut Vec<(String, Request)>,
    ) -> Result<bool, String> {
        if self.echo {
            let echoed = !self.inbox.is_empty();
            self.wire.borrow_mut().to_proxy.bytes.extend(self.inbox.drain(..));
            return Ok(echoed);
        }
        let waits = self.acts.is_empty() || self.acts.front() == Some(&Act::AwaitBody);
        if self.inbox.is_empty() || !(waits || self.answered) {
            return Ok(false);
        }
        if !self.is_worth_reading() {
            return Ok(false);
        }
        let host = self.wire.borrow().host.clone();
        let broken = |broken| format!("the proxy sent {host} a broken request: {broken}");
        match read_request(&self.inbox).map_err(broken)? {
            Progress::Done(request, used) => {
                self.inbox.drain(..used);
                if !self.answered {
                    self.acts = upstream.respond(&host, &request).into();
                }
                requests.push((host, request));
                (self.answered, self.shown, self.searched) = (false, false, 0);
                if self.acts.front() == Some(&Act::AwaitBody) {
                    self.acts.pop_front();
                }
                Ok(true)
            }
            Progress::Head(request) if !self.shown => {
                self.shown = true;
                let head = self.inbox.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
                self.length = request.field("content-length").and_then(|text| text.parse().ok());
                self.length = self.length.map(|body: usize| head + body);
                if let Some(script) = upstream.early(&host, &request) {
                    self.acts = script.into();
                    self.answered = true;
                }
                Ok(self.answered)
            }
            Progress::Head(_) | Progress::Partial => Ok(false),
        }
    }

    /// Whether another reading could find more than the last one; spares reading a head once per byte.
    fn is_worth_reading(&mut self) -> bool {
        let from = self.searched.saturating_sub(3);
        let fresh = self.inbox.get(from..).unwrap_or_default();
        let worth = match (self.shown, self.length) {
            (false, _) => fresh.windows(4).any(|four| four == b"\r\n\r\n"),
            (true, Some(length)) => self.inbox.len() >= length,
            (true, None) => self.inbox.ends_with(b"\r\n\r\n"),
        };
        if !worth {
            self.searched = self.inbox.len();
        }
        worth
    }

    fn act(&mut self, now: Tick) -> bool {
        match self.acts.front_mut() {
            None => return false,
            Some(Act::AwaitBody) if self.answered => return false,
            Some(Act::Delay(wait)) => {
                let wait = *wait;
                match self.wake {
                    None => {
                        self.wake = Some(Tick::from_millis(now.millis() + wait));
                        return false;
                    }
                    Some(at) if now < at => return false,
                    Some(_) => self.wake = None,
                }
            }
            Some(_) => {}
        }
        let Some(act) = self.acts.pop_front() else { return false };
        let mut wire = self.wire.borrow_mut();
        match act {
            Act::Bytes(bytes) => wire.to_proxy.bytes.extend(bytes),
            Act::Delay(_) | Act::AwaitBody => {}
            Act::CloseSend => wire.to_proxy.end = End::Fin,
            Act::Reset => {
                wire.to_proxy.end = End::Reset;
                wire.host_gone = true;
            }
            Act::Close => {
                drop(wire);
                self.close();
            }
            Act::Hold => self.held = true,
            Act::StopReading => {
                self.reading = false;
                wire.to_host.capacity = DEAF_ROOM;
            }
            Act::Echo => self.echo = true,
        }
        true
    }
}

/// What fits between a proxy and a host that does not read.
const DEAF_ROOM: usize = 4096;
