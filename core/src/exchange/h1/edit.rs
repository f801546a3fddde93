//! What a proxy changes in a head: hop-by-hop fields, the session field, the route's field rules, the marks by which it
//! makes itself known. Notes the edits; the window applies them in place.

use wide::{i8x16, u8x16};

use super::sse::Reframed;
use crate::affinity::{LineEdit, Policy, ResponseEdit, Routed};
use crate::clock::UnixSecs;
use crate::field::is_same_name;
use crate::hosts::Host;
use crate::http1::{
    Edits, Field, Method, RequestHead, ResponseFraming, ResponseHead, Version, list, span_in,
};
use crate::rng::Rng;
use crate::route::{FieldRules, Forward, PathMatch, Redirect, Rewrite, Route};
use crate::snapshot::{Listener, ServerField, Snapshot};
use crate::worker::Scratch;

/// What the edits of a request depend on.
pub(super) struct RequestContext<'a> {
    pub(super) listener: &'a Listener,
    pub(super) route: &'a Route,
    pub(super) forward: &'a Forward,
    pub(super) session: Option<(&'a Policy, &'a Routed)>,
    pub(super) client: &'a [u8],
    pub(super) snapshot: &'a Snapshot,
}

/// What the edits of a response depend on.
pub(super) struct ResponseContext<'a> {
    pub(super) listener: &'a Listener,
    pub(super) forward: &'a Forward,
    pub(super) session: Option<(&'a Policy, &'a Routed)>,
    pub(super) host: Option<&'a Host>,
    pub(super) client: Version,
    pub(super) persist: bool,
    pub(super) dechunk: bool,
    pub(super) reframed: Option<Reframed>,
}

/// Notes the edits of a request.
pub(super) fn request(
    head: &RequestHead<'_>,
    context: &RequestContext<'_>,
    scratch: &mut Scratch,
    rng: &mut Rng,
) {
    let Scratch { edits, value, .. } = scratch;
    edits.clear();
    let session_field = context.session.and_then(|(policy, _)| policy.request_field());
    edits.hop_by_hop_request(head, head.connection.upgrade, session_field);
    request_line(head, context, edits, value);
    host(head, context, edits);
    if let Some((policy, routed)) = context.session
        && policy.edits_requests()
    {
        session_lines(head, routed, policy, edits, value);
    }
    if context.session.is_some_and(|(policy, _)| policy.sse_parameter().is_some()) {
        plain_stream(head, edits);
    }
    field_rules(head.bytes, head.fields, &context.forward.request_fields, edits);
    marks(head, context, edits, rng);
    if head.version == Version::Http10 {
        // RFC 9110 §10.1.1: HTTP/1.0 has no expectations.
        edits.remove_named(head.bytes, head.fields, b"expect");
    }
}

/// Notes the edits of an interim response.
pub(super) fn interim(head: &ResponseHead<'_>, scratch: &mut Scratch) {
    scratch.edits.clear();
    version(head, &mut scratch.edits);
    scratch.edits.hop_by_hop_response(head, false, None);
}

/// Notes the edits of a final response or a 101. True: it carries a new token.
pub(super) fn response(
    head: &ResponseHead<'_>,
    context: &ResponseContext<'_>,
    scratch: &mut Scratch,
    now: UnixSecs,
) -> bool {
    let Scratch { edits, value, date, .. } = scratch;
    edits.clear();
    let switched = head.status == 101;
    let session_field = context.session.and_then(|(policy, _)| policy.response_field());
    version(head, edits);
    edits.hop_by_hop_response(head, switched, session_field);
    field_rules(head.bytes, head.fields, &context.forward.response_fields, edits);
    if context.client == Version::Http10 {
        // RFC 9112 §6.1: not even in answer to HEAD.
        edits.remove_named(head.bytes, head.fields, b"transfer-encoding");
    }
    if context.dechunk {
        edits.remove_named(head.bytes, head.fields, b"trailer");
    }
    if let Some(reframed) = context.reframed {
        reframe(head, reframed, edits);
    }
    if let ServerField::Overwrite(server) = &context.listener.marks.server {
        edits.remove_named(head.bytes, head.fields, b"server");
        edits.append_line(b"server", server.as_bytes());
    }
    if let Some(via) = &context.listener.marks.via {
        append_via(edits, head.version, via);
    }
    if context.listener.marks.date && !head.has_date && !switched {
        edits.append_line(b"date", date.text(now));
    }
    if !switched {
        match (context.persist, context.client) {
            (false, _) => edits.append_line(b"connection", b"close"),
            (true, Version::Http10) => edits.append_line(b"connection", b"keep-alive"),
            (true, Version::Http11) => {}
        }
    }
    // Our own line comes last: in a client's jar the last line of a name wins (RFC 6265 §5.3).
    context.session.zip(context.host).is_some_and(|((policy, routed), host)| {
        let (count, first) = session_field.map_or((0, None), |name| {
            let mut lines = head.fields.iter().filter(|field| name.matches(field.name));
            let first = lines.next().map(|field| field.value);
            (usize::from(first.is_some()) + lines.count(), first)
        });
        let edit = routed.response_edit(policy, host.address(), count, first, now, value);
        let no_cache = match edit {
            ResponseEdit::Keep => return false,
            ResponseEdit::SetCookie { no_cache } => {
                edits.append_line(b"set-cookie", value);
                no_cache
            }
            ResponseEdit::Replace { no_cache } => {
                let Some(name) = session_field else { return false };
                edits.remove_named(head.bytes, head.fields, name.as_str().as_bytes());
                edits.append_line(name.as_str().as_bytes(), value);
                no_cache
            }
        };
        if no_cache {
            // A shared cache must not hand one client's session to another (RFC 9111 §5.2.2.7).
            edits.append_line(b"cache-control", b"private");
        }
        true
    })
}

/// What a head says about the length of its body is wrong once that is rewritten. Chunks that the client reads stay
/// chunks; trailers do not pass.
fn reframe(head: &ResponseHead<'_>, reframed: Reframed, edits: &mut Edits) {
    edits.remove_named(head.bytes, head.fields, b"content-length");
    edits.remove_named(head.bytes, head.fields, b"trailer");
    if reframed.chunked && head.framing != ResponseFraming::Chunked {
        edits.append_line(b"transfer-encoding", b"chunked");
    }
    if reframed.no_cache {
        // As with a session in the head (RFC 9111 §5.2.2.7).
        edits.append_line(b"cache-control", b"private");
    }
}

/// RFC 9112 §2.3: a message has its sender's version, and this one's sender is the proxy. Under the host's own, a client
/// would take a connection that persists for one that closes.
fn version(head: &ResponseHead<'_>, edits: &mut Edits) {
    if head.version == Version::Http10 {
        edits.replace(head.version_span(), Version::Http11.as_str().as_bytes());
    }
}

/// Writes the target of a redirect to `out`: the parts it names, the rest as requested.
pub(super) fn location(redirect: &Redirect, matched: &PathMatch, head: &RequestHead<'_>, out: &mut Vec<u8>) {
    out.clear();
    let host = head.host.unwrap_or_default();
    if redirect.scheme.is_some() || redirect.host.is_some() || redirect.port.is_some() {
        out.extend_from_slice(redirect.scheme.as_deref().unwrap_or("http").as_bytes());
        out.extend_from_slice(b"://");
        let name = crate::route::without_port(host);
        out.extend_from_slice(redirect.host.as_deref().map_or(name, str::as_bytes));
        match redirect.port {
            Some(port) => {
                out.push(b':');
                out.extend_from_slice(port.to_string().as_bytes());
            }
            // A port that was asked for stays, unless scheme or host give it another meaning.
            None if redirect.scheme.is_none() && redirect.host.is_none() => {
                out.extend_from_slice(host.get(name.len()..).unwrap_or_default());
            }
            None => {}
        }
    }
    let path_at = out.len();
    match &redirect.path {
        Some(rewrite) => rewritten(rewrite, matched, head.path, out),
        None => out.extend_from_slice(head.path),
    }
    if path_at == 0 && matches!(out.as_slice(), [b'/', b'/' | b'\\', ..]) {
        // RFC 3986 §4.2: what begins with two slashes names a host, and browsers read `\` as one; the client could
        // be sent to whomever its link says. The same path with a dot segment in front stays here (§5.2.4).
        out.splice(..0, *b"/.");
    }
}

/// RFC 9112 §3.2: an upstream gets the origin form, in HTTP/1.1, on the rewritten path.
fn request_line(
    head: &RequestHead<'_>,
    context: &RequestContext<'_>,
    edits: &mut Edits,
    value: &mut Vec<u8>,
) {
    let target = span_in(head.bytes, head.target);
    if head.version == Version::Http10 {
        edits.replace(target.end + 1..target.end + 1 + Version::Http10.as_str().len(), b"HTTP/1.1");
    }
    let cut = context.session.and_then(|(policy, routed)| routed.target_cut(policy, head.path));
    if let Some(rewrite) = &context.forward.rewrite {
        value.clear();
        rewritten(rewrite, &context.route.path, head.path, value);
        if let Some(cut) = cut {
            // A rewrite keeps the query, so that counted from the end all is where it was.
            let end = value.len() - (head.path.len() - cut.end);
            value.drain(end - cut.len()..end);
        }
        edits.replace(target, value);
    } else if head.absolute {
        value.clear();
        value.extend_from_slice(head.path);
        if let Some(cut) = cut {
            value.drain(cut);
        }
        edits.replace(target, value);
    } else if let Some(cut) = cut {
        edits.replace(target.start + cut.start..target.start + cut.end, b"");
    }
}

/// A stream that may have to be rewritten is asked for without a content coding (RFC 9110 §12.5.3). Other requests keep
/// theirs, and so does one without.
fn plain_stream(head: &RequestHead<'_>, edits: &mut Edits) {
    let names_streams = |field: &&Field<'_>| {
        field.name.eq_ignore_ascii_case(b"accept")
            && list(field.value).any(|range| {
                let media_type = range.split(|&byte| byte == b';').next().unwrap_or_default();
                media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
            })
    };
    let has_codings = head.fields.iter().any(|field| field.name.eq_ignore_ascii_case(b"accept-encoding"));
    if has_codings && head.method == Method::Get && head.fields.iter().any(|field| names_streams(&field)) {
        edits.remove_named(head.bytes, head.fields, b"accept-encoding");
        edits.append_line(b"accept-encoding", b"identity");
    }
}

/// `Host` stays as the client sent it, unless the target or the route says otherwise (RFC 9112 §3.2.2).
fn host(head: &RequestHead<'_>, context: &RequestContext<'_>, edits: &mut Edits) {
    if head.host.is_some() && !head.absolute && context.forward.host_rewrite.is_none() {
        return;
    }
    let line = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(b"host"));
    let meant = match &context.forward.host_rewrite {
        Some(rewrite) => Some(rewrite.as_str().as_bytes()),
        None if head.absolute => head.host,
        None => None,
    };
    match (line, meant) {
        (Some(line), Some(meant)) => edits.replace(span_in(head.bytes, line.value), meant),
        (None, Some(meant)) => edits.append_line(b"host", meant),
        (None, None) => {
            // HTTP/1.0 may come without a host; HTTP/1.1 upstreams insist on one (RFC 9112 §3.2).
            let cluster =
                context.forward.clusters.first().and_then(|entry| context.snapshot.cluster(entry.cluster));
            edits.append_line(b"host", cluster.map_or("", |cluster| cluster.name()).as_bytes());
        }
        (Some(_), None) => {}
    }
}

/// Unwraps an envelope, hides the cookie: whatever the policy does with the lines of its field.
fn session_lines(
    head: &RequestHead<'_>,
    routed: &Routed,
    policy: &Policy,
    edits: &mut Edits,
    value: &mut Vec<u8>,
) {
    let Some(name) = policy.request_field() else { return };
    let lines = head.fields.iter().filter(|field| name.matches(field.name));
    for (nth, field) in lines.enumerate() {
        match routed.edit_line(policy, nth, field.value, value) {
            LineEdit::Keep => {}
            LineEdit::Drop => edits.remove_line(head.bytes, field),
            LineEdit::Write => edits.replace(span_in(head.bytes, field.value), value),
        }
    }
}

fn field_rules(bytes: &[u8], fields: &[Field<'_>], rules: &FieldRules, edits: &mut Edits) {
    if rules.remove.is_empty() && rules.set.is_empty() && rules.add.is_empty() {
        return;
    }
    for name in rules.remove.iter().chain(rules.set.iter().map(|(name, _)| name)) {
        edits.remove_named(bytes, fields, name.as_str().as_bytes());
    }
    for (name, value) in rules.set.iter().chain(&rules.add) {
        edits.append_line(name.as_str().as_bytes(), value.as_str().as_bytes());
    }
}

/// `x-forwarded-for`, `x-forwarded-proto`, `x-request-id`, `via`.
fn marks(head: &RequestHead<'_>, context: &RequestContext<'_>, edits: &mut Edits, rng: &mut Rng) {
    let marks = &context.listener.marks;
    let inbound = Inbound::of(head, marks.trust_inbound, edits);
    if marks.forwarded_for {
        match inbound.forwarded_for {
            Some(line) => {
                let end = span_in(head.bytes, line.value).end;
                edits.replace_with(end..end, |text| {
                    text.extend_from_slice(if line.value.is_empty() { b" " } else { b", " });
                    text.extend_from_slice(context.client);
                });
            }
            None => edits.append_line(b"x-forwarded-for", context.client),
        }
    }
    if marks.forwarded_proto && !inbound.forwarded_proto {
        edits.append_written(b"x-forwarded-proto: http\r\n", |_| {});
    }
    if marks.request_id && !inbound.request_id {
        let id = request_id(rng);
        edits.append_written(REQUEST_ID_LINE, |line| fill_in(id, line));
    }
    if let Some(via) = &marks.via {
        append_via(edits, head.version, via);
    }
}

/// The marks that a trusted client's proxy has set already.
#[derive(Default)]
struct Inbound<'h> {
    /// The last line; the client's address is appended to it.
    forwarded_for: Option<&'h Field<'h>>,
    forwarded_proto: bool,
    request_id: bool,
}

impl<'h> Inbound<'h> {
    /// Finds the marks in one walk; those of a client that is not trusted are removed.
    fn of(head: &RequestHead<'h>, trusted: bool, edits: &mut Edits) -> Self {
        let mut found = Self::default();
        let fields = if head.marked { head.fields } else { &[] };
        for field in fields {
            let name = field.name;
            let forwarded_for = is_same_name(name, b"x-forwarded-for");
            let forwarded_proto = is_same_name(name, b"x-forwarded-proto");
            let request_id = is_same_name(name, b"x-request-id");
            if !(forwarded_for || forwarded_proto || request_id) {
                continue;
            }
            if !trusted {
                edits.remove_line(head.bytes, field);
                continue;
            }
            if forwarded_for {
                found.forwarded_for = Some(field);
            }
            found.forwarded_proto |= forwarded_proto;
            found.request_id |= request_id;
        }
        found
    }
}

/// RFC 9110 §7.6.3: the received protocol's version and a pseudonym.
fn append_via(edits: &mut Edits, version: Version, pseudonym: &str) {
    edits.append_with(b"via", |value| {
        value.extend_from_slice(if version == Version::Http10 { b"1.0 " } else { b"1.1 " });
        value.extend_from_slice(pseudonym.as_bytes());
    });
}

/// A random (version 4) UUID, RFC 9562 §5.4.
#[inline]
fn request_id(rng: &mut Rng) -> u128 {
    let front = (rng.bits() & !0xf000) | 0x4000;
    let back = (rng.bits() & !(0x3 << 62)) | (0x2 << 62);
    u128::from(front) << 64 | u128::from(back)
}

/// The line with a request's id, but for the id.
const REQUEST_ID_LINE: &[u8; 52] = b"x-request-id: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\r\n";

/// Writes the `id`'s digits into the line, where its letters stand.
#[inline]
fn fill_in(id: u128, line: &mut [u8; 52]) {
    let digits = hex(id);
    // From which digit on, to which place, how many.
    for (from, at, count) in [(0, 14, 8), (8, 23, 4), (12, 28, 4), (16, 33, 4), (20, 38, 4), (24, 42, 8)] {
        if let (Some(to), Some(digits)) = (line.get_mut(at..at + count), digits.get(from..from + count)) {
            to.copy_from_slice(digits);
        }
    }
}

/// All hexadecimal digits of a number, the highest first.
#[inline]
fn hex(number: u128) -> [u8; 32] {
    const LOWER: u128 = u128::from_ne_bytes([0xf; 16]);
    let lane = |bits: u128| u8x16::new((bits & LOWER).to_be_bytes());
    let (high, low) = (lane(number >> 4), lane(number));
    // What is above 9 is a letter, which stands further back in ASCII.
    let digits = |values: u8x16| {
        let letters = values.cast_signed().simd_gt(i8x16::splat(9)).cast_unsigned();
        (values + u8x16::splat(b'0') + (letters & u8x16::splat(b'a' - b'0' - 10))).to_array()
    };
    let mut all = [0; 32];
    let (halves, _) = all.as_chunks_mut();
    if let [front, back] = halves {
        *front = digits(u8x16::unpack_low(high, low));
        *back = digits(u8x16::unpack_high(high, low));
    }
    all
}

/// Writes the rewritten path, with the query as received.
fn rewritten(rewrite: &Rewrite, matched: &PathMatch, target: &[u8], out: &mut Vec<u8>) {
    let query_at = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    match rewrite {
        Rewrite::Path(path) => {
            out.extend_from_slice(path.as_bytes());
            out.extend_from_slice(target.get(query_at..).unwrap_or_default());
        }
        Rewrite::Prefix(prefix) => {
            out.extend_from_slice(prefix.as_bytes());
            let rest = target.get(matched.as_str().len().min(query_at)..).unwrap_or_default();
            if prefix.is_empty() && rest.first() != Some(&b'/') {
                out.push(b'/');
            }
            out.extend_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids() {
        let mut line = *REQUEST_ID_LINE;
        fill_in(request_id(&mut Rng::seeded(1)), &mut line);
        let id = line.strip_prefix(b"x-request-id: ").and_then(|id| id.strip_suffix(b"\r\n")).unwrap();
        let text = core::str::from_utf8(id).unwrap();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(text.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(id[14], b'4');
        assert!(matches!(id[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn hexadecimal_digits_are_those_of_the_number() {
        let mut rng = Rng::seeded(2);
        let drawn = (0..10_000).map(|_| u128::from(rng.bits()) << 64 | u128::from(rng.bits()));
        for number in drawn.chain([0, u128::MAX, 0x0123_4567_89ab_cdef]) {
            assert_eq!(core::str::from_utf8(&hex(number)).unwrap(), format!("{number:032x}"));
        }
    }

    #[test]
    fn a_rewrite_keeps_the_query() {
        let rewrite = |rewrite: Rewrite, matched: &str, target: &str| {
            let mut out = Vec::new();
            rewritten(&rewrite, &PathMatch::Prefix(matched.into()), target.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(rewrite(Rewrite::Prefix("/v2".into()), "/v1", "/v1/a?x=1"), "/v2/a?x=1");
        assert_eq!(rewrite(Rewrite::Prefix("".into()), "/v1", "/v1?x"), "/?x");
        assert_eq!(rewrite(Rewrite::Path("/p".into()), "/", "/a/b?x=?"), "/p?x=?");
    }
}
