//! The endpoints, over plain sockets: what arrives is compared byte by byte, with no client library in between.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Upstream, start};

fn upstream(name: &str) -> Upstream {
    start(name, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn connect(upstream: &Upstream) -> TcpStream {
    let stream = TcpStream::connect(upstream.address).unwrap();
    // Only so that a fault fails the test instead of hanging it.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends `request` and returns all bytes until the upstream closes.
fn talk(upstream: &Upstream, request: &str) -> Vec<u8> {
    let mut stream = connect(upstream);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The head and body of the answer to a GET on a connection of its own.
fn get(upstream: &Upstream, target: &str) -> (String, Vec<u8>) {
    split(&talk(upstream, &format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")))
}

fn split(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end..].to_vec())
}

/// Reads up to and including `end`.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&text)));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(body)))
}

/// The payload of a chunked body without trailers.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        payload.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
        if size == 0 {
            return payload;
        }
    }
}

#[test]
fn each_instance_says_its_name_and_keeps_its_own_count() {
    let (one, two) = (upstream("one"), upstream("two"));
    for (instance, visits) in [(&one, 1), (&one, 2), (&two, 1), (&one, 3)] {
        let (head, body) = get(instance, "/");
        let (name, body) = (&instance.name, String::from_utf8(body).unwrap());
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&format!("x-instance: {name}\r\n")),
            "{head}"
        );
        assert!(body.contains(&format!("<p id=\"instance\">{name}</p>")), "{body}");
        assert!(body.contains(&format!("<b id=\"visits\">{visits}</b>")), "{body}");
        assert!(!body.contains("{{"), "{body}");
    }
}

#[test]
fn headers_come_back_as_json() {
    let one = upstream("one");
    let request =
        "GET /headers?a=b HTTP/1.1\r\nHost: h\r\nX-Twice: 1\r\nx-twice: 2\r\nconnection: close\r\n\r\n";
    let (head, body) = split(&talk(&one, request));
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let body = json(&body);
    assert_eq!(body["instance"], "one");
    assert_eq!(body["path"], "/headers?a=b");
    assert_eq!(body["headers"]["x-twice"], "1, 2");
    assert_eq!(body["headers"]["host"], "h");
}

#[test]
fn statuses_bytes_and_streams() {
    let one = upstream("one");
    let (head, body) = get(&one, "/status/418");
    assert!(head.starts_with("HTTP/1.1 418 ") && json(&body)["instance"] == "one", "{head}");
    let (head, body) = get(&one, "/status/204");
    assert!(
        head.starts_with("HTTP/1.1 204 ") && head.contains("x-instance: one") && body.is_empty(),
        "{head}"
    );

    let (head, bytes) = get(&one, "/bytes/200001");
    assert!(head.contains("content-length: 200001\r\n") && bytes.len() == 200_001, "{head}");
    assert_eq!(get(&upstream("two"), "/bytes/200001").1, bytes, "the same for every instance");
    assert_eq!(
        get(&one, "/bytes/70001").1,
        bytes[..70_001],
        "a shorter one is the beginning of a longer one"
    );
    assert_ne!(get(&one, "/bytes/64?seed=1").1, bytes[..64]);
    assert_eq!(get(&one, "/bytes/0").1, b"");

    let (head, body) = get(&one, "/stream/3");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let lines: Vec<_> = unchunk(&body).split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(json).collect();
    assert_eq!(lines.iter().map(|line| line["id"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);

    let (_, body) = get(&one, "/delay/0.01");
    assert_eq!(json(&body)["delay"], 0.01);

    let (head, body) = get(&one, "/sse?count=2&every=0");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    let events = String::from_utf8(unchunk(&body)).unwrap();
    assert!(
        events.starts_with("id: 0\nevent: tick\ndata: {") && events.matches("\n\n").count() == 2,
        "{events}"
    );
}

#[test]
fn bad_usage_is_answered_with_a_sentence() {
    let one = upstream("one");
    for target in [
        "/status/99",
        "/status/600",
        "/status/x",
        "/bytes/-1",
        "/bytes/1073741825",
        "/bytes/1?seed=x",
        "/stream/",
        "/stream/100001",
        "/delay/61",
        "/delay/-1",
        "/delay/NaN",
        "/delay/inf",
        "/slow-head/x",
        "/sse?every=x",
        "/sse?count=x",
        "/ws",
        "/post",
        "/upload",
    ] {
        let (head, body) = get(&one, target);
        let body = String::from_utf8(body).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 400 ") && body.contains("takes") && body.ends_with(".\n"),
            "{target} {head}{body}"
        );
        assert!(head.contains("x-instance: one\r\n"), "{head}");
    }
    for target in ["/no", "/headers/x", "/status", "//"] {
        assert!(get(&one, target).0.starts_with("HTTP/1.1 404 "), "{target}");
    }
}

#[test]
fn uploads_are_counted_and_summed() {
    let one = upstream("one");
    let (_, body) = split(&talk(
        &one,
        "POST /post HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\nconnection: close\r\n\r\nfoobar",
    ));
    // The published FNV-1a test value of "foobar".
    assert_eq!(
        (json(&body)["bytes"].as_u64(), json(&body)["fnv1a64"].as_str()),
        (Some(6), Some("85944171f73967e8"))
    );
    let (_, body) = split(&talk(
        &one,
        "PUT /upload HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         3\r\nfoo\r\n3\r\nbar\r\n0\r\nx-t: v\r\n\r\n",
    ));
    let body = json(&body);
    assert_eq!(
        (body["fnv1a64"].as_str(), body["trailers"]["x-t"].as_str()),
        (Some("85944171f73967e8"), Some("v"))
    );
}

#[test]
fn the_early_answer_arrives_though_the_body_never_does() {
    let one = upstream("one");
    let (head, _) =
        split(&talk(&one, "POST /early HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\nabc"));
    assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("connection: close\r\n"), "{head}");
    let (head, _) = split(&talk(
        &one,
        "POST /early HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ));
    assert!(head.starts_with("HTTP/1.1 413 "), "no 100 for a body nobody reads: {head}");
}

#[test]
fn rude_endings() {
    let one = upstream("one");
    let (head, body) = split(&talk(&one, "GET /close HTTP/1.1\r\nhost: h\r\n\r\n"));
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, b"one ends this body with the connection\n");

    let mut stream = connect(&one);
    stream.write_all(b"GET /reset HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(get(&one, "/headers").0.starts_with("HTTP/1.1 200 "), "the instance lives on");
}

#[test]
fn answers_past_hyper_leave_the_connection_usable() {
    let one = upstream("one");
    let mut stream = connect(&one);
    for _ in 0..2 {
        stream.write_all(b"GET /chunked-trailers HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        let answer = read_until(&mut stream, "x-instance-trailer: one\r\n\r\n");
        assert!(answer.contains("\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum"), "{answer}");
        assert!(
            answer.contains("\r\n\r\na\r\none sends \r\nb\r\ntwo chunks\n\r\n0\r\nx-checksum: "),
            "{answer}"
        );

        stream.write_all(b"GET /slow-head/0.01 HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        let answer = read_until(&mut stream, "one took its time\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nx-instance: one\r\n"), "{answer}");

        stream.write_all(b"GET /interim HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        let hints = read_until(&mut stream, "\r\n\r\n");
        assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\nlink: "), "{hints}");
        assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(read_until(&mut stream, "}\n").contains("\"interim\": 103"));

        stream.write_all(b"HEAD /slow-head/0 HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").contains("content-length: 18\r\n"));
    }
    let (_, rest) =
        split(&talk(&one, "GET /chunked-trailers HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"));
    assert!(rest.ends_with(b"x-instance-trailer: one\r\n\r\n"));
}

#[test]
fn the_web_socket_echoes_with_the_instances_name() {
    let one = upstream("one");
    let mut stream = connect(&one);
    // The key and its answer are those of RFC 6455 §1.3; the first message follows without waiting for the answer.
    let mut bytes =
        b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    bytes.extend(message(0x81, b"hello"));
    stream.write_all(&bytes).unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("x-instance: one\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    for (opcode, text, echo) in [(0x81, &b"again"[..], &b"one: again"[..]), (0x82, b"\0\xff", b"\0\xff")] {
        stream.write_all(&message(opcode, text)).unwrap();
        if opcode == 0x81 {
            assert_eq!(frame(&mut stream), (0x81, b"one: hello".to_vec()));
        }
        assert_eq!(frame(&mut stream), (opcode, echo.to_vec()));
    }
    stream.write_all(&message(0x88, &1000_u16.to_be_bytes())).unwrap();
    assert_eq!(frame(&mut stream), (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
}

/// A short frame of the server: its first byte and its payload.
fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// A masked frame of a client, at most 125 bytes long.
fn message(first: u8, text: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let masked = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | u8::try_from(text.len()).unwrap()].into_iter().chain(mask).chain(masked).collect()
}

#[test]
fn a_dropped_upstream_ends_its_connections() {
    let one = upstream("one");
    let mut stream = connect(&one);
    stream.write_all(b"GET /sse HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    drop(one);
    // The listener went with the thread; that nothing answers there any more cannot be tested, as the port is free
    // for others. The open stream ends, one way or the other.
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |_| true));
}

#[test]
fn a_name_that_does_not_fit_a_header_is_refused() {
    for name in ["", "a b", "a\r\nb", "<b>", &"x".repeat(65)] {
        let error = start(name, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}
