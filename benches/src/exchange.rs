//! A whole exchange in the core: a browser's request with the session cookie in the middle, a small response, a warm
//! connection and a held link. Sockets are played by copies.

use std::sync::Arc;
use std::time::Duration;

use homing_core::affinity::{CarrierSpec, CookieSpec, Policy, PolicyError, PolicySpec};
use homing_core::clock::{Now, Tick, UnixSecs};
use homing_core::exchange::{Dialed, Direction, Exchange, Step};
use homing_core::field::Status;
use homing_core::route::ListenerId;
use homing_core::snapshot::Snapshot;
use homing_core::stats::Counters;
use homing_core::token::{self, Address, Token};
use homing_core::window::Window;
use homing_core::worker::Worker;

use crate::hosts::Hosts;

pub(crate) const NOW: UnixSecs = UnixSecs::new(1_795_000_000);
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\nserver: backend\r\ncontent-type: \
text/html; charset=utf-8\r\ncache-control: no-cache\r\nx-backend: 0123456789abcdef\r\ncontent-length: 13\r\n\r\nHello, \
world!";

/// A connection to a route with `hosts` hosts and a cookie session.
#[derive(Debug)]
pub struct Exchanged {
    worker: Worker,
    exchange: Exchange,
    inbound: Window,
    outbound: Window,
    request: Vec<u8>,
    /// Bytes that left in either direction in the last cycle.
    pub sent: (usize, usize),
}

/// Which session the request carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carries {
    /// The token of a host that is there.
    Token,
    /// None: the response mints one.
    Nothing,
    /// A token, and hardly anything else, as in the load rig's S1.
    TokenAlone,
}

/// A cookie policy as a browser application has it.
///
/// # Errors
/// Never, with this specification.
pub fn policy() -> Result<Policy, PolicyError> {
    Policy::compile(PolicySpec {
        carrier: CarrierSpec::Cookie(CookieSpec {
            name: "session".into(),
            path: "/".into(),
            ttl: Duration::from_secs(3600),
            attributes: Vec::new(),
        }),
        strict: false,
        gone_status: Status::UNAVAILABLE,
        clear_dead: false,
        hide_from_upstream: false,
        no_cache: false,
        renew_before: None,
    })
}

/// The value of a browser's cookie field, the session in the middle.
pub fn cookies(address: Option<&str>) -> Vec<u8> {
    let mut line =
        b"_ga=GA1.1.1203984571.1763912345; theme=dark; csrftoken=Zk3v9QmX1cR8pT5wY2bN7hJ4; ".to_vec();
    if let Some(address) = address {
        line.extend_from_slice(&session(address));
        line.extend_from_slice(b"; ");
    }
    line.extend_from_slice(
        b"lang=en; _gid=GA1.1.998877665.1763912345; cart=8f14e45fceea167a5a36dedd4bea2543",
    );
    line
}

/// The session's cookie.
fn session(address: &str) -> Vec<u8> {
    let mut cookie = b"session=\"".to_vec();
    if let Some(address) = Address::new(address.as_bytes()) {
        let expires = Some(UnixSecs::new(NOW.get() + 60));
        token::encode_cookie(&Token { address, expires }, &mut cookie);
    }
    cookie.push(b'"');
    cookie
}

impl Exchanged {
    /// A warm connection. `None` when the set-up is at fault.
    pub fn new(hosts: u32, carries: Carries) -> Option<Self> {
        let hosts = Hosts::new(hosts).ok()?;
        let address = hosts.present.last()?.clone();
        let snapshot = Snapshot::of_one(hosts.cluster, Some(policy().ok()?));
        let mut worker = Worker::new(Arc::new(snapshot), Arc::new(Counters::default()), None, 1);
        worker.now = Now { tick: Tick::from_millis(1000), wall: NOW };
        let exchange = Exchange::new(ListenerId(0), "192.0.2.7", &worker);
        let mut this = Self {
            worker,
            exchange,
            inbound: Window::new(),
            outbound: Window::new(),
            request: match carries {
                Carries::Token => request(Some(&address)),
                Carries::Nothing => request(None),
                Carries::TokenAlone => small_request(&address),
            },
            sent: (0, 0),
        };
        this.cycle().then_some(this)
    }

    /// One request and its response; false: it did not go as it should.
    #[inline]
    pub fn cycle(&mut self) -> bool {
        self.sent = (0, 0);
        let worker = &mut self.worker;
        let request = self.request.as_slice();
        let mut asked = false;
        loop {
            match self.exchange.request(&mut self.inbound, worker) {
                Step::Fill if asked => return false,
                Step::Fill => {
                    asked = true;
                    worker.windows.lend(&mut self.inbound);
                    let Some(spare) = self.inbound.spare_mut().get_mut(..request.len()) else { return false };
                    spare.copy_from_slice(request);
                    self.exchange.filled(Direction::Request, &mut self.inbound, request.len(), worker);
                }
                Step::Dial(_) => self.exchange.dialed(Dialed::Reused, worker),
                Step::Send(count) => {
                    self.sent.0 += count;
                    self.exchange.sent(Direction::Request, &mut self.inbound, count, worker);
                }
                Step::Hold => break,
                Step::Rest | Step::HalfClose => return false,
            }
        }
        loop {
            match self.exchange.response(&mut self.outbound, worker) {
                Step::Fill => {
                    worker.windows.lend(&mut self.outbound);
                    let Some(spare) = self.outbound.spare_mut().get_mut(..RESPONSE.len()) else {
                        return false;
                    };
                    spare.copy_from_slice(RESPONSE);
                    self.exchange.filled(Direction::Response, &mut self.outbound, RESPONSE.len(), worker);
                }
                Step::Send(count) => {
                    self.sent.1 += count;
                    self.exchange.sent(Direction::Response, &mut self.outbound, count, worker);
                }
                Step::Hold => return self.exchange.is_idle() && self.exchange.over().is_none(),
                Step::Dial(_) | Step::Rest | Step::HalfClose => return false,
            }
        }
    }
}

/// A browser's GET, about 780 bytes.
fn request(address: Option<&str>) -> Vec<u8> {
    let mut request = b"GET /catalogue/items?page=3&sort=price HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: Mozilla/5.0 \
(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,application/xml;\
q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.7\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: \
https://www.example.org/catalogue/\r\nDNT: 1\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\nCookie: "
        .to_vec();
    request.extend_from_slice(&cookies(address));
    request.extend_from_slice(b"\r\n\r\n");
    request
}

/// A program's GET, about 100 bytes.
fn small_request(address: &str) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nCookie: ", session(address).as_slice(), b"\r\n\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_pins_and_its_lack_mints() {
        for (carries, reason, sizes) in [
            (Carries::Token, "pinned", 650..900),
            (Carries::TokenAlone, "pinned", 80..160),
            (Carries::Nothing, "placed.absent", 650..900),
        ] {
            let mut exchanged = Exchanged::new(100, carries).unwrap();
            for _ in 0..3 {
                assert!(exchanged.cycle());
                assert_eq!(exchanged.exchange.outcome().reason(), reason);
                assert_eq!(exchanged.exchange.outcome().minted, carries == Carries::Nothing);
                assert!(exchanged.sent.0 > exchanged.request.len() - 10);
            }
            let size = exchanged.request.len();
            assert!(sizes.contains(&size), "the request has {size} bytes");
        }
    }
}
