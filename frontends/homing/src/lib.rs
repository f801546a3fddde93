//! The program: configuration, control plane, and the choice of a shell.
//!
//! [`config`] turns files or options into [`config::Settings`]; [`run`] starts what they describe through
//! [`shell`]; [`token`] reads and mints session tokens; [`cli`] is the command line over all of them.

pub mod cli;
pub mod config;
pub mod descriptors;
pub mod logs;
pub mod run;
pub mod shell;
pub mod summary;
pub mod token;
