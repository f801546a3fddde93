//! The recorder's own configurations, read by Homing as Envoy reads them: `vectors/bootstraps.jsonl`, which
//! `record.py --bootstraps` writes, one listener with its clusters a line. What becomes of each is in
//! `vectors/bootstraps.txt`: it loads, or these fields are refused.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use homing::config::{ConfigError, Settings, compile_bootstrap};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::Config;

/// The configurations as text, one JSON object a line.
pub const TEXT: &str = include_str!("../../vectors/bootstraps.jsonl");
/// What becomes of them: name, `loads`; or name, `refused`, the field's path, what is wrong with it.
pub const LIST: &str = include_str!("../../vectors/bootstraps.txt");
/// The configuration that `config` vectors are put into.
const TEMPLATE: &str = "cfg";
const FILTER: &str = "envoy.filters.http.stateful_session";

/// One configuration of the recorder's.
#[derive(Debug, Deserialize)]
pub struct Bootstrap {
    /// The listener's name.
    pub name: String,
    /// The bootstrap.
    pub bootstrap: Value,
}

/// Parses all, in the order of the file.
///
/// # Errors
/// Names the line that cannot be read, and why.
pub fn all() -> Result<Vec<Bootstrap>, String> {
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("bootstraps.jsonl line {}: {error}", at + 1))
    };
    TEXT.lines().enumerate().map(parse).collect()
}

/// What Homing makes of a bootstrap.
///
/// # Errors
/// Why it takes none such.
pub fn load(bootstrap: &Value) -> Result<Settings, ConfigError> {
    compile_bootstrap("bootstrap", &bootstrap.to_string(), &resolve)
}

/// What the resolver said when the vectors were recorded.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "localhost" => Ok(vec![([127, 0, 0, 1], port).into()]),
        _ => Err(io::Error::other("no such name")),
    }
}

/// The list as it should be.
///
/// # Errors
/// As [`all`].
pub fn list() -> Result<String, String> {
    let mut list = String::new();
    for Bootstrap { name, bootstrap } in all()? {
        let Err(error) = load(&bootstrap) else {
            list.extend([&name, "\tloads\n"]);
            continue;
        };
        for problem in error.problems() {
            let written = writeln!(list, "{name}\trefused\t{}\t{}", problem.at.path, problem.what);
            debug_assert!(written.is_ok(), "writing to a string does not fail");
        }
    }
    Ok(list)
}

/// The bootstrap of a `config` vector, as `cases_config` in the recorder makes it.
///
/// # Errors
/// When the template is not what it was.
pub(super) fn of_case(config: &Config) -> Result<Value, String> {
    let template = all()?.into_iter().find(|each| each.name == TEMPLATE);
    let mut bootstrap = template.ok_or("bootstraps.jsonl has no template")?.bootstrap;
    let lost = |what: &str| format!("the template has no {what}");
    let resources = bootstrap.get_mut("static_resources").ok_or_else(|| lost("static_resources"))?;
    if let Some(more) = &config.cluster {
        let cluster = resources.pointer_mut("/clusters/0").and_then(Value::as_object_mut);
        cluster.ok_or_else(|| lost("cluster"))?.extend(object(more));
    }
    let manager = "/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = resources.pointer_mut(manager).ok_or_else(|| lost("manager"))?;
    if let Some(filter) = &config.filter {
        let filters = manager.get_mut("http_filters").and_then(Value::as_array_mut);
        let named = json!({ "name": FILTER, "typed_config": expand(filter) });
        filters.ok_or_else(|| lost("filters"))?.insert(0, named);
    }
    let host = manager.pointer_mut("/route_config/virtual_hosts/0").and_then(Value::as_object_mut);
    let host = host.ok_or_else(|| lost("virtual host"))?;
    if let Some(routes) = &config.routes {
        host.insert("routes".into(), expand(routes));
    }
    if let Some(overrides) = &config.typed_per_filter_config {
        host.insert("typed_per_filter_config".into(), expand(overrides));
    }
    Ok(bootstrap)
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Long strings, which the vectors write as runs, at their length.
fn expand(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(expand).collect(),
        Value::Object(fields) => match fields.get("runs").and_then(Value::as_array) {
            Some(runs) => runs.iter().filter_map(run).collect::<String>().into(),
            None => fields.iter().map(|(name, value)| (name.clone(), expand(value))).collect(),
        },
        other => other.clone(),
    }
}

fn run(run: &Value) -> Option<String> {
    let times = usize::try_from(run.get(1)?.as_u64()?).ok()?;
    Some(run.get(0)?.as_str()?.repeat(times))
}
