//! The program: configuration, control plane, and the choice of a shell.
//!
//! [`config`] turns files or options into [`config::Settings`]; [`run`] starts what they describe through
//! [`shell`]; [`control`] changes what runs, and [`reload`] does so when a file changes; [`token`] reads and mints session
//! tokens; [`demo`] is a small world to try it all in; [`cli`] is the command line over all of them.

pub mod access_log;
pub mod cli;
pub mod config;
pub mod control;
mod crowd;
pub mod demo;
pub mod descriptors;
mod listen;
pub mod logs;
pub mod reload;
pub mod run;
pub mod shell;
pub mod summary;
pub mod token;
mod trim;
