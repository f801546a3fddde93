//! Envoy's static bootstrap, taken as it is: listeners with one chain and one HTTP connection manager, inline routes,
//! static clusters, and the stateful session filter with its overrides.
//!
//! ```text
//! bootstrap ─ static_resources ─┬─ listeners ─ filter_chains[0] ─ HCM ─┬─ route_config ─ virtual hosts ─ routes
//!                               │                                      └─ http_filters: stateful_session, router
//!                               └─ clusters ─ load_assignment ─ hosts
//! ```
//!
//! Each field falls into one of four classes; docs/configuration.md has the table.
//! - *Honoured*: Homing does what it says.
//! - *Fixed*: taken with the values that say what Homing does anyway ([`Message::fixed`], short lists of choices).
//! - *Set aside*: names of counters and the like ([`Message::set_aside`]); where somebody could miss the effect,
//!   with a note.
//! - Every other field is an error that names its path: silence would be worse.
//!
//! Where Envoy has a setting in many places and Homing has it once, all places must agree ([`Once`]).

mod absent;
mod clusters;
mod manager;
mod message;
mod routes;
mod session;

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use homing_core::limits::Limits;

use self::clusters::Address;
use self::manager::{MANAGER, Shared};
use self::message::{Message, items};
use super::BindAddress;
use super::error::{At, Placed, Problems};
use super::homing::{Listener, Lookup, Model};
use super::reader::{boolean, placed, text};
use super::tree::Node;

/// Reads a bootstrap.
pub(super) fn read(document: &Node, problems: &mut Problems) -> Option<Model> {
    let mut message = Message::open(document, "the bootstrap", problems)?;
    if let Some(admin) = message.take("admin") {
        problems.note(&admin.at, "this has no effect: Homing has no admin page");
    }
    // Who this Envoy is, for a control plane.
    message.set_aside(&["node"]);
    let mut shared = Shared::default();
    let example = "static_resources: { listeners: […], clusters: […] }";
    let resources = message.required("static_resources", example, problems, |node, problems| {
        resources(node, &mut shared, problems)
    });
    message.finish(problems);
    let Resources { listeners, clusters, connect_timeout } = resources?;
    let (listeners, all_listeners) = listeners?;
    let (clusters, all_clusters) = clusters.unwrap_or((Vec::new(), true));
    let limits = Limits { response_timeout: routes::ROUTE_TIMEOUT, ..Limits::default() };
    let mut limits = shared.limits(limits);
    limits.connect_timeout = connect_timeout.unwrap_or(limits.connect_timeout);
    Some(Model {
        listeners,
        all_listeners,
        routes: None,
        clusters,
        all_clusters,
        limits,
        workers: None,
        runtime: None,
        access_log: shared.access_log(),
        watch: None,
    })
}

struct Resources {
    listeners: Option<(Vec<Listener>, bool)>,
    clusters: Option<(Vec<super::homing::ClusterModel>, bool)>,
    connect_timeout: Option<Duration>,
}

fn resources(node: &Node, shared: &mut Shared, problems: &mut Problems) -> Option<Resources> {
    let mut message = Message::open(node, "`static_resources`", problems)?;
    let mut number = 0;
    let listeners = message.required(
        "listeners",
        "listeners: [{ address: …, filter_chains: […] }]",
        problems,
        items(|node, problems: &mut Problems| {
            number += 1;
            listener(node, number, shared, problems)
        }),
    );
    let mut connect = Once::default();
    let clusters = message.optional(
        "clusters",
        problems,
        items(|node, problems: &mut Problems| clusters::cluster(node, &mut connect, problems)),
    );
    message.finish(problems);
    if matches!(&listeners, Some((found, true)) if found.is_empty()) {
        problems.add(&node.at, "there are no listeners, so that nothing would be served", "add one");
    }
    Some(Resources { listeners, clusters, connect_timeout: connect.value() })
}

/// Reads the listener of this number, counted from 1.
fn listener(node: &Node, number: usize, shared: &mut Shared, problems: &mut Problems) -> Option<Listener> {
    let mut message = Message::open(node, "a listener", problems)?;
    let name = message.optional("name", problems, placed(text));
    let address = message.required(
        "address",
        "address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }",
        problems,
        bind_address,
    );
    let manager = message.required(
        "filter_chains",
        "filter_chains: [{ filters: […] }]",
        problems,
        |node, problems| {
            let (mut chains, complete) =
                items(|node, problems: &mut Problems| chain(node, shared, problems))(node, problems)?;
            if complete && chains.len() != 1 {
                let what =
                    format!("Homing has no choice among filter chains, and there are {} here", chains.len());
                problems.add(&node.at, what, "write one chain without a match");
            }
            chains.pop()
        },
    );
    message.fixed("bind_to_port", true, problems);
    message.optional("enable_reuse_port", problems, boolean);
    // The names of counters, and a remark for people.
    message.set_aside(&["stat_prefix", "traffic_direction", "metadata"]);
    message.finish(problems);
    let manager = manager?;
    let name = name.unwrap_or_else(|| Placed { value: format!("listener-{number}"), at: node.at.clone() });
    Some(Listener {
        at: node.at.clone(),
        name,
        gateway: None,
        address: address?,
        session: manager.session,
        marks: manager.marks,
        connections: 0,
        routes: manager.routes,
        lookup: Lookup::Domain,
        paths: manager.paths,
    })
}

fn bind_address(node: &Node, problems: &mut Problems) -> Option<Placed<BindAddress>> {
    let value = match clusters::address(node, problems)? {
        Address::Pipe(path) => BindAddress::Unix(path?),
        Address::Socket(address) => {
            let address = address?;
            let Ok(ip) = address.host.value.parse::<IpAddr>() else {
                let what = format!("{:?} is not an IP address to listen on", address.host.value);
                problems.add(&address.host.at, what, "write an address such as 127.0.0.1, 0.0.0.0 or \"::\"");
                return None;
            };
            BindAddress::Tcp(SocketAddr::new(ip, address.port))
        }
    };
    Some(Placed { value, at: node.at.clone() })
}

/// Reads a filter chain, whose one filter is the connection manager.
fn chain(node: &Node, shared: &mut Shared, problems: &mut Problems) -> Option<manager::Manager> {
    let mut message = Message::open(node, "a filter chain", problems)?;
    message.optional("filter_chain_match", problems, |node, problems| {
        Message::open(node, "`filter_chain_match`", problems)?.finish(problems);
        Some(())
    });
    let found =
        message.required("filters", "filters: [{ typed_config: { … } }]", problems, |node, problems| {
            let (mut found, complete) = items(|node, problems: &mut Problems| {
                let mut message = Message::open(node, "a filter", problems)?;
                let manager =
                    message.required("typed_config", "typed_config: { … }", problems, |node, problems| {
                        let message = Message::of_type(node, "the filter of a listener", MANAGER, problems)?;
                        manager::read(message, shared, problems)
                    });
                message.set_aside(&["name"]);
                message.finish(problems);
                manager
            })(node, problems)?;
            if complete && found.len() != 1 {
                let what = format!(
                    "a listener has one filter, the connection manager, and there are {}",
                    found.len()
                );
                problems.add(&node.at, what, "keep that filter alone");
            }
            found.pop()
        });
    message.set_aside(&["name", "metadata"]);
    message.finish(problems);
    found
}

/// A setting that Envoy has in many places and Homing has once.
#[derive(Debug)]
pub(super) struct Once<T>(Option<(T, At)>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy + PartialEq> Once<T> {
    /// The setting as one place has it, written or by Envoy's default.
    fn add(&mut self, value: T, at: &At, what: &str, problems: &mut Problems) {
        match &self.0 {
            None => self.0 = Some((value, at.clone())),
            Some((first, _)) if *first == value => {}
            Some((_, first)) => {
                let what =
                    format!("Homing has {what} once, and it has another value at {}", first.line_text());
                problems.add(at, what, "write the same value, or leave it out, in all places");
            }
        }
    }

    fn value(self) -> Option<T> {
        self.0.map(|(value, _)| value)
    }
}
