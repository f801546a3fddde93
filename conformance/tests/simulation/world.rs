//! One world: its hosts, its clients, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homing_conformance::build::{Builder, header_policy};
use homing_conformance::memory::{Act, ClientId, Door, Knobs, Lab, Upstream};
use homing_conformance::message::{Progress, Request, Response, read_response};
use homing_core::balance::Balance;
use homing_core::exchange::machine::Trace;
use homing_core::hosts::ClusterId;
use homing_core::rng::Rng;
use homing_core::route::{Forward, Retry, RetryOn, Session};

const HOSTS: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
const MOMENTS: usize = 40;

/// A lab with clients that know what they sent.
pub(crate) struct World {
    rng: Rng,
    builder: Builder,
    app: ClusterId,
    lab: Lab,
    clients: Vec<Story>,
    tags: u32,
    /// How often the tag stands in a large body: more bytes than a window, unless they go one by one.
    large: usize,
}

/// What one client does.
struct Story {
    id: ClientId,
    /// Bytes that are still to be sent.
    unsent: Vec<u8>,
    asked: Vec<Asked>,
    /// Bytes behind an upgrade, which an echoing host sends back.
    tunnelled: Vec<u8>,
    left: bool,
    /// Nothing can come behind what the client has to send.
    last: bool,
}

struct Asked {
    tag: String,
    method: &'static str,
}

/// Draws what the hosts do.
struct Hosts {
    rng: Rng,
    large: usize,
}

impl World {
    /// Everything follows from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed.wrapping_mul(0x9e37_79b9));
        let mut builder = Builder::new();
        let app = builder.cluster_with("app", &HOSTS, Balance::LeastRequest);
        let policy = builder.policy(header_policy("x-session"));
        let attempts = u8::try_from(rng.below(3)).unwrap();
        builder.respond("/own", 200, "our own");
        builder.route_with("/", app, move |forward: &mut Forward| {
            forward.session = Session::Policy(policy);
            let on = RetryOn { reset: true, gateway_error: true, ..RetryOn::default() };
            forward.retry = Retry { attempts, on, per_try_timeout: Duration::from_millis(900) };
        });
        let limits = &mut builder.limits;
        limits.request_body_bytes = Some(if rng.below(3) == 0 { 500 } else { 40_000 });
        limits.host_connections = rng.below(6);
        limits.host_pending = 2;
        limits.host_idle = 1 + rng.below(4);
        limits.discard_bytes = 100;
        limits.request_head_timeout = Duration::from_secs(3);
        limits.body_idle_timeout = Duration::from_secs(4);
        limits.response_timeout = Duration::from_secs(3);
        limits.connect_timeout = Duration::from_secs(1);
        limits.pending_timeout = Duration::from_secs(1);
        limits.keep_alive_timeout = Duration::from_secs(5);
        limits.tunnel_idle_timeout = Duration::from_secs(6);
        limits.link_idle_timeout = Duration::from_secs(4);
        let knobs = Knobs::drawn(seed);
        let large = if (1..100).contains(&knobs.cut) { 100 } else { 4000 };
        let hosts = Hosts { rng: Rng::seeded(rng.bits()), large };
        let lab = Lab::new(builder.build(), seed).rough(knobs).with(hosts);
        Self { rng, builder, app, lab, clients: Vec::new(), tags: 0, large }
    }

    /// Lives through all moments, comes to its end, and is judged.
    pub(crate) fn live(mut self) -> Trace {
        for _ in 0..MOMENTS {
            self.moment();
            let millis = match self.rng.below(12) {
                0 => 2500 + self.rng.below(6000),
                1..4 => self.rng.below(900),
                _ => self.rng.below(60),
            };
            self.lab.advance(Duration::from_millis(u64::from(millis)));
        }
        self.finish();
        self.judge();
        self.lab.trace()
    }

    fn moment(&mut self) {
        for _ in 0..self.rng.below(3) {
            let story = self.story();
            self.clients.push(story);
        }
        for at in 0..self.clients.len() {
            self.act(at);
        }
        let host = HOSTS[self.rng.below(4) as usize];
        match self.rng.below(8) {
            0 => self.lab.door(host, Door::Refusing),
            1 => self.lab.door(host, [Door::Hanging, Door::Deaf][self.rng.below(2) as usize]),
            2..4 => self.lab.door(host, Door::Open),
            4 => self.lab.host_closes_idle(host),
            5 => {
                let first = self.rng.below(4) as usize;
                let hosts: Vec<_> = HOSTS.iter().cycle().skip(first).take(1 + first).copied().collect();
                self.builder.set_hosts(self.app, &hosts);
                self.lab.publish(self.builder.build());
            }
            _ => {}
        }
    }

    /// One client's next deed.
    fn act(&mut self, at: usize) {
        let Some(story) = self.clients.get_mut(at).filter(|story| !story.left) else { return };
        let count = match self.rng.below(4) {
            0 => 0,
            1 => 1 + self.rng.below(20) as usize,
            _ => story.unsent.len(),
        };
        let piece: Vec<u8> = story.unsent.drain(..count.min(story.unsent.len())).collect();
        self.lab.client_send(story.id, piece);
        match self.rng.below(60) {
            0 => self.lab.client_takes(story.id, self.rng.below(300) as usize),
            1 => self.lab.client_takes(story.id, usize::MAX),
            2 => {
                self.lab.client_reset(story.id);
                story.left = true;
            }
            3 => {
                self.lab.client_close(story.id);
                story.left = true;
            }
            4 if story.unsent.is_empty() => {
                self.lab.client_half_close(story.id);
                story.left = true;
            }
            5 if story.unsent.is_empty() && story.asked.len() < 9 && !story.last => {
                let (bytes, asked) = request(&mut self.rng, &mut self.tags, self.large);
                story.unsent.extend(bytes);
                story.asked.push(asked);
            }
            _ => {}
        }
    }

    fn story(&mut self) -> Story {
        let id = self.lab.client();
        let (mut unsent, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.below(5) {
            let (bytes, one) = request(&mut self.rng, &mut self.tags, self.large);
            unsent.extend(bytes);
            asked.push(one);
        }
        let mut tunnelled = Vec::new();
        let end = self.rng.below(8);
        let last = end < 2;
        match end {
            0 => {
                let tag = next_tag(&mut self.tags);
                unsent.extend(
                    format!(
                        "GET /t/{tag}/0 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
                    )
                    .bytes(),
                );
                tunnelled.extend(format!("tunnel {tag}").repeat(5).bytes());
                unsent.extend(&tunnelled);
                asked.push(Asked { tag, method: "GET" });
            }
            1 => unsent.extend(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
            _ => {}
        }
        Story { id, unsent, asked, tunnelled, left: false, last }
    }

    /// Hosts are well again, clients read what there is and say goodbye; after a while nothing is left.
    fn finish(&mut self) {
        for host in HOSTS {
            self.lab.door(host, Door::Open);
        }
        if self.rng.below(4) == 0 {
            self.lab.drain();
        }
        for story in &self.clients {
            self.lab.client_takes(story.id, usize::MAX);
        }
        self.lab.advance(Duration::from_secs(5));
        if self.rng.below(4) == 0 {
            self.lab.drain();
            self.lab.run();
            self.lab.stop();
        }
        for story in self.clients.iter().filter(|story| !story.left) {
            self.lab.client_half_close(story.id);
        }
        self.lab.advance(Duration::from_secs(100));
    }

    fn judge(&mut self) {
        let records = self.lab.outcomes();
        let mut recorded: BTreeMap<String, usize> = BTreeMap::new();
        for record in &records {
            let target = String::from_utf8_lossy(record.target.as_bytes()).into_owned();
            if let Some(tag) = tag_of(&target) {
                *recorded.entry(tag.to_owned()).or_default() += 1;
            }
        }
        assert!(recorded.values().all(|&count| count == 1), "recorded more than once: {recorded:?}");
        for story in &self.clients {
            assert!(self.lab.client_is_closed(story.id), "{:?}", self.lab.client_states(story.id));
            let answered = judge_client(story, self.lab.client_received(story.id));
            for tag in answered {
                assert!(recorded.contains_key(&tag), "{tag} was answered and not recorded");
            }
        }
        assert_eq!((self.lab.open_wires(), self.lab.pooled()), (0, 0), "links are left over");
        for host in HOSTS {
            assert_eq!(self.builder.cell(host).active(), 0, "{host} is counted busy for ever");
        }
        let received: BTreeSet<_> =
            self.lab.requests().iter().filter_map(|(_, one)| tag_of(&one.target)).collect();
        for tag in received {
            assert!(recorded.contains_key(tag), "{tag} reached a host and was not recorded");
        }
    }
}

/// Holds what a client received against what it asked; returns the tags that were answered.
fn judge_client(story: &Story, received: &[u8]) -> Vec<String> {
    let (mut rest, mut asked, mut answered) = (received, story.asked.iter(), Vec::new());
    let mut next = asked.next();
    while !rest.is_empty() {
        let to_head = next.is_some_and(|one| one.method == "HEAD");
        let (response, used) = match read_response(rest, to_head, true) {
            Ok(Progress::Done(response, used)) => (response, used),
            Ok(Progress::Head(response)) => {
                judge_response(&response, next, false);
                return answered;
            }
            Ok(Progress::Partial) => return answered,
            Err(broken) => panic!("{:?} received {broken}", story.id),
        };
        rest = &rest[used..];
        // What ends with the connection may have been cut by its client.
        let framed = response.field("content-length").or(response.field("transfer-encoding")).is_some();
        judge_response(&response, next, framed);
        if response.status == 101 {
            assert!(story.tunnelled.starts_with(rest), "a tunnel carries its own bytes only");
            answered.extend(next.map(|one| one.tag.clone()));
            return answered;
        }
        if !response.is_interim() {
            // A head that took too long is recorded without the target that it never had.
            answered.extend(next.filter(|_| response.status != 408).map(|one| one.tag.clone()));
            next = asked.next();
        }
    }
    answered
}

/// A response belongs to its request, and its body is its own from the first byte to the last.
fn judge_response(response: &Response, asked: Option<&Asked>, whole: bool) {
    let Some(tag) = response.field("x-tag") else {
        let own = response.is_interim() || [200, 400, 408, 413, 502, 503, 504].contains(&response.status);
        assert!(own, "an answer of our own with status {}", response.status);
        return;
    };
    let asked = asked.unwrap_or_else(|| panic!("an answer to {tag} that nobody asked for"));
    assert_eq!(tag, asked.tag, "the answer to another request");
    let unit = format!("<{tag}>");
    let body = response.text();
    let data = body.replace(&unit, "");
    // An unfinished body still has its framing in it.
    assert!(!whole || data.is_empty(), "foreign bytes in the answer to {tag}: {data:?}");
    assert!(!data.contains('['), "a request's bytes in the answer to {tag}: {data:?}");
}

fn next_tag(tags: &mut u32) -> String {
    *tags += 1;
    format!("q{tags}q")
}

fn tag_of(target: &str) -> Option<&str> {
    target.split_once("/t/")?.1.split('/').next()
}

/// One request with its tag all over.
fn request(rng: &mut Rng, tags: &mut u32, large: usize) -> (Vec<u8>, Asked) {
    let tag = next_tag(tags);
    let unit = format!("[{tag}]");
    let times = [0, 1, 7, 40, large][rng.below(5) as usize];
    let method = ["GET", "GET", "HEAD", "PUT", "POST"][rng.below(5) as usize];
    let times = if matches!(method, "PUT" | "POST") { times } else { 0 };
    let mut head = format!("{method} /t/{tag}/{times} HTTP/1.1\r\nhost: x\r\n");
    match rng.below(20) {
        0 => head = format!("{method} /t/{tag}/{times} HTTP/1.0\r\nconnection: keep-alive\r\n"),
        1 => head.push_str("connection: close\r\n"),
        2 if times > 0 => head.push_str("expect: 100-continue\r\n"),
        3 => head = format!("{method} /own/t/{tag} HTTP/1.1\r\nhost: x\r\n"),
        _ => {}
    }
    let body = unit.repeat(times);
    let chunked = rng.below(3) == 0 && !head.contains("HTTP/1.0");
    let mut bytes = head.into_bytes();
    if times > 0 && chunked {
        bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.as_bytes().chunks(1 + rng.below(9000) as usize) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        let broken = rng.below(12) == 0;
        bytes.extend(if broken { b"zz\r\n".as_slice() } else { b"0\r\n\r\n" });
    } else {
        bytes.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).bytes());
    }
    (bytes, Asked { tag, method })
}

impl Upstream for Hosts {
    fn respond(&mut self, _: &str, request: &Request) -> Vec<Act> {
        let parts: Vec<_> = request.target.split('/').collect();
        let (tag, times) = (parts[2], parts[3].parse().unwrap());
        let body = format!("[{tag}]").repeat(times);
        assert!(request.body == body.as_bytes(), "the request {tag} came with other bytes");
        self.script(request, tag)
    }

    fn early(&mut self, _: &str, request: &Request) -> Option<Vec<Act>> {
        let tag = tag_of(&request.target)?.to_owned();
        if request.field("expect").is_some() && self.rng.below(2) == 0 {
            let mut script = vec![Act::Bytes(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Act::AwaitBody];
            script.extend(self.script(request, &tag));
            return Some(script);
        }
        match self.rng.below(6) {
            0 => Some(self.script(request, &tag)),
            1 => {
                let (head, body) = whole(request, &tag, 30, true);
                Some(vec![Act::Bytes(head), Act::AwaitBody, Act::Bytes(body)])
            }
            2 => Some(vec![Act::StopReading, Act::Hold]),
            _ => None,
        }
    }
}

impl Hosts {
    fn script(&mut self, request: &Request, tag: &str) -> Vec<Act> {
        let upgrade = request.field("upgrade").is_some();
        let count = [0, 1, 5, self.large / 10, self.large * 3][self.rng.below(5) as usize];
        let (head, body) = whole(request, tag, count, self.rng.below(2) == 0);
        let part = body.len() / 2;
        let bytes = |parts: &[&[u8]]| Act::Bytes(parts.concat());
        if upgrade && self.rng.below(3) != 0 {
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nx-tag: {tag}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
            );
            let last = [Act::Echo, Act::Echo, Act::Hold, Act::Reset, Act::CloseSend]
                [self.rng.below(5) as usize]
                .clone();
            return vec![Act::Bytes(switch.into_bytes()), last];
        }
        match self.rng.below(26) {
            0 => vec![Act::Reset],
            1 => vec![Act::Close],
            2 => vec![Act::Hold],
            3 => vec![bytes(&[&head, &body[..part]]), Act::Reset],
            4 => vec![bytes(&[&head, &body[..part]]), Act::Close],
            5 => vec![bytes(&[&head, &body[..part]]), Act::Hold],
            6 => vec![bytes(&[&head[..head.len() / 2]]), Act::Close],
            7 => vec![bytes(&[b"SSH-2.0\r\n\r\n"])],
            8 => vec![bytes(&[
                b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\nx-tag: ",
                tag.as_bytes(),
                b"\r\n\r\n",
            ])],
            9..11 => vec![Act::Delay(u64::from(self.rng.below(4000))), bytes(&[&head, &body])],
            11 => vec![
                bytes(&[&head, &body[..part]]),
                Act::Delay(u64::from(self.rng.below(5000))),
                bytes(&[&body[part..]]),
            ],
            12..14 => vec![bytes(&[
                b"HTTP/1.1 103 Early Hints\r\nx-tag: ",
                tag.as_bytes(),
                b"\r\n\r\n",
                &head,
                &body,
            ])],
            14 => vec![bytes(&[b"HTTP/1.1 102 Processing\r\n\r\n"]), Act::Close],
            15 => vec![bytes(&[b"HTTP/1.1 102 Processing\r\n\r\n"]), Act::Hold],
            16 => vec![bytes(&[&head, &body]), Act::Close],
            17 if request.method != "HEAD" => {
                let text = format!("HTTP/1.1 200 OK\r\nx-tag: {tag}\r\n\r\n<{tag}><{tag}>");
                vec![bytes(&[text.as_bytes()]), Act::Close]
            }
            18 if request.method != "HEAD" => {
                let text = format!("HTTP/1.1 200 OK\r\nx-tag: {tag}\r\ntransfer-encoding: chunked\r\n\r\nzz");
                vec![bytes(&[text.as_bytes()])]
            }
            _ => vec![bytes(&[&head, &body])],
        }
    }
}

/// A response, its head and its body with framing.
fn whole(request: &Request, tag: &str, count: usize, chunked: bool) -> (Vec<u8>, Vec<u8>) {
    let body = format!("<{tag}>").repeat(count);
    let line = format!("HTTP/1.1 200 OK\r\nx-tag: {tag}\r\n");
    let (framing, bytes) = if chunked {
        let mut bytes = Vec::new();
        for chunk in body.as_bytes().chunks(4000) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        ("transfer-encoding: chunked\r\n\r\n".to_owned(), bytes)
    } else {
        (format!("content-length: {}\r\n\r\n", body.len()), body.into_bytes())
    };
    let bytes = if request.method == "HEAD" { Vec::new() } else { bytes };
    ((line + &framing).into_bytes(), bytes)
}
