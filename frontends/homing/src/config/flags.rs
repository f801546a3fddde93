//! A whole configuration from options on the command line, through the same model as a file.

use homing_core::balance::Balance;
use homing_core::hosts::{Admission, Health, HealthSet};
use homing_core::limits::Limits;
use homing_core::route::{Domain, FieldRules, PathMatch, Retry};
use homing_core::snapshot::Marks;

use super::compile::compile;
use super::error::{At, ConfigError, Placed, Problems};
use super::homing::{ActionModel, ClusterModel, Entry, ForwardModel, HostModel, Listener, Model, Route};
use super::homing::{parse_bind, parse_upstream};
use super::session::{Dialect, SessionModel, session};
use super::tree::{Key, Kind, Node};
use super::{Settings, system_resolve};

/// What `homing run` was given instead of files.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`, each an address.
    pub listen: Vec<String>,
    /// `--upstream`, each a host's address.
    pub upstream: Vec<String>,
    /// How the session travels.
    pub session: Option<FlagSession>,
    /// `--strict`.
    pub strict: bool,
}

/// How the session travels, by options.
#[derive(Clone, Debug)]
pub enum FlagSession {
    /// `--cookie NAME [--ttl T]`; its path is `/`.
    Cookie {
        /// The cookie's name.
        name: String,
        /// The cookie's life; `None`: until the browser closes.
        ttl: Option<String>,
    },
    /// `--header NAME`.
    Header {
        /// The header's name.
        name: String,
    },
}

/// The cluster that `--upstream` makes.
const CLUSTER: &str = "upstream";

impl Flags {
    /// Compiles the options.
    ///
    /// # Errors
    /// Every mistake, at the option that has it.
    pub fn compile(&self) -> Result<Settings, ConfigError> {
        let mut problems = Problems::default();
        let model = self.model(&mut problems);
        let settings = compile(model, &[], &system_resolve, &mut problems);
        problems.check(settings)
    }

    fn model(&self, problems: &mut Problems) -> Model {
        let session = self.session(problems);
        let listeners = (1..).zip(&self.listen).filter_map(|(nth, text)| {
            let at = At::option("--listen");
            let address =
                parse_bind(text).inspect_err(|(what, remedy)| problems.add(&at, what, remedy)).ok()?;
            Some(Listener {
                at: at.clone(),
                name: Placed { value: format!("listener-{nth}"), at: at.clone() },
                gateway: None,
                address: Placed { value: address, at },
                session: session.clone(),
                marks: Marks::default(),
                connections: 0,
                routes: None,
            })
        });
        let listeners: Vec<_> = listeners.collect();
        let hosts = self.upstream.iter().filter_map(|text| {
            let at = At::option("--upstream");
            let value =
                parse_upstream(text).inspect_err(|(what, remedy)| problems.add(&at, what, remedy)).ok()?;
            let (health, admission) = (Health::default(), Admission::default());
            Some(HostModel { address: Placed { value, at }, weight: 1, priority: 0, health, admission })
        });
        let hosts = hosts.collect();
        let at = At::option("--upstream");
        Model {
            all_listeners: listeners.len() == self.listen.len(),
            listeners,
            routes: Some(Placed { value: vec![everything(&at)], at: at.clone() }),
            clusters: vec![ClusterModel {
                name: Placed { value: CLUSTER.into(), at: at.clone() },
                at,
                balance: Balance::default(),
                panic_percent: 0,
                override_status: HealthSet::USABLE,
                hosts,
            }],
            all_clusters: true,
            limits: Limits::default(),
            workers: None,
            runtime: None,
            access_log: None,
            watch: None,
        }
    }

    /// The session block that the options stand for, read as if it had been written in a file.
    fn session(&self, problems: &mut Problems) -> Option<Placed<SessionModel>> {
        let text = |option: &str, text: &str| Node { at: At::option(option), kind: Kind::Text(text.into()) };
        let (option, key, carrier) = match self.session.as_ref()? {
            FlagSession::Cookie { name, ttl } => {
                let option = "--cookie";
                let mut cookie = vec![("name", text(option, name)), ("path", text(option, "/"))];
                cookie.extend(ttl.as_ref().map(|ttl| ("ttl", text("--ttl", ttl))));
                (option, "cookieBased", map(option, vec![("cookie", map(option, cookie))]))
            }
            FlagSession::Header { name } => {
                ("--header", "headerBased", map("--header", vec![("headerName", text("--header", name))]))
            }
        };
        let strict = Node { at: At::option("--strict"), kind: Kind::Bool(self.strict) };
        session(Dialect::Homing)(&map(option, vec![(key, carrier), ("strict", strict)]), problems)
    }
}

/// The route that takes every request to the cluster.
fn everything(at: &At) -> Route {
    let entry = Entry { cluster: Placed { value: CLUSTER.into(), at: at.clone() }, weight: 1, session: None };
    let forward = ForwardModel {
        entries: vec![entry],
        session: None,
        rewrite: None,
        host_rewrite: None,
        request: FieldRules::default(),
        response: FieldRules::default(),
        timeout: None,
        retry: Retry::default(),
        upgrades: true,
    };
    Route {
        at: at.clone(),
        name: Some("all".into()),
        domains: vec![Domain::Any],
        path: PathMatch::Prefix("/".into()),
        action: ActionModel::Forward(Box::new(forward)),
    }
}

fn map(option: &str, entries: Vec<(&str, Node)>) -> Node {
    let key = |name: &str| Key { at: At::option(option), text: Some(name.into()) };
    let entries = entries.into_iter().map(|(name, node)| (key(name), node)).collect();
    Node { at: At::option(option), kind: Kind::Map(entries) }
}
