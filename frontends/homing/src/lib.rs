//! The program: configuration, control plane, and the choice of a shell.
pub mod demo;
