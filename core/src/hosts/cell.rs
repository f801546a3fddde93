//! A host's state: two axes, health and admission, and the count of its requests in flight.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// What checks or discovery say about a host. The six values of Envoy's `HealthStatus`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Health {
    /// Nothing is known; treated as usable.
    #[default]
    Unknown = 0,
    /// Checks pass.
    Healthy = 1,
    /// Checks fail.
    Unhealthy = 2,
    /// The control plane drains it.
    Draining = 3,
    /// A check timed out.
    Timeout = 4,
    /// Usable, but worse than others.
    Degraded = 5,
}

/// Whether a host gets new sessions and keeps its old ones. Independent of health.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Admission {
    /// Old and new sessions.
    #[default]
    Open = 0,
    /// Old sessions only, by the operator's wish.
    Draining = 1,
    /// Old sessions only: withdrawn by discovery but still answering.
    Leaving = 2,
    /// Neither.
    Barred = 3,
}

/// A set of health statuses, as in `overrideHostStatus`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthSet(u8);

/// The state of one host, shared by all workers and all snapshots that contain the host.
#[derive(Debug, Default)]
pub struct HostCell {
    health: AtomicU8,
    admission: AtomicU8,
    retired: AtomicBool,
    active: AtomicU32,
}

impl Health {
    /// All six, in the order of Envoy's enum.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Healthy, Self::Unhealthy, Self::Draining, Self::Timeout, Self::Degraded];

    /// Envoy's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::Draining => "DRAINING",
            Self::Timeout => "TIMEOUT",
            Self::Degraded => "DEGRADED",
        }
    }

    /// Whether the balancer may place new sessions on such a host.
    pub const fn takes_new_sessions(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy | Self::Degraded)
    }

    const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Healthy,
            2 => Self::Unhealthy,
            3 => Self::Draining,
            4 => Self::Timeout,
            5 => Self::Degraded,
            _ => Self::Unknown,
        }
    }
}

impl Admission {
    /// The name used in configuration and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Barred => "barred",
        }
    }

    const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Draining,
            2 => Self::Leaving,
            3 => Self::Barred,
            _ => Self::Open,
        }
    }
}

impl HealthSet {
    /// No status at all: a token never leads to its host.
    pub const EMPTY: Self = Self(0);
    /// Envoy's default: UNKNOWN, HEALTHY and DEGRADED (health-001 to health-006).
    pub const USABLE: Self = Self::EMPTY.with(Health::Unknown).with(Health::Healthy).with(Health::Degraded);

    /// This set plus `health`.
    pub const fn with(self, health: Health) -> Self {
        Self(self.0 | 1 << health as u8)
    }

    /// Whether `health` is in the set.
    pub const fn contains(self, health: Health) -> bool {
        self.0 & (1 << health as u8) != 0
    }
}

impl Default for HealthSet {
    fn default() -> Self {
        Self::USABLE
    }
}

impl HostCell {
    /// A cell with the given state and no request in flight.
    pub fn new(health: Health, admission: Admission) -> Self {
        let cell = Self::default();
        cell.set_health(health);
        cell.set_admission(admission);
        cell
    }

    /// What is known of the host's health.
    #[inline]
    pub fn health(&self) -> Health {
        Health::from_bits(self.health.load(Ordering::Relaxed))
    }

    /// Flips the health; costs one store.
    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// Whether the host gets new sessions and keeps its old ones.
    #[inline]
    pub fn admission(&self) -> Admission {
        Admission::from_bits(self.admission.load(Ordering::Relaxed))
    }

    /// Changes the admission; costs one store.
    pub fn set_admission(&self, admission: Admission) {
        self.admission.store(admission as u8, Ordering::Relaxed);
    }

    /// Whether a session that names this host may use it.
    #[inline]
    pub fn keeps_sessions(&self, allowed: HealthSet) -> bool {
        allowed.contains(self.health()) && self.admission() != Admission::Barred
    }

    /// Whether the balancer may place a new session here.
    #[inline]
    pub fn takes_new_sessions(&self) -> bool {
        self.health().takes_new_sessions() && self.admission() == Admission::Open
    }

    /// The host has left its cluster: no snapshot in force contains it. There is no way back; a host that returns is
    /// another one, with a cell of its own.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether the host has left its cluster. Requests that it has already been given finish there, and no link to it is
    /// kept.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Requests in flight at this host, over all workers.
    #[inline]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// A request was sent to the host. Pair with [`HostCell::finished`].
    #[inline]
    pub fn started(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// A request at the host ended.
    #[inline]
    pub fn finished(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}
