//! The exchange under any order of events: bytes, short reads and writes, closes, resets, clocks, dials that end in
//! every way, reloads and stops, on both sides.
//!
//! ```text
//!  input ─▶ operations ─▶ Exchange ◀─▶ two windows
//!                             │
//!                             ├─▶ to_client: read back as responses, one for each record
//!                             └─▶ links: read back as requests, no more than were dialled
//! ```
//!
//! The shell here keeps the contract of [`homing_core::exchange`] and nothing else; what it does next is up to the fuzzer.
//! The rules that are held: asking again repeats the step; what is to be sent is live; an end is final; every response has
//! one record with its status; what goes out is well framed; a link goes to the pool only between messages; and when
//! everybody falls silent, time alone ends the connection.

mod shell;

use std::time::Duration;

use homing_conformance::build::{Builder, cookie_policy, field_name, header_policy, sse_policy, status};
use homing_core::affinity::{CarrierSpec, PolicySpec};
use homing_core::balance::Balance;
use homing_core::exchange::{Dialed, Direction};
use homing_core::hosts::{Admission, Health};
use homing_core::route::{Redirect, RetryOn, Rewrite, Session};
use homing_core::snapshot::ServerField;

use crate::input::{Input, seed_of};
use shell::Shell;

const HOSTS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "[fd00::3]:80"];

/// What a client may say; the fuzzer adds its own bytes. The tokens name the three hosts and one that is gone.
const REQUESTS: [&[u8]; 16] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /soft HTTP/1.1\r\nHost: a\r\nCookie: s=CgsxMC4wLjAuMTo4MA==\r\n\r\n",
    b"GET /strict HTTP/1.1\r\nHost: a\r\nCookie: x=y; s=\"CgsxMC4wLjAuMjo4MA==\"\r\n\r\n",
    b"GET /strict HTTP/1.1\r\nHost: a\r\nCookie: s=Cgk5LjkuOS45OjE=\r\n\r\n",
    b"POST /header HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-S: MTAuMC4wLjE6ODA=\r\n\r\nhello",
    b"PUT /retry HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\nt: 1\r\n\r\n",
    b"GET /retry HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /envelope HTTP/1.1\r\nHost: a\r\nX-S: MTAuMC4wLjE6ODA=;UV:c2lk\r\n\r\n",
    b"GET /soft HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /stream?a&s=abc.MTAuMC4wLjI6ODA&b HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
    b"GET /soft HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /soft HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    b"GET /redirect?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /respond HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n",
];

/// What a host may say.
const RESPONSES: [&[u8]; 16] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
      1b\r\nevent: endpoint\ndata: /?s=a\r\n2\r\n\n\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: ?s=a\n\nuntil close",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 1\r\n\r\n!",
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",
    b"HTTP/1.1 200 OK\r\nX-S: sid\r\nContent-Type: text/event-stream\r\nContent-Length: 20000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-S: one\r\nX-S: two\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
];

/// Waits that reach each of the time-outs, and some that do not.
const WAITS: [u64; 8] = [1, 100, 500, 1000, 2000, 5000, 60_000, 3_600_000];

/// The input as a sequence of operations on one connection.
pub fn exchange(data: &[u8]) {
    let mut input = Input::new(data);
    let variant = input.byte();
    let mut builder = site(variant);
    let mut shell = Shell::new(builder.build(), seed_of(data));
    while !input.is_empty() && !shell.is_over() {
        operation(&mut input, &mut shell, &mut builder);
    }
    shell.finish();
    for host in HOSTS {
        assert_eq!(builder.cell(host).active(), 0, "a request at {host} is still counted");
    }
}

fn operation(input: &mut Input<'_>, shell: &mut Shell, builder: &mut Builder) {
    let operation = input.byte();
    let argument = operation >> 4;
    match operation & 15 {
        0 => {
            let length = input.byte().into();
            shell.client_says(input.bytes(length));
        }
        1 => shell.client_says(REQUESTS[usize::from(argument)]),
        2 => {
            let length = input.byte().into();
            shell.host_says(input.bytes(length));
        }
        3 => shell.host_says(RESPONSES[usize::from(argument)]),
        4 => shell.go(Direction::Request, allowance(input, argument)),
        5 => shell.go(Direction::Response, allowance(input, argument)),
        6 | 7 => shell.run(1 << argument.min(6)),
        8 => match argument & 3 {
            0 => shell.client_ends(false),
            1 => shell.client_ends(true),
            2 => shell.host_ends(false),
            _ => shell.host_ends(true),
        },
        9 => shell.wait(WAITS[usize::from(argument & 7)]),
        10 => shell.next_dials(
            [Dialed::Reused, Dialed::Fresh, Dialed::Failed, Dialed::Full][usize::from(argument & 3)],
        ),
        11 => shell.fails_to_send(if argument & 1 == 0 { Direction::Request } else { Direction::Response }),
        12 => flip(builder, argument),
        13 => shell.publish(builder.build()),
        14 => match argument {
            0 => shell.stop(),
            1 | 2 => shell.drain(),
            _ => shell.expire(),
        },
        // More bytes than fit one window.
        _ => shell.says_much(argument & 1 == 0, input.short()),
    }
}

fn allowance(input: &mut Input<'_>, argument: u8) -> usize {
    match argument {
        0..=7 => usize::MAX,
        8..=11 => 1,
        _ => 1 + input.short(),
    }
}

/// A host's state changes under way; a flip is seen at once by every snapshot.
fn flip(builder: &mut Builder, argument: u8) {
    let cell = builder.cell(HOSTS[usize::from(argument & 3).min(2)]);
    match argument >> 2 {
        0 => cell.set_health(Health::Unhealthy),
        1 => cell.set_admission(Admission::Barred),
        2 => cell.set_admission(Admission::Draining),
        _ => {
            cell.set_health(Health::Healthy);
            cell.set_admission(Admission::Open);
        }
    }
}

/// A route for every kind of session, answer and retry. The bits of `variant` choose among bounds and marks.
fn site(variant: u8) -> Builder {
    let mut builder = Builder::new();
    let app = builder.cluster_with("app", &HOSTS, Balance::LeastRequest);
    let one = builder.cluster("one", &HOSTS[..1]);
    let soft = builder.policy(cookie_policy("s"));
    let strict = builder.policy(PolicySpec {
        strict: true,
        clear_dead: true,
        hide_from_upstream: variant & 1 != 0,
        gone_status: status(404),
        ..cookie_policy("s")
    });
    let header = builder.policy(header_policy("x-s"));
    let carrier = CarrierSpec::Envelope { name: field_name("x-s") };
    let envelope = builder.policy(PolicySpec { carrier, no_cache: true, ..header_policy("x-s") });
    let stream = builder.policy(sse_policy("s"));
    for (prefix, policy) in [
        ("/soft", soft),
        ("/strict", strict),
        ("/header", header),
        ("/envelope", envelope),
        ("/stream", stream),
    ] {
        builder.route_with(prefix, app, move |forward| {
            forward.session = Session::Policy(policy);
            forward.upgrades = variant & 2 == 0;
        });
    }
    builder.route_with("/retry", app, move |forward| {
        forward.retry.attempts = 2;
        forward.retry.on =
            RetryOn { connect_failure: true, reset: true, server_error: true, gateway_error: true };
        forward.retry.per_try_timeout = Duration::from_secs(u64::from(variant & 1));
        forward.rewrite = Some(Rewrite::Prefix("/r".into()));
    });
    let path = Some(Rewrite::Path("/elsewhere".into()));
    builder.redirect(
        "/redirect",
        Redirect { status: status(308), scheme: None, host: Some("b".into()), port: Some(81), path },
    );
    builder.respond("/respond", 200, "a fixed answer");
    builder.route("/", one);
    if variant & 4 != 0 {
        builder.limits.request_body_bytes = Some(10_000);
        builder.limits.request_head_bytes = 512;
        builder.limits.response_head_bytes = 256;
        builder.limits.discard_bytes = 8;
    }
    if variant & 8 != 0 {
        builder.marks.via = Some("homing".into());
        builder.marks.server = ServerField::Overwrite("homing".into());
        builder.marks.trust_inbound = true;
    }
    builder
}
