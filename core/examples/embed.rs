//! The affinity core in somebody else's proxy: one request's way from its cookie to a host, and back to a cookie.

use core::error::Error;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use homing_core::affinity::{CarrierSpec, CookieSpec, Policy, PolicySpec, ResponseEdit, Verdict};
use homing_core::balance::Balance;
use homing_core::clock::UnixSecs;
use homing_core::field::Status;
use homing_core::hosts::{Cluster, ClusterId, ClusterSpec, Endpoint, HealthSet, HostId, HostRef, HostSpec};
use homing_core::token::Scratch;

fn main() -> Result<(), Box<dyn Error>> {
    let (policy, cluster) = (policy()?, cluster(["10.0.0.1:80", "10.0.0.2:80"])?);
    let now = UnixSecs::new(1_800_000_000);
    // Nothing is put on the heap per request: room and buffer are the caller's.
    let (mut room, mut value) = (Scratch::new(), Vec::with_capacity(256));

    let first = request(&policy, &cluster, None, now, &mut room, &mut value).ok_or("no host")?;
    assert_eq!(first, "placed: absent");
    let cookie = String::from_utf8(value.clone())?;
    println!("set-cookie: {cookie}");

    let cookie = Some(cookie.as_bytes());
    let again = request(&policy, &cluster, cookie, now, &mut room, &mut value).ok_or("no host")?;
    assert_eq!(again, "pinned");
    assert!(value.is_empty(), "the client has its cookie");
    Ok(())
}

/// One request with this `cookie` line, and one host that answers it. Leaves in `value` the `set-cookie` to write.
fn request(
    policy: &Policy,
    cluster: &Cluster,
    cookie: Option<&[u8]>,
    now: UnixSecs,
    room: &mut Scratch,
    value: &mut Vec<u8>,
) -> Option<String> {
    const ONLY: ClusterId = ClusterId(0);
    // Out of the cookie's path, there is nothing to read and nothing to write.
    let mut lookup = policy.lookup(b"/cart?item=7", now, room)?;
    if let Some(line) = cookie {
        lookup.offer(line);
    }
    let (routed, reason) = match lookup.read().find(policy, [(ONLY, cluster)]) {
        Verdict::Pin(routed) => (routed, "pinned".to_owned()),
        Verdict::Place(unplaced) => {
            // Your balancer's choice.
            let host = HostRef { cluster: ONLY, host: HostId(0) };
            let reason = format!("placed: {}", unplaced.miss().as_str());
            (unplaced.placed(host), reason)
        }
        Verdict::Refuse(refusal) => return Some(format!("refused with {}", refusal.status.get())),
    };
    // Send the request to this host. Once it has answered, and not before:
    let host = cluster.host(routed.host().host)?;
    match routed.response_edit(policy, host.address(), 0, None, now, value) {
        ResponseEdit::SetCookie { .. } => {} // write `set-cookie` with what is in `value`
        ResponseEdit::Replace { .. } | ResponseEdit::Keep => {}
    }
    Some(reason)
}

fn policy() -> Result<Policy, Box<dyn Error>> {
    let cookie = CookieSpec {
        name: "sid".into(),
        path: "/".into(),
        ttl: Duration::from_secs(3600),
        attributes: vec![("Secure".into(), "".into())],
    };
    let spec = PolicySpec {
        carrier: CarrierSpec::Cookie(cookie),
        strict: false,
        gone_status: Status::new(503)?,
        clear_dead: false,
        hide_from_upstream: false,
        no_cache: false,
        renew_before: None,
    };
    Ok(Policy::compile(spec)?)
}

fn cluster(addresses: [&str; 2]) -> Result<Cluster, Box<dyn Error>> {
    let mut hosts = Vec::new();
    for address in addresses {
        let endpoint = Endpoint::Tcp(address.parse::<SocketAddr>()?);
        hosts.push(HostSpec { endpoint, weight: 1, priority: 0, cell: Arc::default() });
    }
    Ok(Cluster::compile(ClusterSpec {
        name: "app".into(),
        hosts,
        balance: Balance::RoundRobin,
        override_status: HealthSet::USABLE,
        panic_percent: 0,
    })?)
}
