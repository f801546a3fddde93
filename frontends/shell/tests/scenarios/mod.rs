//! What every shell must do, said once: each scenario runs a worker on a shell's `run`, between a client and a scripted
//! upstream. A shell's tests include this file and run [`every_scenario`].

mod rig;

use std::sync::Arc;
use std::time::Duration;

use homing_core::hosts::Endpoint;
use homing_core::limits::{IDLE_WINDOWS, Limits};
use homing_core::stats::{Ending, Stream};
use homing_core::token::decode_sse;
use homing_core::worker::Phase;
use socket2::{Domain, SockAddr, Socket, Type};

use rig::{Client, Proxy, Run, Upstream, long, snapshot, with_session_in_streams};

/// Makes a test of every scenario.
macro_rules! every_scenario {
    ($run:path) => {
        scenarios::every_scenario! { $run:
            requests_on_one_connection_stay_on_one_link, pipelined_requests_are_answered_in_order,
            a_chunked_request_body_arrives, large_bodies_pass_in_both_directions,
            a_head_response_has_no_body, an_empty_response_keeps_the_connection,
            a_chunked_response_passes, a_session_in_an_event_stream_stays, a_response_until_close_closes,
            a_truncated_response_is_not_passed_for_a_whole_one, nonsense_from_the_upstream_is_502,
            an_expected_continue_passes, a_refused_connection_is_503,
            another_host_takes_over_from_one_that_refuses, a_link_closed_between_requests_is_replaced,
            a_tunnel_passes_bytes_and_the_clients_end, a_tunnel_passes_the_upstreams_end,
            a_client_that_leaves_ends_its_request, a_drain_lets_a_request_finish,
            a_drain_has_an_end, nobody_is_told_of_a_drain_while_a_worker_listens, a_new_snapshot_is_taken_up, the_cap_on_connections_holds,
            a_full_host_makes_requests_wait, a_full_queue_is_503, a_unix_socket_is_a_host,
            many_connections_are_served_side_by_side, a_slow_reader_gets_everything,
            a_connection_that_changes_hosts_leaves_its_link_to_others,
            a_resting_connection_leaves_its_link_to_others, a_crowd_between_requests_is_served_on, a_crowd_inside_its_heads_keeps_nobody_waiting,
            a_reader_that_leaves_is_noticed,
            a_slow_request_head_is_408, a_slow_response_is_504, an_idle_connection_is_closed,
            empty_lines_keep_no_connection,
            a_connection_that_is_never_made_is_503, a_wait_for_a_full_host_ends,
            a_long_body_comes_whole_to_a_slow_reader, a_long_body_comes_whole_to_a_slow_host,
            bytes_behind_a_long_body_belong_to_the_next_request, bytes_behind_a_long_response_reach_nobody,
            an_urgent_byte_does_not_stall_a_long_response, a_long_body_comes_whole_to_an_old_client,
            a_long_response_that_breaks_off_is_reset, a_long_response_that_stands_still_is_reset,
            a_long_response_that_nobody_reads_is_given_up,
            a_client_that_leaves_inside_a_long_body_ends_its_request,
            a_client_that_leaves_inside_a_long_response_ends_it, a_drain_lets_a_long_response_finish,
            running_out_of_descriptors_is_survived, a_request_is_sent_again_while_its_body_is_awaited
        }
    };
    ($run:path: $($name:ident),*) => { $(
        #[test]
        fn $name() {
            scenarios::$name($run);
        }
    )* };
}
pub(crate) use every_scenario;

fn pair(run: Run) -> (Proxy, Upstream) {
    let upstream = Upstream::tcp();
    let proxy = Proxy::start(run, std::slice::from_ref(&upstream.endpoint), Limits::default());
    (proxy, upstream)
}

fn limited(run: Run, limits: Limits) -> (Proxy, Upstream) {
    let upstream = Upstream::tcp();
    let proxy = Proxy::start(run, std::slice::from_ref(&upstream.endpoint), limits);
    (proxy, upstream)
}

/// A port that refuses: bound, so that nobody else gets it, but not listening.
fn refusing() -> (Socket, Endpoint) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, Endpoint::Tcp(address))
}

pub fn requests_on_one_connection_stay_on_one_link(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    for body in ["one", "two", "three"] {
        let response = client.post("/", body.as_bytes());
        assert_eq!(response.status(), "200");
        assert_eq!(response.body, body.as_bytes());
        assert_eq!(response.field("x-link"), Some("1"));
    }
    drop(client);
    assert_eq!(proxy.ended(Ending::Complete), 3);
    assert_eq!(proxy.counters.dialed.get(), 1);
}

pub fn pipelined_requests_are_answered_in_order(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    let one = |n| format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{n:02}");
    client.send((0..20).map(one).collect::<String>());
    for n in 0..20 {
        assert_eq!(client.response().body, format!("{n:02}").as_bytes());
    }
}

pub fn a_chunked_request_body_arrives(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.send("8\r\n and def\r\n0\r\n\r\n");
        assert_eq!(client.response().body, b"abc and def");
    }
}

pub fn large_bodies_pass_in_both_directions(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    let body: Vec<u8> = (0_u32..1 << 18).flat_map(u32::to_le_bytes).collect();
    for _ in 0..2 {
        assert!(client.post("/", &body).body == body, "a large body was changed on its way");
    }
}

pub fn a_slow_reader_gets_everything(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut slow = proxy.client();
    // More than the sockets hold: the proxy must wait for this client while it serves another.
    for _ in 0..16 {
        slow.send("GET /big HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    assert_eq!(proxy.client().get("/").status(), "200");
    for _ in 0..16 {
        assert_eq!(slow.response().body.len(), 1 << 20);
    }
}

/// A request with [`long`] as its body, and more field lines.
fn long_post(fields: &str) -> Vec<u8> {
    let body = long();
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

pub fn a_long_body_comes_whole_to_a_slow_reader(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut slow = proxy.client();
    // More than the sockets hold.
    for _ in 0..4 {
        slow.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    assert_eq!(proxy.client().get("/").status(), "200");
    for _ in 0..4 {
        assert!(slow.response().body == long(), "a long body was changed on its way");
    }
    drop(slow);
    assert_eq!(proxy.ended(Ending::Complete), 5);
}

pub fn a_long_body_comes_whole_to_a_slow_host(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    let mut sender = client.sender();
    let sends = std::thread::spawn(move || sender.send(long_post("x-slow: 1\r\n")));
    assert_eq!(upstream.hear(), "slow");
    assert_eq!(proxy.client().get("/").status(), "200");
    upstream.go();
    assert!(client.response().body == long(), "a long body was changed on its way");
    sends.join().unwrap();
    drop(client);
    assert_eq!(proxy.ended(Ending::Complete), 2);
}

pub fn bytes_behind_a_long_body_belong_to_the_next_request(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    let mut bytes = long_post("");
    bytes.extend_from_slice(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nnext");
    let mut sender = client.sender();
    let sends = std::thread::spawn(move || sender.send(bytes));
    assert!(client.response().body == long(), "a long body was changed on its way");
    assert_eq!(client.response().body, b"next");
    sends.join().unwrap();
}

pub fn bytes_behind_a_long_response_reach_nobody(run: Run) {
    let (proxy, upstream) = pair(run);
    let mut client = proxy.client();
    assert!(client.get("/beyond").body == long(), "a long body was changed on its way");
    let next = client.get("/");
    assert_eq!((next.status(), next.field("x-link")), ("200", Some("2")));
    assert_eq!(upstream.hear(), "end of 1");
    // In one piece with the body, of which more or less passes unseen.
    for (link, length) in (2_u32..).zip([20_000, 65_000, 65_536, 100_000, 131_072, 200_000, 250_000, 300_000])
    {
        // The next request is there already, so that the link has not stood still when it is used again.
        let next = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
        client.send(format!("GET /beyond?{length} HTTP/1.1\r\nhost: test\r\n\r\n{next}"));
        let (response, next) = (client.response(), client.response());
        assert!(response.body == long()[..length], "a long body was changed on its way");
        assert_eq!(response.field("x-link"), Some(&*link.to_string()));
        assert_eq!((next.body.as_slice(), next.field("x-link")), (&b""[..], Some(&*(link + 1).to_string())));
    }
    assert_eq!(client.get("/").field("x-link"), Some("10"));
}

pub fn an_urgent_byte_does_not_stall_a_long_response(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    assert!(proxy.client().get("/urgent").body == long(), "a long body was changed on its way");
    assert_eq!(proxy.ended(Ending::Complete), 1);
}

pub fn a_long_body_comes_whole_to_an_old_client(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /long HTTP/1.0\r\nhost: test\r\n\r\n");
    assert!(client.response().body == long(), "a long body was changed on its way");
    assert_eq!(client.rest().unwrap(), b"");
}

pub fn a_long_response_that_breaks_off_is_reset(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /half HTTP/1.1\r\nhost: test\r\nx-cut: 1\r\n\r\n");
    client.head();
    if let Ok(rest) = client.rest() {
        panic!("the end came without a reset after {} bytes", rest.len());
    }
    assert_eq!(proxy.ended(Ending::UpstreamReset), 1);
}

/// Long enough for a machine with other things to do.
const STILL: Duration = Duration::from_millis(400);

pub fn a_long_response_that_stands_still_is_reset(run: Run) {
    let (mut proxy, upstream) = limited(run, Limits { body_idle_timeout: STILL, ..Limits::default() });
    let mut client = proxy.client();
    client.send("GET /half HTTP/1.1\r\nhost: test\r\n\r\n");
    client.head();
    let half = long().len() / 2;
    assert!(client.take(half) == long()[..half], "a long body was changed on its way");
    assert_eq!(upstream.hear(), "/half");
    assert!(client.rest().is_err(), "a body that stands still ends with a reset");
    assert_eq!(proxy.ended(Ending::UpstreamTimeout), 1);
}

pub fn a_long_response_that_nobody_reads_is_given_up(run: Run) {
    let (mut proxy, upstream) = limited(run, Limits { body_idle_timeout: STILL, ..Limits::default() });
    let mut client = proxy.client();
    for _ in 0..8 {
        client.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    assert_eq!(upstream.hear(), "end of 1");
    assert_eq!(proxy.ended(Ending::ClientTimeout), 1);
}

pub fn a_client_that_leaves_inside_a_long_body_ends_its_request(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    let post = long_post("");
    client.send(&post[..post.len() / 2]);
    drop(client);
    assert_eq!(upstream.hear(), "end of 1");
    assert_eq!(proxy.ended(Ending::ClientLeft), 1);
}

pub fn a_client_that_leaves_inside_a_long_response_ends_it(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /half HTTP/1.1\r\nhost: test\r\n\r\n");
    client.head();
    client.take(1 << 20);
    drop(client);
    assert_eq!(upstream.hear(), "/half");
    upstream.go();
    assert_eq!(upstream.hear(), "end of 1");
    assert_eq!(proxy.ended(Ending::ClientLeft), 1);
}

pub fn a_drain_lets_a_long_response_finish(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /half HTTP/1.1\r\nhost: test\r\n\r\n");
    client.head();
    let half = long().len() / 2;
    assert!(client.take(half) == long()[..half], "a long body was changed on its way");
    assert_eq!(upstream.hear(), "/half");
    proxy.control.advance(Phase::Drain);
    upstream.go();
    assert!(client.take(half) == long()[half..], "a long body was changed on its way");
    assert_eq!(client.rest().unwrap(), b"");
    proxy.join();
    assert_eq!(proxy.ended(Ending::Complete), 1);
}

pub fn a_head_response_has_no_body(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(client.head().contains("\r\ncontent-length: 12345\r\n"));
    assert_eq!(client.get("/").status(), "200");
}

pub fn an_empty_response_keeps_the_connection(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    assert_eq!(client.get("/empty").status(), "204");
    assert_eq!(client.get("/").status(), "200");
}

pub fn a_chunked_response_passes(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    assert_eq!(client.get("/chunked").body, b"in parts!");
    assert_eq!(client.get("/").field("x-link"), Some("1"));
}

/// As MCP of 2024-11-05 does it: the stream stays open, and says where the requests go.
pub fn a_session_in_an_event_stream_stays(run: Run) {
    let upstreams = [Upstream::tcp(), Upstream::tcp()];
    let hosts = upstreams.each_ref().map(|upstream| upstream.endpoint.clone());
    let mut proxy = Proxy::start_with(run, with_session_in_streams(&hosts, "s"));
    for _ in 0..4 {
        let mut listener = proxy.client();
        listener.send("GET /sse HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n");
        let head = listener.head();
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            text += &listener.chunk();
        }
        let url = text.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end();
        let token = decode_sse(url.strip_prefix("/m?s=").unwrap().as_bytes()).unwrap().token;
        let home = hosts.iter().position(|host| host.address_text().as_bytes() == token.address.as_bytes());
        let upstream = &upstreams[home.expect("one of the hosts")];
        assert_eq!(upstream.hear(), "/sse");
        for _ in 0..3 {
            // The next without a session takes turns with the other host.
            let mut client = proxy.client();
            assert_eq!(client.post(url, b"{}").status(), "200");
            assert_eq!(upstream.hear(), "/m?s=own.value");
            drop(client);
            assert!(upstream.hear().starts_with("end of"));
        }
        upstream.go();
        assert_eq!(listener.chunk(), "data: last\n\n");
        assert_eq!(listener.chunk(), "");
        drop(listener);
        assert!(upstream.hear().starts_with("end of"));
    }
    let counters = proxy.stop();
    assert_eq!(counters.streams[Stream::Rewritten as usize].get(), 4);
}

pub fn a_response_until_close_closes(run: Run) {
    let (proxy, _upstream) = pair(run);
    let response = proxy.client().get("/until-close");
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(response.body, b"all of it");
}

pub fn a_truncated_response_is_not_passed_for_a_whole_one(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /cut HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(client.head().contains("\r\ncontent-length: 100\r\n"));
    if let Ok(rest) = client.rest() {
        panic!("the end came without a reset after {} bytes", rest.len());
    }
    assert_eq!(proxy.ended(Ending::UpstreamReset), 1);
}

pub fn nonsense_from_the_upstream_is_502(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    assert_eq!(client.get("/nonsense").status(), "502");
    assert_eq!(client.get("/").status(), "200");
    assert_eq!(proxy.ended(Ending::UpstreamMalformed), 1);
}

pub fn an_expected_continue_passes(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert!(client.head().starts_with("http/1.1 100 "));
    client.send("body");
    assert_eq!(client.response().body, b"body");
}

pub fn a_refused_connection_is_503(run: Run) {
    let (_socket, endpoint) = refusing();
    let mut proxy = Proxy::start(run, &[endpoint], Limits::default());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), "503");
    assert_eq!(client.post("/", b"dropped").status(), "503");
    assert_eq!(proxy.ended(Ending::ConnectFailed), 2);
}

pub fn another_host_takes_over_from_one_that_refuses(run: Run) {
    let (_socket, endpoint) = refusing();
    let upstream = Upstream::tcp();
    let mut proxy = Proxy::start(run, &[endpoint, upstream.endpoint.clone()], Limits::default());
    for _ in 0..4 {
        assert_eq!(proxy.client().post("/", b"moved").body, b"moved");
    }
    assert!(proxy.stop().retried.get() > 0, "the refusing host was never tried");
}

pub fn a_link_closed_between_requests_is_replaced(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    for round in 0..5 {
        assert_eq!(client.get("/then-close").status(), "200");
        assert_eq!(upstream.hear(), format!("end of {}", 2 * round + 1));
        // Idempotent or not: one can be sent again, the other looks at the link first.
        let response = if round % 2 == 0 { client.get("/") } else { client.post("/", b"") };
        assert_eq!(response.field("x-link"), Some(&*(2 * round + 2).to_string()));
        assert_eq!(client.get("/then-close").status(), "200");
        assert_eq!(upstream.hear(), format!("end of {}", 2 * round + 2));
    }
    drop(client);
    assert_eq!(proxy.ended(Ending::Complete), 15);
}

pub fn a_request_is_sent_again_while_its_body_is_awaited(run: Run) {
    let keep_alive_timeout = Duration::from_millis(500);
    let (mut proxy, upstream) = limited(run, Limits { keep_alive_timeout, ..Limits::default() });
    let mut client = proxy.client();
    assert_eq!(client.get("/").field("x-link"), Some("1"));
    client.send("PUT / HTTP/1.1\r\nhost: test\r\nx-leave: 1\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(upstream.hear(), "head on 1");
    // By the time an idle connection has ended, no timer of the other's earlier waits is left that could wake it.
    assert_eq!(proxy.client().rest().unwrap(), b"");
    upstream.go();
    // The client says nothing more before another link has the head, so that a read of the client cannot help. The two links
    // are two threads of the upstream's: either may be the first to tell.
    let mut news = [upstream.hear(), upstream.hear()];
    news.sort();
    assert_eq!(news, ["end of 1", "head on 2"]);
    client.send("body");
    let response = client.response();
    assert_eq!((response.body.as_slice(), response.field("x-link")), (b"body".as_slice(), Some("2")));
    drop(client);
    assert_eq!(proxy.ended(Ending::Complete), 2);
}

fn upgraded(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"));
    let head = client.head();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("\r\nupgrade: echo\r\n"), "{head}");
    client
}

pub fn a_tunnel_passes_bytes_and_the_clients_end(run: Run) {
    let (proxy, _upstream) = pair(run);
    let mut client = upgraded(&proxy, "/echo-tunnel");
    for text in ["ping", "pong"] {
        client.send(text);
        assert_eq!(client.take(4), text.as_bytes());
    }
    client.shutdown();
    assert_eq!(client.rest().unwrap(), b"bye");
}

pub fn a_tunnel_passes_the_upstreams_end(run: Run) {
    let (proxy, upstream) = pair(run);
    let mut client = upgraded(&proxy, "/bye-tunnel");
    assert_eq!(client.rest().unwrap(), b"bye");
    client.send("but I was not done");
    client.shutdown();
    assert_eq!(upstream.hear(), "but I was not done");
}

pub fn a_client_that_leaves_ends_its_request(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    client.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    drop(client);
    // Nobody says go: the upstream sees that its link was closed.
    assert_eq!(upstream.hear(), "end of 1");
    assert_eq!(proxy.ended(Ending::ClientLeft), 1);
}

pub fn a_drain_lets_a_request_finish(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status(), "200");
    let mut busy = proxy.client();
    busy.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    proxy.control.advance(Phase::Drain);
    assert_eq!(idle.rest().unwrap(), b"", "an idle connection ends at once");
    assert!(!proxy.listens(), "a worker that drains must not listen");
    upstream.go();
    let response = busy.response();
    assert_eq!(response.body, b"waited");
    assert_eq!(response.field("connection"), Some("close"));
    drop(busy);
    proxy.join();
    assert_eq!(proxy.ended(Ending::Complete), 2);
}

/// Whoever is told comes back at once, and must find all doors closed.
pub fn nobody_is_told_of_a_drain_while_a_worker_listens(run: Run) {
    let upstream = Upstream::tcp();
    let hosts = std::slice::from_ref(&upstream.endpoint);
    let [(mut early, mut ticks), (mut late, mut held)] =
        Proxy::start_two(run, snapshot(hosts, Limits::default()));
    ticks.let_go();
    let mut client = early.client();
    assert_eq!(client.get("/").status(), "200");
    held.stand();
    early.control.advance(Phase::Drain);
    // It hears of the drain in the first one, and nothing that follows from that takes longer than the others.
    ticks.go_by(4);
    assert!(late.listens() && !early.listens());
    client.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait", "it is served on");
    upstream.go();
    assert_eq!(client.response().field("connection"), None);
    held.let_go();
    assert_eq!(client.rest().unwrap(), b"", "it is told in the end");
    assert!(!late.listens(), "it is told too early");
    early.join();
    late.join();
    assert_eq!(early.ended(Ending::Complete), 2);
}

pub fn a_drain_has_an_end(run: Run) {
    let limits = Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() };
    let (mut proxy, upstream) = limited(run, limits);
    let mut client = proxy.client();
    client.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    proxy.control.advance(Phase::Drain);
    proxy.join();
    assert!(client.rest().is_err(), "a request that is cut off ends with a reset");
    assert_eq!(proxy.ended(Ending::Stopped), 1);
}

pub fn a_new_snapshot_is_taken_up(run: Run) {
    let (proxy, old) = pair(run);
    let new = Upstream::tcp();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), "200");
    proxy.control.publish(Arc::new(snapshot(std::slice::from_ref(&new.endpoint), Limits::default())));
    // The old host closes after each of these, so that its end shows which host a request went to.
    while client.get("/then-close").status() == "200" && new.try_hear().is_none() {
        old.try_hear();
    }
    assert_eq!(client.get("/").status(), "200");
}

pub fn the_cap_on_connections_holds(run: Run) {
    let (mut proxy, _upstream) = limited(run, Limits { connections: 2, ..Limits::default() });
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!(first.get("/").status(), "200");
    assert_eq!(second.get("/").status(), "200");
    let mut third = proxy.client();
    third.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    for _ in 0..10 {
        assert_eq!(first.get("/").status(), "200");
    }
    assert_eq!(proxy.counters.accepted.get(), 2);
    drop(second);
    assert_eq!(third.response().status(), "200");
    assert_eq!(proxy.stop().accepted.get(), 3);
}

pub fn a_full_host_makes_requests_wait(run: Run) {
    let (mut proxy, upstream) = limited(run, Limits { host_connections: 1, ..Limits::default() });
    let mut first = proxy.client();
    first.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    let mut others: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for other in &mut others {
        other.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    }
    upstream.go();
    assert_eq!(first.response().body, b"waited");
    drop(first);
    for other in &mut others {
        assert_eq!(other.response().field("x-link"), Some("1"));
    }
    assert_eq!(proxy.stop().dialed.get(), 1);
}

pub fn a_full_queue_is_503(run: Run) {
    let limits = Limits { host_connections: 1, host_pending: 0, ..Limits::default() };
    let (mut proxy, upstream) = limited(run, limits);
    let mut first = proxy.client();
    first.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    assert_eq!(proxy.client().get("/").status(), "503");
    upstream.go();
    assert_eq!(first.response().body, b"waited");
    assert_eq!(proxy.ended(Ending::HostFull), 1);
}

pub fn a_unix_socket_is_a_host(run: Run) {
    let name = format!("homing-{}-{:?}.sock", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let endpoint = Endpoint::Unix(path.as_path().into());
    let upstream = Upstream::serve(endpoint, listener);
    let proxy = Proxy::start(run, std::slice::from_ref(&upstream.endpoint), Limits::default());
    let mut client = proxy.client();
    for body in ["over", "a", "unix socket"] {
        assert_eq!(client.post("/", body.as_bytes()).body, body.as_bytes());
    }
    let mut sender = client.sender();
    let sends = std::thread::spawn(move || sender.send(long_post("")));
    assert!(client.response().body == long(), "a long body was changed on its way");
    sends.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

pub fn many_connections_are_served_side_by_side(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut clients: Vec<Client> = (0..200).map(|_| proxy.client()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            let body = format!("{round} {n}");
            client.send(format!(
                "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().body, format!("{round} {n}").as_bytes());
        }
    }
    drop(clients);
    assert_eq!(proxy.ended(Ending::Complete), 600);
}

pub fn a_connection_that_changes_hosts_leaves_its_link_to_others(run: Run) {
    let upstreams = [Upstream::tcp(), Upstream::tcp()];
    let hosts = upstreams.each_ref().map(|upstream| upstream.endpoint.clone());
    let mut proxy = Proxy::start(run, &hosts, Limits::default());
    let mut client = proxy.client();
    for _ in 0..6 {
        // The balancer alternates, and each host has seen one connection only.
        assert_eq!(client.get("/").field("x-link"), Some("1"));
        assert_eq!(client.post("/", b"body").field("x-link"), Some("1"));
    }
    assert_eq!(proxy.stop().dialed.get(), 2);
}

pub fn a_resting_connection_leaves_its_link_to_others(run: Run) {
    let (mut proxy, _upstream) = limited(run, Limits { host_connections: 1, ..Limits::default() });
    let mut first = proxy.client();
    assert_eq!(first.get("/").field("x-link"), Some("1"));
    let mut second = proxy.client();
    assert_eq!(second.get("/").field("x-link"), Some("1"));
    assert_eq!(first.get("/").field("x-link"), Some("1"));
    assert_eq!(proxy.stop().dialed.get(), 1);
}

/// More buffers are held than idle connections leave room for, and stay held: who comes must be read all the same.
pub fn a_crowd_inside_its_heads_keeps_nobody_waiting(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut crowd: Vec<_> = (0..IDLE_WINDOWS + 20).map(|_| proxy.client()).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nho");
    }
    let mut other = proxy.client();
    for _ in 0..3 {
        assert_eq!(other.get("/").status(), "200");
    }
    for client in &mut crowd {
        client.send("st: test\r\n\r\n");
        assert_eq!(client.response().status(), "200");
    }
    drop(crowd);
    assert_eq!(proxy.ended(Ending::Complete), IDLE_WINDOWS as u64 + 23);
}

/// More of them than may hold a buffer while nothing comes.
pub fn a_crowd_between_requests_is_served_on(run: Run) {
    let (mut proxy, _upstream) = pair(run);
    let mut crowd: Vec<_> = (0..IDLE_WINDOWS + 20).map(|_| proxy.client()).collect();
    for _ in 0..3 {
        for client in &mut crowd {
            assert_eq!(client.get("/").status(), "200");
        }
    }
    drop(crowd);
    assert_eq!(proxy.ended(Ending::Complete), 3 * (IDLE_WINDOWS as u64 + 20));
}

pub fn a_reader_that_leaves_is_noticed(run: Run) {
    let (mut proxy, upstream) = pair(run);
    let mut client = proxy.client();
    for _ in 0..64 {
        client.send("GET /big HTTP/1.1\r\nhost: test\r\n\r\n");
    }
    assert_eq!(client.response().status(), "200");
    drop(client);
    assert_eq!(upstream.hear(), "end of 1");
    assert_eq!(proxy.ended(Ending::ClientLeft), 1);
}

const SHORT: Duration = Duration::from_millis(50);

pub fn a_slow_request_head_is_408(run: Run) {
    let (mut proxy, _upstream) = limited(run, Limits { request_head_timeout: SHORT, ..Limits::default() });
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nho");
    assert_eq!(client.response().status(), "408");
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(proxy.ended(Ending::ClientTimeout), 1);
}

pub fn a_slow_response_is_504(run: Run) {
    let (mut proxy, upstream) = limited(run, Limits { response_timeout: SHORT, ..Limits::default() });
    let mut client = proxy.client();
    assert_eq!(client.get("/wait").status(), "504");
    assert_eq!(upstream.hear(), "/wait");
    assert_eq!(upstream.hear(), "end of 1", "the link of the late response is closed");
    assert_eq!(proxy.ended(Ending::UpstreamTimeout), 1);
}

pub fn an_idle_connection_is_closed(run: Run) {
    let limits = Limits { keep_alive_timeout: Duration::from_millis(500), ..Limits::default() };
    let (proxy, _upstream) = limited(run, limits);
    assert_eq!(proxy.client().rest().unwrap(), b"", "before its first request");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), "200");
    assert_eq!(client.rest().unwrap(), b"", "after a request");
}

pub fn empty_lines_keep_no_connection(run: Run) {
    let limits = Limits { keep_alive_timeout: Duration::from_millis(500), ..Limits::default() };
    let (proxy, _upstream) = limited(run, limits);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), "200");
    // Each comes while the connection rests, or it ends sooner.
    let ended = (0..12).any(|_| client.ends_in_spite_of("\r\n", Duration::from_millis(750)));
    assert!(ended, "empty lines renew the time-out for ever");
}

pub fn a_connection_that_is_never_made_is_503(run: Run) {
    let (socket, endpoint) = refusing();
    // A queue that is full and never emptied: the kernel drops further attempts.
    socket.listen(0).unwrap();
    let _queued: Vec<_> = (0..3).map(|_| homing_shell::connect(&endpoint).unwrap()).collect();
    let mut proxy = Proxy::start(run, &[endpoint], Limits { connect_timeout: SHORT, ..Limits::default() });
    assert_eq!(proxy.client().get("/").status(), "503");
    assert_eq!(proxy.ended(Ending::ConnectFailed), 1);
}

pub fn a_wait_for_a_full_host_ends(run: Run) {
    let limits = Limits { host_connections: 1, pending_timeout: SHORT, ..Limits::default() };
    let (mut proxy, upstream) = limited(run, limits);
    let mut first = proxy.client();
    first.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(upstream.hear(), "/wait");
    let mut second = proxy.client();
    assert_eq!(second.get("/").status(), "503");
    upstream.go();
    assert_eq!(first.response().body, b"waited");
    drop(first);
    assert_eq!(second.get("/").field("x-link"), Some("1"));
    assert_eq!(proxy.ended(Ending::HostFull), 1);
}

/// Runs itself again in a process that may open few files, since the limit holds for all tests of a process.
pub fn running_out_of_descriptors_is_survived(run: Run) {
    const MARK: &str = "HOMING_TEST_FEW_DESCRIPTORS";
    const NAME: &str = "running_out_of_descriptors_is_survived";
    if std::env::var_os(MARK).is_none() {
        let mut again = std::process::Command::new("sh");
        again.args(["-c", "ulimit -n 100 && exec \"$0\" --exact \"$1\""]).env(MARK, "");
        let output = again.arg(std::env::current_exe().unwrap()).arg(NAME).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (mut proxy, _upstream) = pair(run);
    let mut first = proxy.client();
    assert_eq!(first.get("/").status(), "200");
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    // One descriptor for the client's end, none for the proxy's.
    hoard.pop();
    let mut second = proxy.client();
    second.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(first.get("/").status(), "200", "connections that are there go on");
    assert_eq!(proxy.counters.accepted.get(), 1);
    drop(hoard);
    assert_eq!(second.response().status(), "200");
    assert_eq!(proxy.stop().accepted.get(), 2);
}
