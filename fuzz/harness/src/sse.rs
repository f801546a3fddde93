//! Event streams: the scanner and the rewriter, in any segmentation and framing, against a reader that has the whole text
//! before it; and the parameter in a target against splitting at `&`.

use homing_core::carrier::Sse;
use homing_core::http1::{Chunks, EndpointFate, Pass, Piece, Scanner, Splicer};
use homing_core::limits::{HEADROOM, PARAMETER_MAX, SSE_HELD_MAX, WINDOW_SMALL};
use homing_core::rng::Rng;
use homing_core::token::{Address, decode_sse, encode_sse_suffix};
use homing_core::window::Window;

use crate::input::{Input, seed_of};

const INSERT: &[u8] = b".MTAuMC4wLjE6ODA";

/// The first byte says how long the parameter's name is, then the name and a stream; the stream is a target too.
pub fn sse(data: &[u8]) {
    let mut input = Input::new(data);
    let length = 1 + input.below(8.min(PARAMETER_MAX));
    let name: String = match input.bytes(length) {
        [] => "s".into(),
        bytes => bytes.iter().map(|byte| char::from(b"sessionId-._~abc"[usize::from(byte % 16)])).collect(),
    };
    let stream = input.rest();
    let expected = reference(stream, name.as_bytes());
    let mut rng = Rng::seeded(seed_of(data));
    for most in [u32::MAX, 1, 3, 200] {
        let mut part = || if most == u32::MAX { usize::MAX } else { 1 + rng.below(most) as usize };
        compare(&scanned(stream, name.as_bytes(), &mut part), &expected, &format!("parts of at most {most}"));
    }
    for chunked in [false, true] {
        for client_chunks in [false, true] {
            let found = spliced(stream, name.as_bytes(), chunked, client_chunks, &mut rng);
            compare(&found, &expected, &format!("chunked: {chunked}, for chunks: {client_chunks}"));
        }
    }
    target(stream, &name);
}

/// The stream as it leaves, and what became of its last `endpoint` event.
type Rewritten = (Vec<u8>, Option<EndpointFate>);

fn compare(found: &Rewritten, expected: &Rewritten, how: &str) {
    let shown = |it: &Rewritten| (it.0.escape_ascii().to_string(), it.1);
    assert!(found == expected, "{how}\nfound    {:?}\nexpected {:?}", shown(found), shown(expected));
}

fn scanned(stream: &[u8], name: &[u8], part: &mut impl FnMut() -> usize) -> Rewritten {
    let (mut scanner, mut out, mut at) = (Scanner::new(), Vec::new(), 0);
    let mut left = 0;
    while at < stream.len() {
        let end = stream.len().min(at.saturating_add(part()));
        while at < end {
            let scan = scanner.scan(&stream[at..end], name);
            out.extend_from_slice(&stream[at..at + scan.taken]);
            at += scan.taken;
            assert!(scan.insert.is_some() || at == end, "bytes are left");
            if let Some(back) = scan.insert {
                let place = out.len() - back;
                assert!(place >= left, "what has left is changed");
                out.splice(place..place, INSERT.iter().copied());
            }
            assert!(scanner.held() <= SSE_HELD_MAX);
            assert!(out.len() - scanner.held() >= left, "what has left is held");
            left = out.len() - scanner.held();
        }
    }
    scanner.finish();
    (out, scanner.fate())
}

/// Through a window, as an exchange does it.
fn spliced(stream: &[u8], name: &[u8], chunked: bool, client_chunks: bool, rng: &mut Rng) -> Rewritten {
    let body = if chunked { in_chunks(stream, rng) } else { stream.to_vec() };
    let mut window = Window::new();
    window.attach(vec![0; WINDOW_SMALL].into());
    let mut splicer = Box::<Splicer>::default();
    assert!(splicer.begin(INSERT, client_chunks));
    let (mut chunks, mut left) = (Chunks::new(), stream.len());
    let (mut at, mut out) = (0, Vec::new());
    while !splicer.has_ended() {
        window.compact(HEADROOM);
        let most = window.spare_len().min(body.len() - at);
        let count = if rng.below(2) == 0 { most } else { most.min(1 + rng.below(40) as usize) };
        window.push(&body[at..at + count]);
        at += count;
        loop {
            if Splicer::needs_room(&window) {
                window.compact(HEADROOM);
            }
            assert!(!Splicer::needs_room(&window), "there is always room once the front has left");
            let next = |bytes: &[u8]| match (chunked, bytes.len().min(left)) {
                (true, _) => chunks.next(bytes),
                (false, _) if left == 0 => Ok(Piece::Done),
                (false, 0) => Ok(Piece::More),
                (false, count) => {
                    left -= count;
                    Ok(Piece::Data(count))
                }
            };
            let passed = match splicer.pass(&mut window, name, Pass::Ongoing, next) {
                Ok(passed) => passed,
                Err(error) => panic!("a good body is refused: {error}"),
            };
            out.extend_from_slice(&window.live()[..passed.ready]);
            window.consume(passed.ready);
            if passed.ready == 0 {
                break;
            }
        }
        assert!(splicer.held() <= SSE_HELD_MAX && window.live().len() == splicer.held());
    }
    assert!(at == body.len() && window.live().is_empty());
    let text = if client_chunks { unchunked(&out) } else { out };
    (text, splicer.fate())
}

fn in_chunks(stream: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (mut body, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(1 + rng.below(60) as usize));
        body.extend(format!("{:x};a=b\r\n", part.len()).as_bytes());
        body.extend(part);
        body.extend(b"\r\n");
        rest = behind;
    }
    body.extend(b"0\r\nx-t: 1\r\n\r\n");
    body
}

fn unchunked(body: &[u8]) -> Vec<u8> {
    let (mut chunks, mut data, mut rest) = (Chunks::new(), Vec::new(), body);
    loop {
        match chunks.next(rest) {
            Ok(Piece::Framing(count)) => rest = &rest[count..],
            Ok(Piece::Data(count)) => {
                data.extend_from_slice(&rest[..count]);
                rest = &rest[count..];
            }
            Ok(Piece::Done) => break,
            Ok(Piece::More) => panic!("the client waits for more"),
            Err(error) => panic!("the client gets no chunks: {error}"),
        }
    }
    assert!(rest.is_empty(), "bytes behind the last chunk");
    data
}

/// Where a line lies, without its end.
type Row = std::ops::Range<usize>;

/// WHATWG HTML §9.2.6 on the whole text: split into lines, lines into events, and in each event the data put together.
fn reference(stream: &[u8], name: &[u8]) -> Rewritten {
    let rows = rows(stream);
    let (mut out, mut copied, mut fate) = (Vec::new(), 0, None);
    let mut event: Vec<Row> = Vec::new();
    for row in rows {
        if !row.is_empty() {
            event.push(row);
            continue;
        }
        // A CR ends the event, so that an LF behind it is not waited for.
        let ends_at = row.end + 1;
        if is_endpoint(stream, &event) {
            fate = Some(match session(stream, &event, name) {
                Err(fate) => fate,
                Ok(place) if ends_at - place > SSE_HELD_MAX => EndpointFate::TooLong,
                Ok(place) => {
                    out.extend_from_slice(&stream[copied..place]);
                    out.extend_from_slice(INSERT);
                    copied = place;
                    EndpointFate::Rewritten
                }
            });
        }
        event.clear();
    }
    if is_endpoint(stream, &event) {
        fate = Some(EndpointFate::Unfinished);
    }
    out.extend_from_slice(&stream[copied..]);
    (out, fate)
}

/// All lines that have an end.
fn rows(stream: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut at = if stream.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    while let Some(length) = stream[at..].iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let content = at..at + length;
        let is_pair = stream[content.end..].starts_with(b"\r\n");
        at = content.end + if is_pair { 2 } else { 1 };
        rows.push(content);
    }
    rows
}

/// The field's value, where it lies, and its name.
fn field<'s>(stream: &'s [u8], row: &Row) -> (&'s [u8], std::ops::Range<usize>) {
    let line = &stream[row.clone()];
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return (line, row.end..row.end);
    };
    let start = row.start + colon + 1;
    let space = usize::from(stream[start..row.end].starts_with(b" "));
    (&line[..colon], start + space..row.end)
}

fn is_endpoint(stream: &[u8], event: &[Row]) -> bool {
    let mut types = event.iter().map(|row| field(stream, row)).filter(|(name, _)| *name == b"event");
    types.next_back().is_some_and(|(_, value)| &stream[value] == b"endpoint")
}

/// Where the value of the first session ends that is not empty, in the URL that the data are; or why there is none.
fn session(stream: &[u8], event: &[Row], name: &[u8]) -> Result<usize, EndpointFate> {
    let data = event.iter().map(|row| field(stream, row)).filter(|(name, _)| *name == b"data");
    // Each byte with its place, without what URL parsers drop.
    let url: Vec<(u8, usize)> = data
        .flat_map(|(_, value)| value)
        .map(|at| (stream[at], at))
        .filter(|(byte, _)| *byte != b'\t')
        .collect();
    let text: Vec<u8> = url.iter().map(|(byte, _)| *byte).collect();
    let fragment = text.iter().position(|&byte| byte == b'#').unwrap_or(text.len());
    let mark = text[..fragment].iter().position(|&byte| byte == b'?').ok_or(EndpointFate::NoSession)?;
    let mut at = mark + 1;
    for parameter in text[at..fragment].split(|&byte| byte == b'&') {
        let value = parameter.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let start = at + parameter.len() - value.len();
            return end_of_value(&url[start..]);
        }
        at += parameter.len() + 1;
    }
    Err(EndpointFate::NoSession)
}

/// White space may follow a value, but then the URL must be over; and no two of its bytes may be too far apart.
fn end_of_value(url: &[(u8, usize)]) -> Result<usize, EndpointFate> {
    let (first, mut last) = url[0];
    if !is_url_byte(first) {
        return Err(EndpointFate::NoSession);
    }
    let mut blank = false;
    for &(byte, at) in &url[1..] {
        if at - last > SSE_HELD_MAX {
            return Err(EndpointFate::TooLong);
        }
        match byte {
            b'&' | b'#' if !blank => break,
            b' ' => blank = true,
            _ if !blank && is_url_byte(byte) => last = at,
            _ => return Err(EndpointFate::NoSession),
        }
    }
    Ok(last + 1)
}

fn is_url_byte(byte: u8) -> bool {
    byte >= 0x80 || byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

/// The stream's bytes as a request's target: the first value with an address is found and taken out, and what is put in
/// comes out again.
fn target(bytes: &[u8], name: &str) {
    let sse = Sse::new(name.into());
    let whole = bytes.split(|&byte| byte == b'#').next().unwrap_or_default();
    let query = whole.splitn(2, |&byte| byte == b'?').nth(1);
    let values: Vec<&[u8]> = query
        .into_iter()
        .flat_map(|query| query.split(|&byte| byte == b'&'))
        .filter_map(|piece| {
            let equals = piece.iter().position(|&byte| byte == b'=')?;
            (&piece[..equals] == name.as_bytes()).then(|| &piece[equals + 1..])
        })
        .collect();
    let found: Vec<&[u8]> = sse.values(bytes).map(|span| &bytes[span]).collect();
    assert_eq!(found, values, "{}", bytes.escape_ascii());
    let good = values.iter().position(|value| decode_sse(value).is_ok());
    assert_eq!(sse.suffix_in(bytes).is_some(), good.is_some());
    let Some(address) = Address::new(b"10.0.0.1:80") else { panic!("an address") };
    for span in sse.values(bytes).filter(|span| !span.is_empty()) {
        let mut suffix = Vec::new();
        encode_sse_suffix(&address, &mut suffix);
        assert_eq!(suffix, INSERT);
        let sent = [&bytes[..span.end], &suffix, &bytes[span.end..]].concat();
        let earlier = sse.values(bytes).take_while(|other| other.start < span.start);
        if earlier.into_iter().any(|other| decode_sse(&bytes[other]).is_ok()) {
            continue;
        }
        let Some(cut) = sse.suffix_in(&sent) else {
            panic!("what was put in is not found: {}", sent.escape_ascii())
        };
        assert_eq!([&sent[..cut.start], &sent[cut.end..]].concat(), bytes);
    }
}
