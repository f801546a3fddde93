//! The split law: how bytes are cut into reads and writes, and in which order the two directions take their turns,
//! changes nothing that a client or a host can see.
//!
//! There is a closed list of exceptions, [`Choice`], where something that was seen early cannot be unsaid.

use std::time::Duration;

use homing_conformance::build::{Builder, sse_policy, status};
use homing_conformance::memory::{Act, Ended, Knobs, Lab, Upstream, answer};
use homing_conformance::message::{Request, responses};
use homing_core::limits::SSE_HELD_MAX;
use homing_core::rng::Rng;
use homing_core::route::{Forward, Redirect, Retry, RetryOn, Session};
use homing_core::stats::Ending;

const HOSTS: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];
const SEEDS_EACH: u64 = 150;

/// What may depend on segmentation and order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Choice {
    /// Nothing: every byte in both directions, the ends and the outcomes are the same.
    Nothing,
    /// How the data of a rewritten stream are cut into chunks; whatever chunks they came in, together they are the same.
    ChunksOfRewrittenStream,
    /// How much of a request was passed on before its body turned out to be broken or too large.
    PartOfBrokenRequest,
    /// How much of a response was passed on before its body turned out to be broken.
    PartOfBrokenResponse,
    /// How much of a request the host got before its early answer ended the exchange, and so whether the
    /// connection is worth keeping: `connection: close` or not.
    KeptAfterEarlyAnswer,
}

/// One conversation.
struct Case {
    name: &'static str,
    choice: Choice,
    request: Vec<u8>,
    /// The client closes its sending side behind the request.
    ends: bool,
    script: fn(&str, &Request) -> Vec<Act>,
    /// The script is followed at the head already.
    early: bool,
    /// Too large for cuts of a few bytes.
    large: bool,
}

struct Hosts {
    script: fn(&str, &Request) -> Vec<Act>,
    early: bool,
}

impl Upstream for Hosts {
    fn respond(&mut self, host: &str, request: &Request) -> Vec<Act> {
        (self.script)(host, request)
    }

    fn early(&mut self, host: &str, request: &Request) -> Option<Vec<Act>> {
        self.early.then(|| (self.script)(host, request))
    }
}

/// What a conversation came to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    received: Vec<u8>,
    ended: Option<Ended>,
    half_closed: bool,
    wires: Vec<(String, Vec<u8>)>,
    outcomes: Vec<(Ending, u16, &'static str)>,
    requests: Vec<(String, Request)>,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    let app = builder.cluster("app", &HOSTS);
    builder.limits.request_body_bytes = Some(50_000);
    builder.limits.request_head_bytes = 24_000;
    builder.respond("/own", 200, "our own");
    let sse = builder.policy(sse_policy("s"));
    builder.route_with("/sse", app, move |forward: &mut Forward| forward.session = Session::Policy(sse));
    builder.redirect(
        "/away",
        Redirect {
            status: status(302),
            scheme: None,
            host: Some("b.example".into()),
            port: None,
            path: None,
        },
    );
    builder.route_with("/", app, |forward: &mut Forward| {
        let on = RetryOn { server_error: true, ..RetryOn::default() };
        forward.retry = Retry { attempts: 1, on, per_try_timeout: Duration::ZERO };
    });
    builder
}

fn run(case: &Case, knobs: Knobs, seed: u64) -> Seen {
    let mut lab = Lab::new(builder().build(), 7)
        .ordered_by(seed)
        .rough(knobs)
        .with(Hosts { script: case.script, early: case.early });
    let id = lab.client();
    lab.client_send(id, &case.request);
    if case.ends {
        lab.client_half_close(id);
    }
    lab.run();
    lab.advance(Duration::from_millis(400));
    let outcomes = lab.outcomes();
    Seen {
        received: lab.client_received(id).to_vec(),
        ended: lab.client_ended(id),
        half_closed: lab.client_is_half_closed(id),
        wires: lab.wires(),
        outcomes: outcomes
            .iter()
            .map(|record| (record.outcome.ending, record.outcome.status, record.outcome.reason()))
            .collect(),
        requests: lab.requests().to_vec(),
    }
}

/// Holds one run against the longest one.
fn compare(case: &Case, expected: &Seen, got: &Seen) {
    let name = case.name;
    let same_but_part = |full: &[(String, Vec<u8>)], part: &[(String, Vec<u8>)]| {
        full.len() == part.len() && full.iter().zip(part).all(|(full, part)| full.1.starts_with(&part.1))
    };
    assert_eq!(got.outcomes, expected.outcomes, "{name}");
    match case.choice {
        Choice::Nothing => {
            assert_eq!(lossy(&got.received), lossy(&expected.received), "{name}");
            assert_eq!(got, expected, "{name}");
        }
        Choice::ChunksOfRewrittenStream => {
            let whole = |seen: &Seen| {
                responses(&seen.received, &[], seen.half_closed).map_err(|broken| broken.to_string())
            };
            assert!(whole(expected).is_ok_and(|responses| !responses.is_empty()), "{name}");
            assert_eq!(whole(got), whole(expected), "{name}");
            assert_eq!((&got.wires, got.ended), (&expected.wires, expected.ended), "{name}");
        }
        Choice::PartOfBrokenRequest => {
            assert_eq!(lossy(&got.received), lossy(&expected.received), "{name}");
            assert!(same_but_part(&expected.wires, &got.wires), "{name}: {:?}", got.wires);
            assert!(got.requests.is_empty(), "{name}: a broken request is never whole");
        }
        Choice::PartOfBrokenResponse => {
            assert!(expected.received.starts_with(&got.received), "{name}: {:?}", lossy(&got.received));
            assert_eq!((&got.wires, got.ended), (&expected.wires, Some(Ended::Reset)), "{name}");
        }
        Choice::KeptAfterEarlyAnswer => {
            let without = |bytes: &[u8]| lossy(bytes).replace("connection: close\r\n", "");
            assert_eq!(without(&got.received), without(&expected.received), "{name}");
            assert!(same_but_part(&expected.wires, &got.wires), "{name}: {:?}", got.wires);
            let said = lossy(&got.received).contains("connection: close");
            assert_eq!(got.half_closed, said, "{name}: what was said is done");
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn knobs(case: &Case, seed: u64) -> Knobs {
    let mut rng = Rng::seeded(seed);
    let cuts: [u32; 5] = if case.large { [0, 500, 3000, 9000, 20_000] } else { [1, 1, 2, 7, 60] };
    Knobs { cut: cuts[rng.below(5) as usize], completion: rng.below(2) == 0, disorder: rng.below(2) == 0 }
}

#[test]
fn segmentation_and_order_change_nothing_beyond_the_listed_choices() {
    for case in cases() {
        // Where parts count, the finest segmentation passes on most.
        let cut = if case.choice == Choice::Nothing { 0 } else { 1 };
        let expected = run(&case, Knobs { cut, ..Knobs::PLAIN }, 0);
        assert!(!expected.received.is_empty(), "{}", case.name);
        let seeds = if case.large { SEEDS_EACH / 5 } else { SEEDS_EACH };
        for seed in 1..=seeds {
            let told = Told(case.name, seed);
            compare(&case, &expected, &run(&case, knobs(&case, seed), seed));
            drop(told);
        }
    }
}

/// Says which seed it was when a comparison fails.
struct Told(&'static str, u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("case {:?}, seed {}", self.0, self.1);
        }
    }
}

fn ok(body: &str) -> Vec<Act> {
    answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

fn echo(_: &str, request: &Request) -> Vec<Act> {
    ok(&format!("{} {} {}", request.method, request.target, String::from_utf8_lossy(&request.body)))
}

fn case(name: &'static str, request: impl AsRef<[u8]>, script: fn(&str, &Request) -> Vec<Act>) -> Case {
    let request = request.as_ref().to_vec();
    Case { name, choice: Choice::Nothing, request, ends: false, script, early: false, large: false }
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
const CHUNKED: &str = "POST /c HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\n\
    transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n";
const FIXED: &str = "PUT /f HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\nhello\r\n\r\nyou";
const UPGRADE: &str =
    "GET /u HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";

fn cases() -> Vec<Case> {
    let mut cases = plain_cases();
    cases.extend(odd_cases());
    cases.extend(cases_with_a_choice());
    cases.extend(streams());
    cases
}

fn plain_cases() -> Vec<Case> {
    vec![
        case("one GET", GET, echo),
        case("a fixed body", FIXED, echo),
        case("a chunked body with trailers both ways", CHUNKED, |_, _| {
            answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n\
                 5;q=\"1\"\r\nhello\r\n0001\r\n!\r\n0\r\nx-t: 1\r\n\r\n",
            )
        }),
        case("pipelined", format!("{GET}{FIXED}\r\n{CHUNKED}{GET}"), echo),
        case(
            "HEAD, 204 and 304",
            "HEAD /h HTTP/1.1\r\nhost: x\r\n\r\n".to_owned() + GET + FIXED,
            |_, request| {
                answer(match request.method.as_str() {
                    "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n",
                    "GET" => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n",
                })
            },
        ),
        case("HTTP/1.0, chunks taken apart", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", |_, _| {
            answer(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n1\r\ne\r\n0\r\nt: 1\r\n\r\n",
            )
        }),
        case("HTTP/1.0 kept alive", format!("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n{GET}"), echo),
        case("until close", GET, |_, _| {
            vec![Act::Bytes(b"HTTP/1.1 200 OK\r\n\r\nall of this".to_vec()), Act::Close]
        }),
        case("interim responses", GET, |_, request| {
            let mut script =
                answer("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n");
            script.extend(echo("", request));
            script
        }),
        case("interim responses for HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", |_, request| {
            let mut script =
                answer("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n");
            script.extend(echo("", request));
            script
        }),
        case(
            "absolute form and close",
            "GET http://h:81/p?q HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            echo,
        ),
        case(
            "answers of our own",
            format!(
                "POST /own HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello{GET}\
                 POST /away HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n\
                 HEAD /own HTTP/1.1\r\nhost: x\r\n\r\n{GET}"
            ),
            echo,
        ),
    ]
}

fn odd_cases() -> Vec<Case> {
    let filler = "f".repeat(15_000);
    vec![
        Case {
            ends: true,
            ..case("an upgrade with bytes behind it", format!("{UPGRADE}some bytes"), |_, _| {
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                vec![Act::Bytes(head.as_bytes().to_vec()), Act::Bytes(b"first".to_vec()), Act::Echo]
            })
        },
        case("a declined upgrade and the next request", format!("{UPGRADE}{GET}"), echo),
        case(
            "a malformed second request",
            format!("{GET}GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n{GET}"),
            echo,
        ),
        case("no HTTP at all", format!("{GET}\u{16}\u{3}\u{1}hello"), echo),
        case("a retry at another host", FIXED, |host, request| {
            if host == HOSTS[0] {
                answer("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nnope")
            } else {
                echo(host, request)
            }
        }),
        case("a retry that ends at the last answer", FIXED, |_, _| {
            answer("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nnope")
        }),
        case("a response cut short", GET, |_, _| {
            vec![Act::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nabc".to_vec()), Act::Reset]
        }),
        case("a host that closes before its answer", GET, |_, _| vec![Act::Close]),
        case("a host that speaks something else", format!("{GET}{GET}"), |_, _| answer("SSH-2.0-x\r\n\r\n")),
        case("a length too large", "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\nabc", echo),
        Case {
            large: true,
            ..case(
                "a request line too long",
                format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "u".repeat(24_100)),
                echo,
            )
        },
        Case {
            large: true,
            ..case(
                "a head too long",
                format!("GET / HTTP/1.1\r\nhost: x\r\nf: {}\r\n\r\n", "u".repeat(24_100)),
                echo,
            )
        },
        Case {
            large: true,
            ..case(
                "large heads and bodies",
                format!(
                    "{GET}PUT / HTTP/1.1\r\nhost: x\r\nf: {filler}\r\ncontent-length: 45000\r\n\r\n{}{GET}",
                    filler.repeat(3)
                ),
                |_, request| {
                    let head = format!("HTTP/1.1 200 OK\r\nf: {}\r\n", "h".repeat(15_500));
                    let body = "b".repeat(70_000 + request.body.len());
                    answer(format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
                },
            )
        },
    ]
}

fn cases_with_a_choice() -> Vec<Case> {
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let expects = "PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let too_large = format!("{head}8000\r\n{}\r\n8000\r\n", "z".repeat(0x8000));
    vec![
        Case {
            choice: Choice::PartOfBrokenRequest,
            ..case("a broken chunked request", format!("{head}3\r\nabc\r\nzz\r\n{GET}"), echo)
        },
        Case {
            choice: Choice::PartOfBrokenRequest,
            large: true,
            ..case("a chunked request too large", too_large + &"z".repeat(0x8000), echo)
        },
        Case {
            choice: Choice::PartOfBrokenResponse,
            ..case("a broken chunked response", GET, |_, _| {
                answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nab\r\n")
            })
        },
        Case {
            choice: Choice::KeptAfterEarlyAnswer,
            early: true,
            ..case("an early answer", FIXED, |_, _| {
                answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            })
        },
        Case {
            choice: Choice::KeptAfterEarlyAnswer,
            early: true,
            ..case("a declined expectation", format!("{expects}hello"), |_, _| {
                answer("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n")
            })
        },
        Case {
            choice: Choice::KeptAfterEarlyAnswer,
            early: true,
            ..case("a response that overlaps its request", format!("{head}3\r\nabc\r\n0\r\n\r\n"), |_, _| {
                let mut script = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
                script.push(Act::AwaitBody);
                script.extend(answer("0\r\n\r\n"));
                script
            })
        },
    ]
}

/// Everything that a stream's parser meets: each line end, a mark, a type behind the data, a URL over several lines, an
/// event that is too long to be held, one that is never finished.
fn stream_text() -> String {
    let long = "y".repeat(SSE_HELD_MAX + 50);
    format!(
        "\u{feff}: hi\r\n\r\nevent: endpoint\r\ndata: /m?s=abc\r\n\r\n\
         data: /m?xs=1&s=def&z\revent:endpoint\r\rdata:/m?\ndata: s=g\ndata:h\nevent: endpoint\n\r\n\
         event: message\ndata: /m?s=no\n\nevent: endpoint\ndata: ?s=abc&x={long}\n\n\
         event: endpoint\ndata: ?s=last\n"
    )
}

fn stream_response(chunk: usize) -> Vec<u8> {
    let text = stream_text();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let mut response = match chunk {
        0 => format!("{head}content-length: {}\r\n\r\n", text.len()).into_bytes(),
        _ => format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes(),
    };
    if chunk == 0 {
        response.extend(text.as_bytes());
        return response;
    }
    for part in text.as_bytes().chunks(chunk) {
        response.extend(format!("{:x};x=y\r\n", part.len()).as_bytes());
        response.extend(part);
        response.extend(b"\r\n");
    }
    response.extend(b"0\r\n\r\n");
    response
}

fn streams() -> Vec<Case> {
    let get = "GET /sse HTTP/1.1\r\nhost: x\r\n\r\n";
    let home = "GET /sse/m?a&s=abc.MTAuMC4wLjI6ODA&b=%20 HTTP/1.1\r\nhost: x\r\n\r\n";
    let chunked = |name, request: String, script| Case {
        choice: Choice::ChunksOfRewrittenStream,
        ..case(name, request, script)
    };
    vec![
        chunked("a stream of known length", get.to_owned() + get, |_, _| answer(stream_response(0))),
        chunked("a stream in small chunks", get.to_owned() + home, |_, _| answer(stream_response(5))),
        Case {
            large: true,
            ..chunked("a stream in large chunks", get.to_owned() + get, |_, _| answer(stream_response(4000)))
        },
        case("a stream for HTTP/1.0", "GET /sse HTTP/1.0\r\n\r\n", |_, _| answer(stream_response(100))),
        case("a stream until close", get, |_, _| {
            let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
            bytes.extend(stream_text().as_bytes());
            vec![Act::Bytes(bytes), Act::Close]
        }),
    ]
}
