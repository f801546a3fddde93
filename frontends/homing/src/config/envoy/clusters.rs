//! Envoy's clusters, with their hosts.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use homing_core::balance::Balance;
use homing_core::hosts::{Admission, Health, HealthSet};

use super::super::error::{Placed, Problems};
use super::super::homing::{
    ClusterModel, Family, HostModel, PRIORITY_MAX, Upstream, parse_upstream, socket_path,
};
use super::super::reader::{placed, text};
use super::super::tree::{Kind, Node};
use super::Once;
use super::message::{Message, choice, items, number, time};

/// Envoy's default for the share of usable hosts below which health is ignored.
const PANIC_PERCENT: u8 = 50;
/// Envoy's default for making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

const BALANCES: [(&str, u8, Balance); 3] = [
    ("ROUND_ROBIN", 0, Balance::RoundRobin),
    ("LEAST_REQUEST", 1, Balance::LeastRequest),
    ("RANDOM", 3, Balance::Random),
];

const FAMILIES: [(&str, u8, Family); 5] = [
    ("AUTO", 0, Family::V6First),
    ("V4_ONLY", 1, Family::V4),
    ("V6_ONLY", 2, Family::V6),
    ("V4_PREFERRED", 3, Family::V4First),
    ("ALL", 4, Family::Any),
];

/// How hosts are found.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Discovery {
    Static,
    StrictDns,
}

/// Reads a cluster. `connect` is the time-out of all.
pub(super) fn cluster(
    node: &Node,
    connect: &mut Once<Duration>,
    problems: &mut Problems,
) -> Option<ClusterModel> {
    let mut message = Message::open(node, "a cluster", problems)?;
    let name = message.required("name", "name: app", problems, placed(text));
    let kinds = [("STATIC", 0, Discovery::Static), ("STRICT_DNS", 1, Discovery::StrictDns)];
    let kind = match message.take("type") {
        None => Discovery::Static,
        // A kind that is not known may well take names.
        Some(node) => choice(&kinds)(node, problems).unwrap_or(Discovery::StrictDns),
    };
    let balance = message.optional("lb_policy", problems, choice(&BALANCES)).unwrap_or_default();
    message.optional("least_request_lb_config", problems, two_choices);
    let place = message.take("connect_timeout");
    let timeout = place.map_or(Some(CONNECT_TIMEOUT), |node| time(node, problems));
    if let Some(timeout) = timeout {
        let at = &place.unwrap_or(node).at;
        connect.add(timeout, at, "the time-out for connections", problems);
    }
    let (panic_percent, override_status) =
        message.optional("common_lb_config", problems, common).unwrap_or_default().resolve();
    let family =
        message.optional("dns_lookup_family", problems, choice(&FAMILIES)).unwrap_or(Family::V6First);
    message.optional("typed_extension_protocol_options", problems, protocol_options);
    let example = "load_assignment: { cluster_name: app, endpoints: [{ lb_endpoints: […] }] }";
    let hosts = message
        .required("load_assignment", example, problems, |node, problems| assignment(node, kind, problems));
    // The names of counters.
    message.set_aside(&["alt_stat_name"]);
    message.finish(problems);
    Some(ClusterModel {
        at: node.at.clone(),
        name: name?,
        balance,
        panic_percent,
        override_status,
        family,
        hosts: hosts.unwrap_or_default(),
    })
}

/// Homing draws two, as Envoy does by default.
fn two_choices(node: &Node, problems: &mut Problems) -> Option<()> {
    let mut message = Message::open(node, "`least_request_lb_config`", problems)?;
    message.optional("choice_count", problems, number(2..=2));
    message.finish(problems);
    Some(())
}

#[derive(Default)]
struct Common {
    panic_percent: Option<u8>,
    override_status: Option<HealthSet>,
}

impl Common {
    fn resolve(self) -> (u8, HealthSet) {
        (self.panic_percent.unwrap_or(PANIC_PERCENT), self.override_status.unwrap_or(HealthSet::USABLE))
    }
}

fn common(node: &Node, problems: &mut Problems) -> Option<Common> {
    let mut message = Message::open(node, "`common_lb_config`", problems)?;
    let panic_percent = message.optional("healthy_panic_threshold", problems, |node, problems| {
        let mut message = Message::open(node, "a percentage", problems)?;
        let value = message.optional("value", problems, percent);
        message.finish(problems);
        Some(value.unwrap_or_default())
    });
    let override_status = message.optional("override_host_status", problems, |node, problems| {
        let mut message = Message::open(node, "`override_host_status`", problems)?;
        let statuses = message.optional("statuses", problems, items(health));
        message.finish(problems);
        // Set, but empty, is never (health-007 to health-012).
        Some(statuses.unwrap_or_default().0.into_iter().fold(HealthSet::EMPTY, HealthSet::with))
    });
    message.finish(problems);
    Some(Common { panic_percent, override_status })
}

/// A share of the hosts, which Homing counts in whole percents.
fn percent(node: &Node, problems: &mut Problems) -> Option<u8> {
    match node.kind {
        Kind::Real(value) if (0.0..=100.0).contains(&value) && value.fract() == 0.0 => {
            (0..=100_u8).find(|percent| f64::from(*percent) >= value)
        }
        _ => number(0..=100)(node, problems).and_then(|value| u8::try_from(value).ok()),
    }
}

fn health(node: &Node, problems: &mut Problems) -> Option<Health> {
    let known = [
        ("UNKNOWN", 0, Health::Unknown),
        ("HEALTHY", 1, Health::Healthy),
        ("UNHEALTHY", 2, Health::Unhealthy),
        ("DRAINING", 3, Health::Draining),
        ("TIMEOUT", 4, Health::Timeout),
        ("DEGRADED", 5, Health::Degraded),
    ];
    choice(&known)(node, problems)
}

/// Explicit HTTP/1.1 towards the hosts is what Homing speaks.
fn protocol_options(node: &Node, problems: &mut Problems) -> Option<()> {
    let Kind::Map(entries) = &node.kind else {
        problems.add(&node.at, "expected a mapping by the names of extensions", "write `name: { … }`");
        return None;
    };
    for (key, value) in entries {
        if key.text.as_deref() != Some(HTTP_OPTIONS) {
            let remedy = "remove this entry, or leave its job to Envoy";
            problems.add(&key.at, "Homing does not honour this extension", remedy);
            continue;
        }
        let mut message = Message::of_type(value, "this entry", HTTP_OPTIONS, problems)?;
        message.optional("explicit_http_config", problems, |node, problems| {
            let mut message = Message::open(node, "`explicit_http_config`", problems)?;
            message.optional("http_protocol_options", problems, |node, problems| {
                Message::open(node, "`http_protocol_options`", problems)?.finish(problems);
                Some(())
            });
            message.finish(problems);
            Some(())
        });
        message.finish(problems);
    }
    Some(())
}

fn assignment(node: &Node, kind: Discovery, problems: &mut Problems) -> Option<Vec<HostModel>> {
    let mut message = Message::open(node, "`load_assignment`", problems)?;
    let localities = message.optional(
        "endpoints",
        problems,
        items(|node, problems: &mut Problems| locality(node, kind, problems)),
    );
    // For counters, and for discovery by another name.
    message.set_aside(&["cluster_name"]);
    message.finish(problems);
    Some(localities.unwrap_or_default().0.into_iter().flatten().collect())
}

fn locality(node: &Node, kind: Discovery, problems: &mut Problems) -> Option<Vec<HostModel>> {
    let mut message = Message::open(node, "a locality", problems)?;
    let priority = message.optional("priority", problems, number(0..=PRIORITY_MAX.into()));
    let priority = priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or_default();
    let hosts = message.optional(
        "lb_endpoints",
        problems,
        items(|node, problems: &mut Problems| endpoint(node, kind, problems)),
    );
    // Where the hosts are, which steers nothing without zones.
    message.set_aside(&["locality", "metadata"]);
    message.finish(problems);
    let hosts = hosts.unwrap_or_default().0.into_iter();
    Some(hosts.map(|host| HostModel { priority, ..host }).collect())
}

fn endpoint(node: &Node, kind: Discovery, problems: &mut Problems) -> Option<HostModel> {
    let mut message = Message::open(node, "a host", problems)?;
    let example = "endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } }";
    let address = message.required("endpoint", example, problems, |node, problems| {
        let mut message = Message::open(node, "`endpoint`", problems)?;
        let example = "address: { socket_address: { address: 10.0.0.1, port_value: 80 } }";
        let address =
            message.required("address", example, problems, |node, problems| upstream(node, kind, problems));
        // A name for health checks and logs; no token has it (addr-086 to addr-091).
        message.set_aside(&["hostname"]);
        message.finish(problems);
        address
    });
    let weight = message.optional("load_balancing_weight", problems, number(1..=u16::MAX.into()));
    let health = message.optional("health_status", problems, health).unwrap_or_default();
    // For subsets, which are refused.
    message.set_aside(&["metadata"]);
    message.finish(problems);
    let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    Some(HostModel { address: address?, weight, priority: 0, health, admission: Admission::Open })
}

fn upstream(node: &Node, kind: Discovery, problems: &mut Problems) -> Option<Placed<Upstream>> {
    let address = match address(node, problems)? {
        Address::Pipe(path) => {
            return path.map(|path| Placed { value: Upstream::Unix(path), at: node.at.clone() });
        }
        Address::Socket(address) => address?,
    };
    let wrong = |problems: &mut Problems, what: String, remedy: &str| {
        problems.add(&address.host.at, what, remedy);
    };
    if address.port == 0 {
        wrong(problems, "a host has a port from 1 to 65535".into(), "write its `port_value`");
        return None;
    }
    let upstream = match address.host.value.parse::<IpAddr>() {
        Ok(ip) => Upstream::Tcp(SocketAddr::new(ip, address.port)),
        Err(_) if kind == Discovery::Static => {
            let what = format!("{:?} is not an IP address", address.host.value);
            wrong(problems, what, "write an IP address, or `type: STRICT_DNS` at the cluster");
            return None;
        }
        Err(_) => {
            let upstream = parse_upstream(&format!("{}:{}", address.host.value, address.port));
            let upstream = upstream
                .inspect_err(|(what, _)| wrong(problems, what.clone(), "write the name of a host"))
                .ok()?;
            problems.note(&address.host.at, "this name is resolved once, at start; Envoy goes on asking");
            upstream
        }
    };
    Some(Placed { value: upstream, at: address.host.at })
}

/// An address, as far as it could be read.
pub(super) enum Address {
    Socket(Option<SocketText>),
    Pipe(Option<std::path::PathBuf>),
}

/// A `socket_address`.
pub(super) struct SocketText {
    pub(super) host: Placed<String>,
    pub(super) port: u16,
}

/// Reads an `Address`.
pub(super) fn address(node: &Node, problems: &mut Problems) -> Option<Address> {
    let mut message = Message::open(node, "an address", problems)?;
    let (socket, pipe) = (message.take("socket_address"), message.take("pipe"));
    message.finish(problems);
    match (socket, pipe) {
        (Some(node), None) => Some(Address::Socket(socket_address(node, problems))),
        (None, Some(node)) => Some(Address::Pipe(pipe_path(node, problems))),
        _ => {
            let remedy =
                "write `socket_address: { address: 10.0.0.1, port_value: 80 }` or `pipe: { path: /… }`";
            problems.add(&node.at, "an address is either a socket's or a pipe's", remedy);
            None
        }
    }
}

fn socket_address(node: &Node, problems: &mut Problems) -> Option<SocketText> {
    let mut message = Message::open(node, "`socket_address`", problems)?;
    let host = message.required("address", "address: 10.0.0.1", problems, placed(text));
    let port = message.required("port_value", "port_value: 80", problems, number(0..=u16::MAX.into()));
    message.optional("protocol", problems, choice(&[("TCP", 0, ())]));
    message.fixed("ipv4_compat", false, problems);
    message.finish(problems);
    Some(SocketText { host: host?, port: u16::try_from(port?).ok()? })
}

fn pipe_path(node: &Node, problems: &mut Problems) -> Option<std::path::PathBuf> {
    let mut message = Message::open(node, "`pipe`", problems)?;
    let path = message.required("path", "path: /run/app.sock", problems, |node, problems| {
        let path = text(node, problems)?;
        socket_path(&path).inspect_err(|(what, remedy)| problems.add(&node.at, what, remedy)).ok()
    });
    message.finish(problems);
    path
}
