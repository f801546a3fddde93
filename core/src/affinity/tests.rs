//! The affinity core from lookup to edits, carrier by carrier.

use core::time::Duration;
use std::sync::Arc;

use super::*;
use crate::balance::Balance;
use crate::clock::UnixSecs;
use crate::field::{FieldName, Status};
use crate::hosts::{
    Admission, Cluster, ClusterId, ClusterSpec, Endpoint, Health, HealthSet, HostCell, HostId, HostRef,
    HostSpec,
};
use crate::limits::INSERT_MAX;
use crate::token::{self, Address, Scratch, Token};

const NOW: UnixSecs = UnixSecs::new(1_795_406_005);
const A: &str = "127.0.0.1:21101";
const B: &str = "127.0.0.1:21102";
const ELSEWHERE: &str = "9.9.9.9:1";

fn cookie_spec() -> CookieSpec {
    CookieSpec { name: "sess".into(), path: "/".into(), ttl: Duration::from_secs(60), attributes: Vec::new() }
}

fn spec(carrier: CarrierSpec) -> PolicySpec {
    let gone_status = Status::new(404).unwrap();
    let (strict, clear_dead, hide_from_upstream, no_cache) = (false, false, false, false);
    PolicySpec { carrier, strict, gone_status, clear_dead, hide_from_upstream, no_cache, renew_before: None }
}

fn cookie() -> PolicySpec {
    spec(CarrierSpec::Cookie(cookie_spec()))
}

fn header() -> PolicySpec {
    spec(CarrierSpec::Header { name: FieldName::new("X-Sess").unwrap() })
}

fn envelope() -> PolicySpec {
    spec(CarrierSpec::Envelope { name: FieldName::new("x-env").unwrap() })
}

fn compile(spec: PolicySpec) -> Policy {
    Policy::compile(spec).unwrap()
}

fn strict(spec: PolicySpec) -> Policy {
    compile(PolicySpec { strict: true, ..spec })
}

fn cluster(hosts: &[&str]) -> Cluster {
    let host = |text: &&str| HostSpec {
        endpoint: Endpoint::Tcp(text.parse().unwrap()),
        weight: 1,
        priority: 0,
        cell: Arc::default(),
    };
    Cluster::compile(ClusterSpec {
        name: "c".into(),
        hosts: hosts.iter().map(host).collect(),
        balance: Balance::RoundRobin,
        override_status: HealthSet::USABLE,
        panic_percent: 0,
    })
    .unwrap()
}

fn host(cluster: u32, host: u32) -> HostRef {
    HostRef { cluster: ClusterId(cluster), host: HostId(host) }
}

/// A cookie's value for `address` that counts for another `secs` seconds; zero: for ever.
fn value(address: &str, secs: i64) -> String {
    let expires = (secs != 0).then(|| UnixSecs::new(NOW.get().checked_add_signed(secs).unwrap()));
    let mut out = Vec::new();
    token::encode_cookie(&Token { address: Address::new(address.as_bytes()).unwrap(), expires }, &mut out);
    String::from_utf8(out).unwrap()
}

fn in_header(address: &str) -> String {
    let mut out = Vec::new();
    token::encode_header(&Address::new(address.as_bytes()).unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

/// What `lines` say, handed to `then`.
fn found<R>(policy: &Policy, lines: &[&str], then: impl FnOnce(Found<'_>) -> R) -> R {
    let mut room = Scratch::new();
    let mut lookup = policy.lookup(b"/", NOW, &mut room).unwrap();
    lines.iter().for_each(|line| lookup.offer(line.as_bytes()));
    then(lookup.read())
}

fn address(policy: &Policy, lines: &[&str]) -> Result<String, Miss> {
    found(policy, lines, |found| found.token().map(|token| token.address.to_string()))
}

/// The verdict in `cluster`.
fn found_in(cluster: &Cluster, policy: &Policy, lines: &[&str]) -> Verdict {
    found(policy, lines, |found| found.find(policy, [(ClusterId(0), cluster)]))
}

/// The verdict in a cluster of A and B, in a word.
fn verdict(policy: &Policy, lines: &[&str]) -> String {
    let cluster = cluster(&[A, B]);
    match found_in(&cluster, policy, lines) {
        Verdict::Pin(routed) => format!("pin {}", cluster.host(routed.host().host).unwrap().address()),
        Verdict::Place(unplaced) => format!("place {}", unplaced.miss().as_str()),
        Verdict::Refuse(refusal) => format!("refuse {} {}", refusal.reason.as_str(), refusal.status.get()),
    }
}

fn pinned(policy: &Policy, lines: &[&str]) -> Routed {
    match found_in(&cluster(&[A, B]), policy, lines) {
        Verdict::Pin(routed) => routed,
        other => panic!("{other:?}"),
    }
}

fn placed(policy: &Policy, lines: &[&str]) -> Routed {
    match found_in(&cluster(&[A, B]), policy, lines) {
        Verdict::Place(unplaced) => unplaced.placed(host(0, 1)),
        other => panic!("{other:?}"),
    }
}

/// Pinned or placed.
fn routed(policy: &Policy, lines: &[&str]) -> Routed {
    match found_in(&cluster(&[A, B]), policy, lines) {
        Verdict::Pin(routed) => routed,
        Verdict::Place(unplaced) => unplaced.placed(host(0, 1)),
        refused @ Verdict::Refuse(_) => panic!("{refused:?}"),
    }
}

fn response(routed: &Routed, policy: &Policy, address: &str, upstream: &[&str]) -> (ResponseEdit, String) {
    let mut out = b"left over".to_vec();
    let first = upstream.first().map(|line| line.as_bytes());
    let edit = routed.response_edit(policy, address, upstream.len(), first, NOW, &mut out);
    (edit, String::from_utf8(out).unwrap())
}

const SET_COOKIE: ResponseEdit = ResponseEdit::SetCookie { no_cache: false };
const REPLACE: ResponseEdit = ResponseEdit::Replace { no_cache: false };

#[test]
fn the_first_usable_cookie_counts_over_all_lines() {
    let policy = compile(cookie());
    let (a, b, old) = (value(A, 0), value(B, 60), value(A, -1));
    let sees = |lines: &[&str]| address(&policy, lines);
    assert_eq!(sees(&[&format!("sess={a}; sess={b}")]), Ok(A.into())); // ckparse-053
    assert_eq!(sees(&[&format!("sess=BAD; sess={b}")]), Ok(B.into())); // ckparse-055
    assert_eq!(sees(&[&format!("sess=; sess=\"\"; sess=\"{b}\"")]), Ok(B.into())); // ckparse-059, ckparse-061
    assert_eq!(sees(&[&format!("sess={old}; sess={b}")]), Ok(B.into()));
    assert_eq!(sees(&[&format!("sess={a}"), &format!("sess={b}")]), Ok(A.into())); // ckparse-063
    assert_eq!(sees(&["sess=!!!!", &format!("sess={b}")]), Ok(B.into())); // ckparse-073
    assert_eq!(sees(&["", &format!(" \tsess={b} ")]), Ok(B.into())); // ckparse-071, ckparse-025
}

#[test]
fn the_most_telling_miss_is_reported() {
    let policy = compile(cookie());
    let old = format!("sess={}", value(A, -1));
    let sees = |lines: &[&str]| address(&policy, lines).unwrap_err().as_str();
    assert_eq!(sees(&[]), "absent");
    assert_eq!(sees(&["a=b", "sess=; sess=\"\""]), "absent");
    assert_eq!(sees(&["sess=", "sess=!!!!", "sess="]), "malformed");
    assert_eq!(sees(&[&old, "sess=!!!!"]), "expired");
    assert_eq!(sees(&["sess=!!!!", &old, "sess="]), "expired");
    assert_eq!(sees(&["sess=CgA="]), "malformed"); // pb-005: a message without an address
}

#[test]
fn of_a_header_the_first_line_counts() {
    let policy = compile(header());
    let (a, b) = (in_header(A), in_header(B));
    let sees = |lines: &[&str]| address(&policy, lines);
    assert_eq!(policy.request_field().unwrap().as_str(), "x-sess"); // hdr-071
    assert_eq!(sees(&[&a, &b]), Ok(A.into())); // hdr-025
    assert_eq!(sees(&["!!!!", &a]), Err(Miss::Malformed)); // hdr-027
    assert_eq!(sees(&["", &a]), Err(Miss::Absent)); // hdr-031
    assert_eq!(sees(&[&format!("{a},{b}")]), Err(Miss::Malformed)); // hdr-033
    assert_eq!(sees(&[&value(A, 0)]), Err(Miss::Malformed)); // hdr-009
    assert_eq!(sees(&[]), Err(Miss::Absent));
}

/// The table of conformance §1: what strict forgives and what not.
#[test]
fn strict_refuses_only_a_good_token_without_a_usable_host() {
    let (soft, strict) = (compile(cookie()), strict(cookie()));
    let check = |line: &str, in_soft: &str, in_strict: &str| {
        assert_eq!(verdict(&soft, &[line]), in_soft, "{line}");
        assert_eq!(verdict(&strict, &[line]), in_strict, "{line}");
    };
    check(&format!("sess={}", value(B, 60)), &format!("pin {B}"), &format!("pin {B}"));
    check(&format!("sess={}", value(ELSEWHERE, 60)), "place gone", "refuse gone 404"); // exp-056, exp-058
    check(&format!("sess={}", value(ELSEWHERE, -1)), "place expired", "place expired"); // exp-055, exp-057
    check("sess=OS45LjkuOTox", "place gone", "refuse gone 404"); // pb-205, pb-206: Envoy reads a message, answers 200
    check("sess=aGVsbG8=", "place malformed", "place malformed"); // pb-229, pb-230: Envoy answers 503 in strict
    check("sess=AAAA", "place malformed", "place malformed"); // b64-057, b64-058: the same
    check("sess=!!!!", "place malformed", "place malformed");
    check("a=b", "place absent", "place absent");
}

#[test]
fn a_host_must_be_in_a_state_that_keeps_sessions() {
    let line = format!("sess={}", value(A, 0));
    let (soft, strict) = (compile(cookie()), strict(cookie()));
    let in_state = |policy: &Policy, health, admission| {
        let cluster = cluster(&[A, B]);
        let cell: &HostCell = cluster.host(HostId(0)).unwrap().cell();
        cell.set_health(health);
        cell.set_admission(admission);
        match found_in(&cluster, policy, &[&line]) {
            Verdict::Pin(_) => "pin".to_owned(),
            Verdict::Place(unplaced) => format!("place {}", unplaced.miss().as_str()),
            Verdict::Refuse(refusal) => format!("{} {}", refusal.reason.as_str(), refusal.status.get()),
        }
    };
    for health in [Health::Unknown, Health::Healthy, Health::Degraded] {
        for admission in [Admission::Open, Admission::Draining, Admission::Leaving] {
            assert_eq!(in_state(&strict, health, admission), "pin");
        }
        // A barred host is always 503, whatever the status for one that is gone (health-080 to health-093).
        assert_eq!(in_state(&strict, health, Admission::Barred), "barred 503");
        assert_eq!(in_state(&soft, health, Admission::Barred), "place barred");
    }
    assert_eq!(in_state(&strict, Health::Unhealthy, Admission::Open), "barred 503");
    assert_eq!(in_state(&soft, Health::Timeout, Admission::Open), "place barred");
}

#[test]
fn a_client_is_not_told_anew_of_the_barred_host_that_a_balancer_chose_all_the_same() {
    let policy = compile(cookie());
    let cluster = cluster(&[A, B]);
    cluster.host(HostId(0)).unwrap().cell().set_admission(Admission::Barred);
    for (nth, edit) in [(0, ResponseEdit::Keep), (1, SET_COOKIE)] {
        let Verdict::Place(unplaced) = found_in(&cluster, &policy, &[&format!("sess={}", value(A, 60))])
        else {
            panic!("a barred host keeps no session");
        };
        let chosen = [A, B][nth];
        assert_eq!(response(&unplaced.placed(host(0, nth as u32)), &policy, chosen, &[]).0, edit);
    }
}

#[test]
fn all_clusters_of_a_route_are_searched() {
    let policy = strict(cookie());
    let line = format!("sess={}", value(B, 0));
    let (without, barred, with) = (cluster(&[A]), cluster(&[B]), cluster(&[A, B]));
    barred.host(HostId(0)).unwrap().cell().set_admission(Admission::Barred);
    let find = |clusters: &[&Cluster]| {
        let clusters = (0..).map(ClusterId).zip(clusters.iter().copied());
        found(&policy, &[&line], |found| found.find(&policy, clusters))
    };
    assert!(matches!(find(&[&without, &with]), Verdict::Pin(routed) if routed.host() == host(1, 1)));
    assert!(matches!(find(&[&barred, &without, &with]), Verdict::Pin(routed) if routed.host() == host(2, 1)));
    assert!(
        matches!(find(&[&barred, &without]), Verdict::Refuse(refusal) if refusal.reason == RefusalReason::Barred)
    );
    assert!(matches!(find(&[&without]), Verdict::Refuse(refusal) if refusal.reason == RefusalReason::Gone));
    assert!(matches!(find(&[]), Verdict::Refuse(refusal) if refusal.reason == RefusalReason::Gone));
}

#[test]
fn out_of_scope_nothing_is_read() {
    let mut scoped = cookie_spec();
    scoped.path = "/foo".into();
    let policy = compile(spec(CarrierSpec::Cookie(scoped)));
    let mut room = Scratch::new();
    assert!(policy.lookup(b"/bar", NOW, &mut room).is_none());
    assert!(policy.lookup(b"/foo?x", NOW, &mut room).is_some());
    assert!(compile(header()).lookup(b"/bar", NOW, &mut room).is_some());
}

#[test]
fn a_cookie_is_set_when_the_host_differs_from_the_token() {
    let policy = compile(cookie());
    let fresh = format!("sess=\"{}\"; Max-Age=60; Path=/; HttpOnly", value(B, 60));
    let good = format!("sess={}", value(B, 60));
    assert_eq!(response(&pinned(&policy, &[&good]), &policy, B, &[]), (ResponseEdit::Keep, String::new())); // setc-048
    assert_eq!(response(&placed(&policy, &[]), &policy, B, &[]), (SET_COOKIE, fresh.clone())); // setc-004
    // An expired token is re-issued although its host is chosen again (setc-087).
    let old = format!("sess={}", value(B, -1));
    assert_eq!(response(&placed(&policy, &[&old]), &policy, B, &[]), (SET_COOKIE, fresh.clone()));
    let gone = format!("sess={}", value(ELSEWHERE, 60));
    assert_eq!(response(&placed(&policy, &[&gone]), &policy, B, &[]), (SET_COOKIE, fresh));
    // Legacy tokens and those without expiry are left as they are (setc-088, setc-089).
    for timeless in ["MTI3LjAuMC4xOjIxMTAy".to_owned(), value(B, 0), value(B, 100_000)] {
        let routed = pinned(&policy, &[&format!("sess={timeless}")]);
        assert_eq!(response(&routed, &policy, B, &[]).0, ResponseEdit::Keep);
    }
    let no_cache = compile(PolicySpec { no_cache: true, ..cookie() });
    assert_eq!(
        response(&placed(&no_cache, &[]), &no_cache, B, &[]).0,
        ResponseEdit::SetCookie { no_cache: true }
    );
}

#[test]
fn a_cookie_is_renewed_towards_its_end() {
    let policy = compile(PolicySpec { renew_before: Some(Duration::from_secs(20)), ..cookie() });
    let edit =
        |secs: i64| response(&pinned(&policy, &[&format!("sess={}", value(B, secs))]), &policy, B, &[]).0;
    assert_eq!(edit(60), ResponseEdit::Keep);
    assert_eq!(edit(20), ResponseEdit::Keep);
    assert_eq!(edit(19), SET_COOKIE);
    assert_eq!(edit(0), ResponseEdit::Keep, "a token that never ends is never renewed");
    // It ran out while the upstream was at work.
    let routed = pinned(&policy, &[&format!("sess={}", value(B, 60))]);
    let mut out = Vec::new();
    let later = UnixSecs::new(NOW.get() + 100);
    assert_eq!(routed.response_edit(&policy, B, 0, None, later, &mut out), SET_COOKIE);
}

#[test]
fn a_header_is_replaced_when_the_host_differs() {
    let policy = compile(header());
    let own = pinned(&policy, &[&in_header(B)]);
    assert_eq!(response(&own, &policy, B, &["theirs"]), (ResponseEdit::Keep, String::new())); // hdr-061
    assert_eq!(response(&placed(&policy, &[]), &policy, B, &[]), (REPLACE, in_header(B)));
    assert_eq!(response(&placed(&policy, &[]), &policy, B, &["one", "two"]), (REPLACE, in_header(B))); // hdr-053
    assert_eq!(policy.response_field().map(FieldName::as_str), Some("x-sess"));
    assert_eq!(compile(cookie()).response_field(), None);
}

#[test]
fn an_envelope_is_wrapped_around_a_single_line() {
    let policy = compile(envelope());
    let wrapped = |value: &str| format!("{};UV:{value}", in_header(B));
    let own = pinned(&policy, &[&wrapped("c2lk")]);
    for routed in [&own, &placed(&policy, &[])] {
        let edit = |lines: &[&str]| response(routed, &policy, B, lines);
        assert_eq!(edit(&["origin-1"]), (REPLACE, wrapped("b3JpZ2luLTE="))); // env-001
        assert_eq!(edit(&[]), (ResponseEdit::Keep, String::new())); // env-003
        assert_eq!(edit(&["one", "two"]), (ResponseEdit::Keep, String::new())); // env-005
        assert_eq!(edit(&[""]), (REPLACE, wrapped(""))); // env-007
        let long = "x".repeat(token::ENVELOPE_VALUE_MAX + 1);
        assert_eq!(edit(&[&long]), (ResponseEdit::Keep, String::new()));
        let (edit, written) = edit(&[&long[1..]]);
        assert_eq!(edit, REPLACE);
        assert!(written.len() + "x-env: \r\n".len() <= policy.insert_max());
    }
}

#[test]
fn an_envelope_is_unwrapped_for_the_upstream() {
    let policy = compile(envelope());
    let envelope = format!("{};UV:b25l", in_header(B));
    let edit = |lines: &[&str]| {
        let routed = routed(&policy, lines);
        let mut out = Vec::new();
        let edits = lines.iter().enumerate().map(|(nth, line)| {
            match routed.edit_line(&policy, nth, line.as_bytes(), &mut out) {
                LineEdit::Keep => format!("keep {line}"),
                LineEdit::Drop => "drop".to_owned(),
                LineEdit::Write => String::from_utf8(out.clone()).unwrap(),
            }
        });
        edits.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(edit(&[&envelope]), "one"); // env-029
    assert_eq!(edit(&[&envelope, "raw"]), "one, drop"); // env-089
    assert_eq!(edit(&["raw", &envelope]), format!("keep raw, keep {envelope}")); // env-087
    assert_eq!(edit(&["!!!!;UV:c2lk"]), "sid"); // env-071
    assert_eq!(edit(&["aGVsbG8=;UV:c2lk"]), "sid"); // an address in no grammar
    assert_eq!(edit(&["MTI3;UV:YQpi"]), "keep MTI3;UV:YQpi"); // env-099: Envoy answers 503
    assert_eq!(address(&policy, &["MTI3LjAuMC4xOjIxMTAy;UV:YQpi"]), Err(Miss::Malformed));
    assert_eq!(address(&policy, &["raw", &envelope]), Err(Miss::Malformed));
    assert_eq!(address(&policy, &[";"]), Err(Miss::Absent));
}

#[test]
fn a_cookie_is_hidden_only_when_so_configured() {
    let mut out = Vec::new();
    let (open, hiding) = (compile(cookie()), compile(PolicySpec { hide_from_upstream: true, ..cookie() }));
    let line = b"a=b; sess=T";
    assert_eq!(routed(&open, &[]).edit_line(&open, 0, line, &mut out), LineEdit::Keep);
    assert_eq!(routed(&hiding, &[]).edit_line(&hiding, 0, line, &mut out), LineEdit::Write);
    assert_eq!(out, b"a=b");
    assert_eq!(routed(&hiding, &[]).edit_line(&hiding, 3, b"sess=T", &mut out), LineEdit::Drop);
}

#[test]
fn a_strict_session_is_not_moved_once_a_client_knows_its_host() {
    let (soft, strict) = (compile(cookie()), strict(cookie()));
    let good = format!("sess={}", value(A, 60));
    let refusal = pinned(&strict, &[&good]).moved(&strict, host(0, 1)).unwrap_err();
    assert_eq!((refusal.reason, refusal.status.get()), (RefusalReason::ConnectFailed, 503));
    // No client knows this one yet.
    let moved = placed(&strict, &[]).moved(&strict, host(0, 0)).unwrap();
    assert_eq!(moved.host(), host(0, 0));
    // A soft one moves, and its new host is told to the client.
    let moved = pinned(&soft, &[&good]).moved(&soft, host(0, 1)).unwrap();
    assert_eq!(response(&moved, &soft, B, &[]).0, SET_COOKIE);
    // Back at the host that its token names, it has nothing to be told.
    let back = moved.moved(&soft, host(0, 0)).unwrap();
    assert_eq!(response(&back, &soft, A, &[]).0, ResponseEdit::Keep);
}

#[test]
fn only_the_cookie_of_a_host_that_is_gone_is_cleared() {
    let clearing = compile(PolicySpec { strict: true, clear_dead: true, ..cookie() });
    let refusal = |reason| Refusal { reason, status: Status::UNAVAILABLE };
    let mut out = b"left over".to_vec();
    assert!(!refusal(RefusalReason::Barred).clear_cookie(&clearing, &mut out));
    assert!(!refusal(RefusalReason::ConnectFailed).clear_cookie(&clearing, &mut out));
    assert!(out.is_empty());
    assert!(!refusal(RefusalReason::Gone).clear_cookie(&strict(cookie()), &mut out));
    assert!(refusal(RefusalReason::Gone).clear_cookie(&clearing, &mut out));
    assert_eq!(out, b"sess=\"\"; Max-Age=0; Path=/; HttpOnly");
}

#[test]
fn what_an_edit_writes_fits_the_promise() {
    let mut scoped = cookie_spec();
    scoped.ttl = CookieSpec::TTL_MAX;
    let longest = format!("[{}%4294967295]:65535", "ffff:".repeat(8).trim_end_matches(':'));
    for spec in [spec(CarrierSpec::Cookie(scoped)), header()] {
        let policy = compile(PolicySpec { no_cache: true, ..spec });
        let (_, written) = response(&placed(&policy, &[]), &policy, &longest, &[]);
        assert!((1..=policy.insert_max()).contains(&written.len()));
        assert!(policy.insert_max() <= INSERT_MAX);
        let too_long = "a".repeat(crate::limits::ADDRESS_MAX + 1);
        assert_eq!(
            response(&placed(&policy, &[]), &policy, &too_long, &[]),
            (ResponseEdit::Keep, String::new())
        );
    }
}

#[test]
fn a_session_in_a_url_is_read_from_the_target_and_written_into_the_stream() {
    let policy = compile(PolicySpec { no_cache: true, ..spec(CarrierSpec::Sse { parameter: "s".into() }) });
    assert!(policy.request_field().is_none() && policy.response_field().is_none());
    assert_eq!(policy.sse_parameter(), Some("s"));
    let mut out = b"left over".to_vec();
    let target = format!("/m?a&s=own.{}&b", "MTI3LjAuMC4xOjIxMTAy"); // B
    let (mut room, cluster) = (Scratch::new(), cluster(&[A, B]));
    let lookup = policy.lookup(target.as_bytes(), NOW, &mut room).unwrap();
    assert_eq!(lookup.read().token().unwrap().address.as_bytes(), B.as_bytes());
    let Verdict::Pin(routed) = lookup.read().find(&policy, [(ClusterId(0), &cluster)]) else {
        panic!("the token's host is there");
    };
    let cut = routed.target_cut(&policy, target.as_bytes()).unwrap();
    assert_eq!([&target[..cut.start], &target[cut.end..]].concat(), "/m?a&s=own&b");
    // Whatever the request carried, and never in the head.
    assert_eq!(routed.endpoint_edit(&policy, B, &mut out), EndpointEdit::Append { no_cache: true });
    assert_eq!(out, b".MTI3LjAuMC4xOjIxMTAy");
    assert_eq!(routed.response_edit(&policy, A, 0, None, NOW, &mut out), ResponseEdit::Keep);
    assert_eq!(routed.endpoint_edit(&compile(cookie()), B, &mut out), EndpointEdit::Keep);
    for (target, miss) in [("/m", Miss::Absent), ("/m?s=", Miss::Absent), ("/m?s=own", Miss::Malformed)] {
        let lookup = policy.lookup(target.as_bytes(), NOW, &mut room).unwrap();
        let Verdict::Place(unplaced) = lookup.read().find(&policy, [(ClusterId(0), &cluster)]) else {
            panic!("{target} names no host");
        };
        assert_eq!(unplaced.miss(), miss, "{target}");
        assert_eq!(unplaced.placed(host(0, 1)).target_cut(&policy, target.as_bytes()), None);
    }
}

#[test]
fn a_parameter_is_a_plain_name() {
    for name in ["", "a b", "a=b", "a%20b", "\u{e9}", &"x".repeat(65)] {
        let refused = Policy::compile(spec(CarrierSpec::Sse { parameter: name.into() }));
        assert_eq!(refused.unwrap_err(), PolicyError::Parameter(name.into()));
    }
    let renewed = PolicySpec { hide_from_upstream: true, ..spec(CarrierSpec::Sse { parameter: "s".into() }) };
    assert_eq!(Policy::compile(renewed).unwrap_err(), PolicyError::NeedsCookie("hide_from_upstream"));
}
