//! `homing demo`: two small upstream instances and the proxy before them, to try everything in one command.
//!
//! [`World`] is the demo as options describe it, with the configuration it runs; [`start`] starts one instance, which
//! integration tests use too; [`tour_text`] is what the demo tells its user to try.

mod endpoints;
mod socket;
#[cfg(test)]
mod tests;
mod tour;
mod upstream;
mod world;

pub use tour::tour_text;
pub use upstream::{Upstream, start};
pub use world::{DemoError, World};
