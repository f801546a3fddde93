//! Where a request goes, and where it goes next when that fails: verdict, placing, moving, refusing. Knows no
//! protocol.
//!
//! ```text
//!               ┌── Pin ──────────────────────────▶ host ──fails──▶ soft: another host (moved.*)
//! session field ├── Place ──▶ balancer ──▶ host ──▶              └▶ strict and the token named it: refused.*
//!               │                      └▶ none: unplaced
//!               └── Refuse (strict): refused.gone, refused.barred
//! ```

use std::rc::Rc;

use crate::affinity::{Policy, Refusal, RefusalReason, Routed, Verdict};
use crate::clock::UnixSecs;
use crate::field::FieldName;
use crate::hosts::{ClusterId, Host, HostId, HostRef};
use crate::rng::Rng;
use crate::route::{Action, Forward, ListenerId, PolicyId, RouteRef, Session, WeightedCluster};
use crate::snapshot::Snapshot;
use crate::stats::{Fate, Move, Outcome, Scope};
use crate::token::Scratch;
use crate::worker::{View, Waits};

/// Hosts that are tried for one request when connections are refused, the first included. A retry policy adds to it.
const CONNECT_TRIES: u8 = 3;

/// One request's way to a host.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    view: Option<Rc<View>>,
    route: Option<(ListenerId, RouteRef)>,
    policy: Option<PolicyId>,
    routed: Option<Routed>,
    host: Option<HostRef>,
    /// The host that counts this request as in flight; not [`Attempt::host`] once that has moved on.
    busy: Option<HostRef>,
    pub(super) outcome: Outcome,
}

/// What a decision rests on, beside the request's fields.
pub(super) struct Basis<'a> {
    /// The configuration that the attempt began with.
    pub(super) view: &'a View,
    /// The action of the route that was found.
    pub(super) forward: &'a Forward,
    /// The raw path with its query.
    pub(super) target: &'a [u8],
    pub(super) now: UnixSecs,
}

/// What is to be done with the request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    /// Send it to [`Attempt::host`].
    Dial,
    /// Strict: refuse it.
    Refuse(Refusal),
    /// There is no host that could take it.
    NoHost,
    /// All tries are used up.
    GiveUp,
}

impl Attempt {
    /// Begins anew with the configuration now in force.
    pub(super) fn begin(&mut self, view: &Rc<View>) {
        self.release();
        match &mut self.view {
            Some(held) if Rc::ptr_eq(held, view) => {}
            held => *held = Some(Rc::clone(view)),
        }
        self.route = None;
        self.policy = None;
        self.routed = None;
        self.host = None;
        self.outcome = Outcome::default();
    }

    /// Lets go of the configuration: a connection without a request must not keep an old one in memory.
    pub(super) fn rest(&mut self) {
        self.view = None;
    }

    pub(super) fn view(&self) -> Option<Rc<View>> {
        self.view.clone()
    }

    pub(super) fn waits(&self) -> Option<&Waits> {
        self.view.as_ref().map(|view| view.waits())
    }

    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.view.as_ref().map(|view| &**view.snapshot())
    }

    pub(super) fn set_route(&mut self, listener: ListenerId, route: RouteRef) {
        self.route = Some((listener, route));
    }

    pub(super) fn forward(&self) -> Option<&Forward> {
        forward_of(self.snapshot()?, self.route)
    }

    pub(super) fn action(&self) -> Option<&Action> {
        action_of(self.snapshot()?, self.route)
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        self.snapshot()?.policy(self.policy?)
    }

    pub(super) fn routed(&self) -> Option<&Routed> {
        self.routed.as_ref()
    }

    pub(super) fn host(&self) -> Option<HostRef> {
        self.host
    }

    /// Draws where the draw comes first, reads the session's lines among `fields`, pairs of name and value, and decides.
    pub(super) fn decide<'f>(
        &mut self,
        basis: &Basis<'_>,
        mut fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        room: &mut Scratch,
        rng: &mut Rng,
    ) -> Decision {
        let Basis { view, forward, target, now } = *basis;
        let snapshot = view.snapshot();
        // Session settings of one entry's own: the draw decides which settings count (pr-018).
        let drawn = forward
            .clusters
            .iter()
            .any(|entry| entry.session.is_some())
            .then(|| draw(&forward.clusters, rng));
        let session = drawn.flatten().and_then(|entry| entry.session).unwrap_or(forward.session);
        let candidates = match drawn.flatten() {
            Some(entry) => core::slice::from_ref(entry),
            None => forward.clusters.as_slice(),
        };
        let policy = match session {
            Session::None => return self.place(view, candidates, Scope::Unmanaged, rng),
            Session::Disabled => return self.place(view, candidates, Scope::Disabled, rng),
            Session::Policy(id) => id,
        };
        let Some((compiled, mut lookup)) =
            snapshot.policy(policy).and_then(|p| Some((p, p.lookup(target, now, room)?)))
        else {
            return self.place(view, candidates, Scope::OutOfScope, rng);
        };
        if let Some(field) = compiled.request_field() {
            while let Some(value) = next_line(&mut fields, field) {
                lookup.offer(value);
            }
        }
        let clusters =
            candidates.iter().filter_map(|entry| Some((entry.cluster, snapshot.cluster(entry.cluster)?)));
        let verdict = lookup.read().find(compiled, clusters);
        let strict = compiled.strict();
        let decision = match verdict {
            Verdict::Pin(routed) => {
                let host = routed.host();
                self.outcome.fate = Fate::Pinned;
                self.routed = Some(routed);
                self.dial(host)
            }
            Verdict::Place(unplaced) => {
                self.outcome.miss = Some(unplaced.miss());
                match choose(view, candidates, rng) {
                    Some(host) => {
                        self.outcome.fate = Fate::Placed;
                        self.routed = Some(unplaced.placed(host));
                        self.dial(host)
                    }
                    None => {
                        self.outcome.fate = Fate::Unplaced;
                        Decision::NoHost
                    }
                }
            }
            Verdict::Refuse(refusal) => self.refuse(refusal),
        };
        self.outcome.scope = Scope::Active;
        self.outcome.strict = strict;
        self.policy = Some(policy);
        decision
    }

    /// The host did not take the connection: nothing was sent, so a soft session moves on at once.
    pub(super) fn connect_failed(&mut self, rng: &mut Rng) -> Decision {
        let extra = self
            .forward()
            .map_or(0, |forward| if forward.retry.on.connect_failure { forward.retry.attempts } else { 0 });
        if self.outcome.tries >= CONNECT_TRIES.saturating_add(extra) {
            return self.give_up(RefusalReason::ConnectFailed);
        }
        self.move_on(Move::ConnectFailed, rng)
    }

    /// The host's answer, or its lack of one, calls for another attempt by the route's retry policy. Strict stays.
    pub(super) fn retry(&mut self, why: Move, rng: &mut Rng) -> Decision {
        self.move_on(why, rng)
    }

    /// The link died before the host answered; the same host is asked again, on a fresh link.
    pub(super) fn again(&mut self) -> Decision {
        match self.host {
            Some(host) => self.dial(host),
            None => Decision::GiveUp,
        }
    }

    /// A request is in flight at the host; counted where the balancer asks for it.
    pub(super) fn occupy(&mut self) {
        if let Some((at, host)) = self.host.and_then(|at| Some((at, self.counted_host(at)?))) {
            host.cell().started();
            self.busy = Some(at);
        }
    }

    /// The request at the host has ended.
    pub(super) fn release(&mut self) {
        if let Some(host) = self.busy.take().and_then(|at| self.counted_host(at)) {
            host.cell().finished();
        }
    }

    /// Only least request looks at the count; nobody else pays for the shared atomic.
    fn counted_host(&self, at: HostRef) -> Option<&Host> {
        let cluster = self.snapshot()?.cluster(at.cluster)?;
        if cluster.balancer().counts_active() { cluster.host(at.host) } else { None }
    }

    fn place(
        &mut self,
        view: &View,
        candidates: &[WeightedCluster],
        scope: Scope,
        rng: &mut Rng,
    ) -> Decision {
        self.outcome.scope = scope;
        match choose(view, candidates, rng) {
            Some(host) => {
                self.outcome.fate = Fate::Placed;
                self.dial(host)
            }
            None => {
                self.outcome.fate = Fate::Unplaced;
                Decision::NoHost
            }
        }
    }

    fn dial(&mut self, host: HostRef) -> Decision {
        // Before the host changes: what was counted there is not in flight any more.
        self.release();
        self.host = Some(host);
        self.outcome.host = Some(host);
        self.outcome.tries = self.outcome.tries.saturating_add(1);
        Decision::Dial
    }

    fn refuse(&mut self, refusal: Refusal) -> Decision {
        self.outcome.fate = Fate::Refused(refusal.reason);
        self.outcome.miss = match refusal.reason {
            RefusalReason::Gone => Some(crate::affinity::Miss::Gone),
            RefusalReason::Barred => Some(crate::affinity::Miss::Barred),
            RefusalReason::ConnectFailed => None,
        };
        Decision::Refuse(refusal)
    }

    /// A strict session whose own host cannot be reached is a refusal, not a mere failure.
    fn give_up(&mut self, reason: RefusalReason) -> Decision {
        if self.outcome.strict && self.outcome.fate == Fate::Pinned {
            self.outcome.fate = Fate::Refused(reason);
        }
        Decision::GiveUp
    }

    fn move_on(&mut self, why: Move, rng: &mut Rng) -> Decision {
        let Some(view) = self.view.clone() else { return Decision::GiveUp };
        let Some(failed) = self.host else { return Decision::GiveUp };
        if why != Move::ConnectFailed && self.outcome.strict && self.outcome.fate == Fate::Pinned {
            // Its own host did answer or hang up: the client gets what there is, and the session stays as it is.
            return Decision::GiveUp;
        }
        let Some(next) = view.pick(failed.cluster, rng, Some(failed.host)) else {
            return self.give_up(RefusalReason::ConnectFailed);
        };
        if next != failed
            && let Some(routed) = self.routed.take()
        {
            let Some(policy) = self.policy() else { return Decision::GiveUp };
            match routed.moved(policy, next) {
                Ok(moved) => self.routed = Some(moved),
                Err(refusal) => return self.refuse(refusal),
            }
        }
        if next != failed {
            self.outcome.fate = Fate::Moved(why);
        }
        self.dial(next)
    }
}

/// The value of the next line of `field`. A walk by itself: among all that a decision holds, it would have to keep its place
/// in memory.
#[inline(never)]
fn next_line<'f>(
    fields: &mut impl Iterator<Item = (&'f [u8], &'f [u8])>,
    field: &FieldName,
) -> Option<&'f [u8]> {
    fields.find(|(name, _)| field.matches(name)).map(|(_, value)| value)
}

/// The host of another cluster entry by weight, then by the cluster's balancer; an entry without a usable host passes
/// to the next one.
fn choose(view: &View, candidates: &[WeightedCluster], rng: &mut Rng) -> Option<HostRef> {
    let drawn = draw(candidates, rng)?;
    view.pick(drawn.cluster, rng, None::<HostId>).or_else(|| {
        let others = candidates.iter().filter(|entry| entry.cluster != drawn.cluster && entry.weight > 0);
        others.map(|entry| entry.cluster).find_map(|cluster: ClusterId| view.pick(cluster, rng, None))
    })
}

fn draw<'c>(candidates: &'c [WeightedCluster], rng: &mut Rng) -> Option<&'c WeightedCluster> {
    if let [only] = candidates {
        return Some(only);
    }
    let total = candidates.iter().fold(0_u32, |sum, entry| sum.saturating_add(entry.weight));
    let mut point = rng.below(total);
    for entry in candidates {
        match point.checked_sub(entry.weight) {
            Some(rest) => point = rest,
            None => return Some(entry),
        }
    }
    None
}

fn action_of(snapshot: &Snapshot, route: Option<(ListenerId, RouteRef)>) -> Option<&Action> {
    let (listener, route) = route?;
    Some(&snapshot.listener(listener)?.routes.get(route)?.action)
}

fn forward_of(snapshot: &Snapshot, route: Option<(ListenerId, RouteRef)>) -> Option<&Forward> {
    match action_of(snapshot, route)? {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond { .. } => None,
    }
}
