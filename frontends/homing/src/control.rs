//! The hold on a running service: a new configuration for all of it, health and admission for one host.
//!
//! [`Handle::reload`] publishes a whole configuration; requests that have begun finish under the one they began with. What
//! cannot change while the sockets are open is left as it was and named in [`Changes::restart`]. Any number of threads
//! may hold a [`Handle`]; changes happen one after another, and none once the service drains.

use core::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use homing_core::affinity::PolicySpec;
use homing_core::hosts::{Admission, Cluster, Health, Host, HostCell};
use homing_core::route::RouteTable;
use homing_core::snapshot::{Listener, Marks, Snapshot};
use homing_core::worker::{Control, Phase};

use crate::config::{AccessLog, Bind, Runtime, Settings};

/// Changes a running service. Clones hold the same one.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Plane>);

/// What a reload did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Counts the configurations that were in force, this one included.
    pub generation: u64,
    /// Clusters that were not there before, by name. Their hosts are not listed again.
    pub clusters_added: Vec<String>,
    /// Clusters that are not there any more, by name.
    pub clusters_removed: Vec<String>,
    /// Clusters whose own settings differ.
    pub clusters_changed: Vec<String>,
    /// Hosts that were not there before, as `cluster/address`.
    pub hosts_added: Vec<String>,
    /// Hosts that are not there any more. What they have begun, they finish.
    pub hosts_removed: Vec<String>,
    /// Hosts whose weight, health or admission is written differently.
    pub hosts_changed: Vec<String>,
    /// Listeners whose routes, sessions, fields or cap differ, by name.
    pub listeners_changed: Vec<String>,
    /// Whether bounds or time-outs differ.
    pub limits: bool,
    /// What differs and takes effect after a restart only.
    pub restart: Vec<Restart>,
}

/// A difference that a running service cannot follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restart {
    /// The path of the field in the new configuration, such as `listeners[0].address`.
    pub field: String,
    /// What differs, and what holds until then.
    pub what: String,
}

/// What became of an attempt to reload.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ReloadReason {
    /// The new configuration is in force.
    Applied = 0,
    /// It is, and says the same as the one before.
    Unchanged = 1,
    /// It has mistakes; the old one stays in force.
    Rejected = 2,
    /// The service drains; nothing changes any more.
    Draining = 3,
}

/// Why a change was not made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ControlError {
    /// The service drains; nothing changes any more.
    Draining,
    /// No cluster in force has this name.
    NoCluster(Box<str>),
    /// The cluster has no host of this address.
    NoHost {
        /// The cluster's name.
        cluster: Box<str>,
        /// The address that was asked for.
        address: Box<str>,
    },
}

/// What all handles of one service share.
#[derive(Debug)]
struct Plane {
    control: Arc<Control>,
    /// Also puts changes one after another.
    running: Mutex<Running>,
    tally: [AtomicU64; ReloadReason::ALL.len()],
}

/// What is in force and not in the snapshot.
#[derive(Debug)]
struct Running {
    binds: Vec<Bind>,
    policies: Vec<PolicySpec>,
    workers: usize,
    runtime: Runtime,
    access_log: Option<AccessLog>,
}

impl Handle {
    /// A handle on the service that `control` leads, which was started with `settings`. Gives back the snapshot that
    /// the control began with.
    pub(crate) fn new(settings: Settings) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::new(Arc::new(settings.snapshot)));
        let running = Running {
            binds: settings.listeners,
            policies: settings.policies,
            workers: settings.workers,
            runtime: settings.runtime,
            access_log: settings.access_log,
        };
        let plane =
            Plane { control: Arc::clone(&control), running: Mutex::new(running), tally: Default::default() };
        (Self(Arc::new(plane)), control)
    }

    /// Puts another configuration in force, as a whole and for all workers; they take it up within a tenth of a second.
    ///
    /// Clusters and listeners are known by their names, hosts by their addresses. A host that stays keeps its state: of
    /// health and admission, what is written differently from before is set, the rest stays as it is now. A host that
    /// leaves finishes what it has begun; its idle connections are closed, and sessions that name it are gone.
    ///
    /// # Errors
    /// [`ControlError::Draining`]; the old configuration stays.
    pub fn reload(&self, settings: Settings) -> Result<Changes, ControlError> {
        let mut running = self.running();
        if self.0.control.phase() != Phase::Run {
            self.count(ReloadReason::Draining);
            return Err(ControlError::Draining);
        }
        let previous = self.0.control.snapshot();
        let mut changes = Changes::default();
        running.keep_what_must_stay(&settings, &mut changes);
        let mut next = running.arrange(settings.listeners, settings.snapshot);
        changes.compare(&previous, &next, running.policies == settings.policies);
        running.policies = settings.policies;
        next.inherit(&previous);
        changes.generation = next.generation;
        self.0.control.publish(Arc::new(next));
        self.count(changes.reason());
        Ok(changes)
    }

    /// Says what checks have found about a host. Costs one store; sessions and placing heed it from the next request on.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_health(&self, cluster: &str, address: &str, health: Health) -> Result<(), ControlError> {
        self.with_host(cluster, address, |cell| cell.set_health(health))
    }

    /// Says whether a host gets new sessions and keeps its old ones. Costs one store.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_admission(
        &self,
        cluster: &str,
        address: &str,
        admission: Admission,
    ) -> Result<(), ControlError> {
        self.with_host(cluster, address, |cell| cell.set_admission(admission))
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.control.snapshot()
    }

    /// Client connections open now, over all workers.
    pub fn connections(&self) -> u32 {
        self.0.control.gate().open()
    }

    /// How many attempts to reload ended so.
    pub fn reloads(&self, reason: ReloadReason) -> u64 {
        self.0.tally.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts an attempt.
    pub(crate) fn count(&self, reason: ReloadReason) {
        if let Some(count) = self.0.tally.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A cell is looked up under the lock, so that what is said of a host is not said to one that a reload retires.
    fn with_host(
        &self,
        cluster: &str,
        address: &str,
        act: impl FnOnce(&HostCell),
    ) -> Result<(), ControlError> {
        let _running = self.running();
        let snapshot = self.0.control.snapshot();
        let found = snapshot.clusters.iter().find(|known| known.name() == cluster);
        let found = found.ok_or_else(|| ControlError::NoCluster(cluster.into()))?;
        let host = found.find(address.as_bytes()).and_then(|id| found.host(id));
        let missing = || ControlError::NoHost { cluster: cluster.into(), address: address.into() };
        act(host.ok_or_else(missing)?.cell());
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        // Nothing is left half done behind the lock: what is published is published as a whole.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Notes what differs and cannot change now.
    fn keep_what_must_stay(&self, settings: &Settings, changes: &mut Changes) {
        let mut note = |field: String, what: String| changes.restart.push(Restart { field, what });
        if settings.workers != self.workers {
            note("workers".into(), format!("there are {} until a restart", self.workers));
        }
        if settings.runtime != self.runtime {
            note("runtime".into(), format!("it stays {} until a restart", self.runtime.as_str()));
        }
        if settings.access_log != self.access_log {
            let stays = self.access_log.as_ref().map_or_else(|| "off".into(), |log| log.target.to_string());
            note("accessLog".into(), format!("it stays {stays} until a restart"));
        }
        for (nth, bind) in settings.listeners.iter().enumerate() {
            match self.binds.iter().find(|known| known.name == bind.name) {
                None => note(
                    format!("listeners[{nth}]"),
                    format!("{} is new; it listens on {} after a restart", bind.name, bind.address),
                ),
                Some(known) if known.address != bind.address => note(
                    format!("listeners[{nth}].address"),
                    format!("{} listens on {} until a restart", bind.name, known.address),
                ),
                Some(_) => {}
            }
        }
        for bind in &self.binds {
            if !settings.listeners.iter().any(|kept| kept.name == bind.name) {
                let what = format!(
                    "{} is gone; its socket at {} stays open until a restart and answers 404",
                    bind.name, bind.address
                );
                note("listeners".into(), what);
            }
        }
    }

    /// The snapshot with its listeners where the sockets expect them: in the order of the start.
    fn arrange(&self, binds: Vec<Bind>, mut snapshot: Snapshot) -> Snapshot {
        let mut named: Vec<(Bind, Listener)> = binds.into_iter().zip(snapshot.listeners).collect();
        let listener = |bind: &Bind| {
            let at = named.iter().position(|(new, _)| new.name == bind.name);
            at.map_or_else(|| closed(bind), |at| named.swap_remove(at).1)
        };
        snapshot.listeners = self.binds.iter().map(listener).collect();
        snapshot
    }
}

/// A listener that the configuration does not know any more.
fn closed(bind: &Bind) -> Listener {
    Listener {
        name: bind.name.clone(),
        routes: RouteTable::default(),
        marks: Marks::default(),
        connections: 0,
        gate: Arc::default(),
    }
}

impl Changes {
    /// Whether the new configuration says the same as the old one.
    pub fn is_empty(&self) -> bool {
        *self == Self { generation: self.generation, ..Self::default() }
    }

    /// The reason under which the reload is counted and logged.
    pub fn reason(&self) -> ReloadReason {
        if self.is_empty() { ReloadReason::Unchanged } else { ReloadReason::Applied }
    }

    /// Notes what differs between two snapshots; `same_policies`: the session settings are the same.
    fn compare(&mut self, old: &Snapshot, new: &Snapshot, same_policies: bool) {
        self.limits = old.limits != new.limits;
        for (old, new) in old.listeners.iter().zip(&new.listeners) {
            let same = old.routes == new.routes && old.marks == new.marks;
            if !same || old.connections != new.connections || !same_policies {
                self.listeners_changed.push(new.name.to_string());
            }
        }
        let named = |clusters: &[Cluster], name: &str| clusters.iter().position(|it| it.name() == name);
        for cluster in &old.clusters {
            if named(&new.clusters, cluster.name()).is_none() {
                self.clusters_removed.push(cluster.name().to_owned());
            }
        }
        for cluster in &new.clusters {
            match named(&old.clusters, cluster.name()).and_then(|at| old.clusters.get(at)) {
                None => self.clusters_added.push(cluster.name().to_owned()),
                Some(known) => self.compare_clusters(known, cluster),
            }
        }
    }

    fn compare_clusters(&mut self, old: &Cluster, new: &Cluster) {
        if !new.has_settings_of(old) {
            self.clusters_changed.push(new.name().to_owned());
        }
        let label = |host: &Host| format!("{}/{}", new.name(), host.address());
        for host in old.hosts() {
            if new.find(host.address().as_bytes()).is_none() {
                self.hosts_removed.push(label(host));
            }
        }
        for host in new.hosts() {
            match old.find(host.address().as_bytes()).and_then(|id| old.host(id)) {
                None => self.hosts_added.push(label(host)),
                Some(known) => {
                    let told = |host: &Host| (host.weight(), host.priority(), host.written());
                    if told(known) != told(host) {
                        self.hosts_changed.push(label(host));
                    }
                }
            }
        }
    }
}

/// One line: `hosts: 1 added (app/10.0.0.3:80), 1 removed (app/10.0.0.1:80); limits changed`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (thing, lists) in [
            ("listeners", [(&self.listeners_changed, "changed"), (NOTHING, ""), (NOTHING, "")]),
            (
                "clusters",
                [
                    (&self.clusters_added, "added"),
                    (&self.clusters_removed, "removed"),
                    (&self.clusters_changed, "changed"),
                ],
            ),
            (
                "hosts",
                [
                    (&self.hosts_added, "added"),
                    (&self.hosts_removed, "removed"),
                    (&self.hosts_changed, "changed"),
                ],
            ),
        ] {
            let lists = lists.iter().filter(|(names, _)| !names.is_empty());
            let lists: Vec<_> =
                lists.map(|(names, what)| format!("{} {what} ({})", names.len(), shorten(names))).collect();
            if !lists.is_empty() {
                parts.push(format!("{thing}: {}", lists.join(", ")));
            }
        }
        if self.limits {
            parts.push("limits changed".into());
        }
        if parts.is_empty() { f.write_str("nothing changed") } else { f.write_str(&parts.join("; ")) }
    }
}

const NOTHING: &Vec<String> = &Vec::new();

/// The first few of many.
fn shorten(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl ReloadReason {
    /// All, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Unchanged, Self::Rejected, Self::Draining];

    /// The name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "reload.applied",
            Self::Unchanged => "reload.unchanged",
            Self::Rejected => "reload.rejected",
            Self::Draining => "reload.draining",
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("the service drains; its configuration does not change any more"),
            Self::NoCluster(name) => write!(f, "there is no cluster {name:?}"),
            Self::NoHost { cluster, address } => {
                write!(
                    f,
                    "the cluster {cluster:?} has no host {address:?}; write its address as a token has it"
                )
            }
        }
    }
}

impl core::error::Error for ControlError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile_text;

    fn settings(text: &str) -> Settings {
        let common = "workers: 1\nruntime: mio\nlisteners: [{ name: web, address: \"127.0.0.1:0\", routes: [{ forward: { cluster: app } }] }]\n";
        compile_text("test", &format!("{common}{text}")).unwrap()
    }

    fn hosts(handle: &Handle) -> Vec<(String, Health, Admission)> {
        let snapshot = handle.snapshot();
        let hosts = snapshot.clusters.iter().flat_map(Cluster::hosts);
        hosts.map(|h| (h.address().to_owned(), h.cell().health(), h.cell().admission())).collect()
    }

    #[test]
    fn a_host_that_stays_keeps_its_state_but_for_what_is_written_anew() {
        let two = "clusters: [{ name: app, hosts: [\"10.0.0.1:1\", \"10.0.0.2:1\"] }]";
        let (handle, _) = Handle::new(settings(two));
        let before = handle.snapshot();
        handle.set_health("app", "10.0.0.2:1", Health::Unhealthy).unwrap();
        let next = "clusters: [{ name: app, hosts: [\"10.0.0.3:1\", { address: \"10.0.0.2:1\", admission: draining, weight: 3 }] }]";
        let changes = handle.reload(settings(next)).unwrap();
        assert_eq!(
            changes.to_string(),
            "hosts: 1 added (app/10.0.0.3:1), 1 removed (app/10.0.0.1:1), 1 changed (app/10.0.0.2:1)"
        );
        assert_eq!((changes.generation, changes.reason()), (2, ReloadReason::Applied));
        assert_eq!(
            hosts(&handle),
            [
                ("10.0.0.3:1".into(), Health::Unknown, Admission::Open),
                ("10.0.0.2:1".into(), Health::Unhealthy, Admission::Draining),
            ]
        );
        let retired: Vec<_> =
            before.clusters[0].hosts().iter().map(|host| host.cell().is_retired()).collect();
        assert_eq!(retired, [true, false]);
        // What is written is not what was set since; written differently, it counts again.
        assert!(handle.reload(settings(next)).unwrap().is_empty());
        assert_eq!(hosts(&handle)[1].1, Health::Unhealthy);
        let healthy = "clusters: [{ name: app, hosts: [{ address: \"10.0.0.2:1\", health: HEALTHY }] }]";
        handle.reload(settings(healthy)).unwrap();
        assert_eq!(hosts(&handle), [("10.0.0.2:1".into(), Health::Healthy, Admission::Open)]);
        assert_eq!(ReloadReason::ALL.map(|reason| handle.reloads(reason)), [2, 1, 0, 0]);
    }

    #[test]
    fn a_host_that_returns_is_another_one() {
        let one = "clusters: [{ name: app, hosts: [\"10.0.0.1:1\"] }]";
        let (handle, _) = Handle::new(settings(one));
        handle.set_admission("app", "10.0.0.1:1", Admission::Barred).unwrap();
        let other = one.replace("10.0.0.1", "10.0.0.9");
        handle.reload(settings(&other)).unwrap();
        let missing = handle.set_health("app", "10.0.0.1:1", Health::Healthy).unwrap_err();
        assert!(missing.to_string().contains("has no host \"10.0.0.1:1\""), "{missing}");
        handle.reload(settings(one)).unwrap();
        assert_eq!(hosts(&handle), [("10.0.0.1:1".into(), Health::Unknown, Admission::Open)]);
        assert_eq!(
            handle.set_health("shop", "10.0.0.1:1", Health::Healthy),
            Err(ControlError::NoCluster("shop".into()))
        );
    }

    #[test]
    fn what_cannot_change_is_named_and_listeners_keep_their_places() {
        let text = |listeners: &str, rest: &str| {
            let text = format!(
                "{rest}\nlisteners: {listeners}\nroutes: [{{ forward: {{ cluster: app }} }}]\nclusters: [{{ name: app, hosts: [\"10.0.0.1:1\"] }}]"
            );
            compile_text("test", &text).unwrap()
        };
        let two = "[{ name: a, address: \"127.0.0.1:1\" }, { name: b, address: \"127.0.0.1:2\" }]";
        let (handle, _) = Handle::new(text(two, "workers: 1\nruntime: mio"));
        let other = "[{ name: c, address: \"127.0.0.1:3\" }, { name: b, address: \"127.0.0.1:9\", via: x }]";
        let changes =
            handle.reload(text(other, "workers: 2\nruntime: tokio\naccessLog: { to: stdout }")).unwrap();
        let restart: Vec<_> = changes.restart.iter().map(Restart::to_string).collect();
        assert_eq!(
            restart,
            [
                "workers: there are 1 until a restart",
                "runtime: it stays mio until a restart",
                "accessLog: it stays off until a restart",
                "listeners[0]: c is new; it listens on 127.0.0.1:3 after a restart",
                "listeners[1].address: b listens on 127.0.0.1:2 until a restart",
                "listeners: a is gone; its socket at 127.0.0.1:1 stays open until a restart and answers 404",
            ]
        );
        let snapshot = handle.snapshot();
        let names: Vec<_> = snapshot.listeners.iter().map(|listener| &*listener.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(snapshot.listeners[0].routes.virtual_hosts.is_empty());
        assert_eq!(snapshot.listeners[1].marks.via.as_deref(), Some("x"));
        assert_eq!(changes.listeners_changed, ["a", "b"]);
    }

    #[test]
    fn nothing_changes_once_the_service_drains() {
        let one = "clusters: [{ name: app, hosts: [\"10.0.0.1:1\"] }]";
        let (handle, control) = Handle::new(settings(one));
        control.advance(Phase::Drain);
        assert_eq!(handle.reload(settings(one)), Err(ControlError::Draining));
        assert_eq!((handle.snapshot().generation, handle.reloads(ReloadReason::Draining)), (1, 1));
    }
}
