//! What the wall-time benches and the instruction counts share: the subjects they measure, so that both measure the
//! same thing.

pub mod exchange;
pub mod hosts;
pub mod log;
pub mod lookup;
