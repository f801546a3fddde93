//! Choices for sessions that have no home yet.

use crate::hosts::{Host, HostId};
use crate::rng::Rng;

/// How sessions without a home are placed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// Weighted round robin.
    #[default]
    RoundRobin,
    /// The less busy of two random hosts, weights respected.
    LeastRequest,
    /// Random, weights respected.
    Random,
}

/// The immutable tables of one cluster's balancer. What changes per pick is in a [`Cursor`], one per worker.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    panic_percent: u8,
}

/// One worker's place in one cluster's rotation.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    next: u64,
}

impl Balancer {
    /// Builds the tables for `hosts`.
    pub fn compile(balance: Balance, panic_percent: u8, _hosts: &[Host]) -> Self {
        Self { balance, panic_percent }
    }

    /// Chooses a host that takes new sessions; `avoid` is only chosen when there is no other (a retry's last host).
    /// `None` when no host can be used.
    pub fn pick(&self, _hosts: &[Host], _cursor: &mut Cursor, _rng: &mut Rng, _avoid: Option<HostId>) -> Option<HostId> {
        let _ = (self.balance, self.panic_percent);
        None
    }
}
