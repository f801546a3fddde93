//! Configuration: any text is compiled or refused with places, and nothing panics.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use homing::config::{ConfigError, Settings, compile_bootstrap, compile_texts};

/// What the text is called in messages.
const NAME: &str = "fuzz.yaml";

/// The input as a configuration: Homing's, and Envoy's.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(text, || compile_texts(&[(NAME, text)], &resolve));
    check(text, || compile_bootstrap(NAME, text, &resolve));
}

fn check(text: &str, compile: impl Fn() -> Result<Settings, ConfigError>) {
    match compile() {
        Ok(settings) => check_settings(&settings),
        Err(error) => {
            check_error(text, &error);
            match compile() {
                Err(again) => assert_eq!(again.problems(), error.problems(), "compiling is deterministic"),
                Ok(_) => panic!("refused, then taken"),
            }
        }
    }
}

/// No test asks a resolver: `gone…` does not resolve, every other name has two addresses.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if name.starts_with("gone") {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok([1, 2].map(|last| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port))).to_vec())
}

fn check_settings(settings: &Settings) {
    assert!(!settings.listeners.is_empty());
    assert!((1..=1024).contains(&settings.workers));
    for bind in &settings.listeners {
        assert!(settings.snapshot.listener(bind.id).is_some(), "{} has no routes", bind.name);
    }
    assert_eq!(settings.policies.len(), settings.snapshot.policies.len());
}

fn check_error(text: &str, error: &ConfigError) {
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    assert!(!error.problems().is_empty());
    assert!(!error.to_string().is_empty());
    for problem in error.problems() {
        let at = &problem.at;
        assert_eq!(&*at.source, NAME);
        assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem}");
        assert!(at.line as usize <= lines + 1, "{problem} is behind the end");
        assert_eq!(at.line == 0, at.column == 0, "{problem}");
        if at.line == 0 {
            // Only a whole file has no line.
            assert!(at.path.is_empty(), "{problem}");
        }
    }
}
