//! The demo's world: its ports, its configuration, and its life.
//!
//! The configuration is a text like a user's own, read by the same reader, so that `--print-config` shows what runs.

use core::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use crate::config::{self, BindAddress, ConfigError, Runtime, Settings};
use crate::shell::{self, Ready, ShellError};

use super::{start, tour_text};

/// The names of the two listeners in the configuration.
const LISTENERS: [&str; 2] = ["cookie", "header"];
/// The names the two instances answer with.
const INSTANCES: [&str; 2] = ["one", "two"];

/// A demo, as options describe it. A port 0 lets the kernel choose.
#[derive(Clone, Debug)]
pub struct World {
    /// The port of the proxy that keeps sessions in a cookie.
    pub cookie_port: u16,
    /// The port of the proxy that keeps sessions in a header.
    pub header_port: u16,
    /// The ports of the two instances.
    pub upstream_ports: [u16; 2],
    /// The cookie's life, as a configuration has it.
    pub ttl: String,
    /// How many workers the proxy has. Each takes turns on its own: with one, turns are plain to see.
    pub workers: u16,
    /// What they run on.
    pub runtime: Runtime,
}

/// Why a demo could not run.
#[derive(Debug)]
pub enum DemoError {
    /// An option is no part of a valid configuration.
    Config(ConfigError),
    /// An instance cannot listen.
    Upstream {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The proxy cannot run.
    Shell(ShellError),
}

impl World {
    /// The configuration of the proxy before instances on these ports.
    pub fn config(&self, upstream_ports: [u16; 2]) -> String {
        let Self { cookie_port, header_port, ttl, workers, .. } = self;
        let [one, two] = upstream_ports;
        let [cookie, header] = LISTENERS;
        let runtime = self.runtime.as_str();
        format!(
            r#"# Two listeners before the same two instances: sessions in a cookie on one, in a header on the other.
listeners:
  - name: {cookie}
    address: 127.0.0.1:{cookie_port}
    statefulSession:
      cookieBased:
        cookie: {{ name: statefulsessioncookie, path: /, ttl: {ttl} }}
  - name: {header}
    address: 127.0.0.1:{header_port}
    statefulSession:
      headerBased: {{ headerName: x-session-id }}

routes:
  - forward: {{ cluster: demo }}

clusters:
  - name: demo
    hosts: ["127.0.0.1:{one}", "127.0.0.1:{two}"]

accessLog: {{ to: stdout }}
limits:
  drainTimeout: 1s
workers: {workers}
runtime: {runtime}
"#
        )
    }

    /// Starts the instances and runs the proxy before them until the process is told to end. Prints the tour once
    /// everything listens; the access log follows it on standard output.
    ///
    /// # Errors
    /// An option is wrong, or a port is in use; nothing is left running then.
    pub fn run(&self) -> Result<(), DemoError> {
        // Options are judged before a socket opens: any port stands for those that the kernel will choose.
        self.settings([1, 2])?;
        let mut upstreams = Vec::new();
        for (name, port) in INSTANCES.into_iter().zip(self.upstream_ports) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let failed = |error| DemoError::Upstream { address, error };
            upstreams.push(start(name, address).map_err(failed)?);
        }
        let mut ports = self.upstream_ports;
        for (port, upstream) in ports.iter_mut().zip(&upstreams) {
            *port = upstream.address.port();
        }
        match shell::launch(self.settings(ports)?, None, &mut |ready| announce(ready, &self.ttl)) {
            // Somebody leaves the demo with a stream still open: nothing is lost that anybody wanted.
            Ok(()) | Err(ShellError::CutOff) => Ok(()),
            Err(error) => Err(DemoError::Shell(error)),
        }
    }

    fn settings(&self, upstream_ports: [u16; 2]) -> Result<Settings, DemoError> {
        config::compile_text("demo", &self.config(upstream_ports)).map_err(DemoError::Config)
    }
}

/// Prints the tour, with the ports that the kernel chose.
fn announce(ready: &Ready, ttl: &str) {
    if let [BindAddress::Tcp(cookie), BindAddress::Tcp(header)] = *ready.addresses {
        // Nobody reading the tour is no reason to stop the demo.
        let mut out = io::stdout().lock();
        let _ = write!(out, "{}\nrunning on {}\n", tour_text(cookie, header, ttl), ready.runtime);
        let _ = out.flush();
    }
}

/// What to do about a listener or an instance whose port is taken.
fn remedy(listener: Option<&str>) -> &'static str {
    match listener {
        Some("cookie") => "choose another with --cookie-port, or --cookie-port 0 for any",
        Some("header") => "choose another with --header-port, or --header-port 0 for any",
        _ => "choose others with --upstream-ports, or --upstream-ports 0,0 for any",
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Upstream { address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "an instance of the demo: {address} is already in use; {}", remedy(None))
            }
            Self::Upstream { address, error } => {
                write!(f, "an instance of the demo cannot listen on {address}: {error}")
            }
            Self::Shell(ShellError::Listen { listener, address, error })
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                write!(f, "listener {listener}: {address} is already in use; {}", remedy(Some(listener)))
            }
            Self::Shell(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for DemoError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let (workers, runtime) = (1, Runtime::Auto);
        let upstream_ports = [9001, 9002];
        World { cookie_port: 8080, header_port: 8081, upstream_ports, ttl: "60s".into(), workers, runtime }
    }

    #[test]
    fn what_is_printed_is_what_runs() {
        let settings = world().settings([9001, 9002]).unwrap();
        let addresses: Vec<_> = settings.listeners.iter().map(|bind| bind.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:8081"]);
        let names: Vec<_> = settings.listeners.iter().map(|bind| &*bind.name).collect();
        assert_eq!(names, LISTENERS);
        assert_eq!((settings.workers, settings.runtime), (1, Runtime::Auto));
        assert!(settings.access_log.is_some());
    }

    #[test]
    fn a_wrong_time_is_a_mistake_in_the_configuration() {
        let world = World { ttl: "soon".into(), ..world() };
        let error = world.run().unwrap_err();
        assert!(matches!(error, DemoError::Config(_)), "{error}");
        assert!(error.to_string().contains("cookieBased.cookie.ttl"), "{error}");
    }

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = World { cookie_port: 0, header_port: 0, upstream_ports: [0, 0], ..world() };
        let cases = [
            (World { cookie_port: port, ..free.clone() }, "--cookie-port 0"),
            (World { header_port: port, ..free.clone() }, "--header-port 0"),
            (World { upstream_ports: [0, port], ..free }, "--upstream-ports 0,0"),
        ];
        for (world, remedy) in cases {
            let error = world.run().unwrap_err().to_string();
            assert!(error.contains(&format!("127.0.0.1:{port} is already in use")), "{error}");
            assert!(error.contains(remedy), "{error}");
        }
    }
}
