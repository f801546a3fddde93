//! What the three forwarders share: their command line, and the turn of upstreams.
//!
//! Each accepts on one loopback port and gives every client connection one upstream connection, taken in turn.
//! Bytes go both ways unread, so one read is one request: the least work that a proxy can do with sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::exit;

/// How much of a response is read at once. As large as HAProxy's and Homing's larger buffers, small enough for L2.
pub const RESPONSE_BUFFER: usize = 64 * 1024;

/// How much of a request is read at once.
pub const REQUEST_BUFFER: usize = 16 * 1024;

/// The command line: `PORT UPSTREAM_PORT...`, all on 127.0.0.1.
pub struct Plan {
    /// Where to accept.
    pub listen: SocketAddr,
    upstreams: Vec<SocketAddr>,
    turn: usize,
}

impl Plan {
    /// Reads the command line; prints what it expects and exits with 2 when that fails.
    pub fn from_args() -> Self {
        let ports: Option<Vec<u16>> = std::env::args().skip(1).map(|text| text.parse().ok()).collect();
        match ports.as_deref() {
            Some([listen, upstreams @ ..]) if !upstreams.is_empty() => Self {
                listen: on_loopback(*listen),
                upstreams: upstreams.iter().copied().map(on_loopback).collect(),
                turn: 0,
            },
            _ => {
                eprintln!("expected PORT UPSTREAM_PORT..., numbers from 0 to 65535");
                exit(2);
            }
        }
    }

    /// The upstream whose turn it is.
    pub fn next_upstream(&mut self) -> SocketAddr {
        let upstream = self.upstreams[self.turn];
        self.turn = (self.turn + 1) % self.upstreams.len();
        upstream
    }
}

fn on_loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
