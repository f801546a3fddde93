//! What would run, in words: for `homing check` and the start-up line.

use core::fmt::Write as _;

use homing_core::affinity::{CarrierSpec, PolicySpec};
use homing_core::hosts::Cluster;
use homing_core::route::{Action, Forward, PathMatch, PolicyId, Rewrite, Route, Session};
use homing_core::snapshot::Listener;

use crate::config::{BindAddress, Settings, domain_text, duration};

/// The whole configuration, one thing per line.
pub fn describe(settings: &Settings) -> String {
    let mut text = String::new();
    let log = settings
        .access_log
        .as_ref()
        .map_or_else(|| "no access log".into(), |log| format!("access log to {}", log.target));
    let workers = count(settings.workers, "worker");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{workers}, runtime {}, {log}", settings.runtime.as_str());
    for (bind, listener) in settings.listeners.iter().zip(&settings.snapshot.listeners) {
        let gateway =
            bind.gateway.as_ref().map(|gateway| format!(" of gateway {gateway}")).unwrap_or_default();
        let _ = writeln!(text, "listener {}{gateway} on {}", bind.name, bind.address);
        routes(settings, listener, &mut text);
    }
    for cluster in &settings.snapshot.clusters {
        let hosts: Vec<_> = cluster.hosts().iter().map(homing_core::hosts::Host::address).collect();
        let _ = writeln!(
            text,
            "cluster {} ({}): {}",
            cluster.name(),
            count(hosts.len(), "host"),
            shorten(&hosts)
        );
    }
    text
}

/// `web on 127.0.0.1:8080, api on unix:/run/api.sock`.
pub fn listeners(names: &[Box<str>], addresses: &[BindAddress]) -> String {
    let each = names.iter().zip(addresses).map(|(name, address)| format!("{name} on {address}"));
    each.collect::<Vec<_>>().join(", ")
}

/// `shop (2 hosts), api (1 host)`.
pub fn clusters(settings: &Settings) -> String {
    let each = |cluster: &Cluster| format!("{} ({})", cluster.name(), count(cluster.hosts().len(), "host"));
    settings.snapshot.clusters.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn routes(settings: &Settings, listener: &Listener, text: &mut String) {
    for virtual_host in &listener.routes.virtual_hosts {
        let domains: Vec<_> = virtual_host.domains.iter().map(domain_text).collect();
        for route in &virtual_host.routes {
            let _ = writeln!(text, "  {} {}: {}", domains.join(" "), path(route), action(settings, route));
        }
    }
}

fn path(route: &Route) -> String {
    match &route.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => format!("{path}*"),
    }
}

fn action(settings: &Settings, route: &Route) -> String {
    match &route.action {
        Action::Forward(forward) => forwarding(settings, forward),
        Action::Respond { status, body } => format!("answer {} with {} bytes", status.get(), body.len()),
        Action::Redirect(redirect) => {
            let mut target = String::new();
            if let Some(scheme) = &redirect.scheme {
                let _ = write!(target, "{scheme}://");
            }
            target.push_str(redirect.host.as_deref().unwrap_or("(same host)"));
            if let Some(port) = redirect.port {
                let _ = write!(target, ":{port}");
            }
            match &redirect.path {
                Some(Rewrite::Prefix(to) | Rewrite::Path(to)) => target.push_str(to),
                None => target.push_str("(same path)"),
            }
            format!("redirect {} to {target}", redirect.status.get())
        }
    }
}

fn forwarding(settings: &Settings, forward: &Forward) -> String {
    let single = forward.clusters.len() == 1;
    let entries = forward.clusters.iter().map(|entry| {
        let name = settings.snapshot.cluster(entry.cluster).map_or("?", Cluster::name);
        let own = entry.session.map(|own| format!(" with {}", session(settings, own))).unwrap_or_default();
        if single { format!("{name}{own}") } else { format!("{name} (weight {}){own}", entry.weight) }
    });
    let entries = entries.collect::<Vec<_>>().join(", ");
    format!("to {entries}; {}", session(settings, forward.session))
}

fn session(settings: &Settings, session: Session) -> String {
    match session {
        Session::None => "no session".into(),
        Session::Disabled => "session disabled".into(),
        Session::Policy(PolicyId(id)) => {
            settings.policies.get(id as usize).map_or_else(|| "?".into(), policy)
        }
    }
}

fn policy(spec: &PolicySpec) -> String {
    let carrier = match &spec.carrier {
        CarrierSpec::Header { name } => format!("session in header {}", name.as_str()),
        CarrierSpec::Envelope { name } => format!("session in envelope {}", name.as_str()),
        CarrierSpec::Sse { parameter } => format!("session in parameter {parameter} of event streams"),
        CarrierSpec::Cookie(cookie) => {
            let life = match cookie.ttl.as_secs() {
                0 => "until the browser closes".into(),
                secs => format!("for {}", duration::show(core::time::Duration::from_secs(secs))),
            };
            format!("session in cookie {} {life}", cookie.name)
        }
    };
    if spec.strict { format!("{carrier}, strict ({} when gone)", spec.gone_status.get()) } else { carrier }
}

/// So many things, in words: `1 host`, `2 hosts`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The first few of many.
fn shorten(hosts: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = hosts.iter().take(SHOWN).copied().collect();
    let more = hosts.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
