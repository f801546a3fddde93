//! The access log's share of a request: its texts are kept, and at its end they become a line behind other lines.

use homing_core::hosts::{ClusterId, HostId, HostRef};
use homing_core::log::json::JsonLines;
use homing_core::log::{ADDRESS_KEPT, Clip, METHOD_KEPT, Record, TARGET_KEPT};
use homing_core::route::ListenerId;
use homing_core::stats::{Fate, Outcome, Scope};

use crate::exchange::NOW;

/// Lines after which the buffer is emptied, as a batch is handed over.
const LINES: usize = 64;

/// The log of a worker, and a request that went home.
#[derive(Debug)]
pub struct Logged {
    lines: JsonLines,
    batch: Vec<u8>,
    count: usize,
    method: Clip<METHOD_KEPT>,
    target: Clip<TARGET_KEPT>,
    client: Clip<ADDRESS_KEPT>,
    outcome: Outcome,
}

impl Logged {
    /// A log that has had its first line, so that what is kept from line to line is there.
    pub fn new() -> Self {
        let outcome = Outcome {
            scope: Scope::Active,
            fate: Fate::Pinned,
            host: Some(HostRef { cluster: ClusterId(0), host: HostId(0) }),
            status: 200,
            tries: 1,
            ..Outcome::default()
        };
        let lines = JsonLines::new(["web"]);
        let mut this = Self {
            batch: Vec::with_capacity(LINES * lines.longest()),
            lines,
            count: 0,
            method: Clip::default(),
            target: Clip::default(),
            client: Clip::new(b"192.0.2.7"),
            outcome,
        };
        this.line(b"GET", b"/");
        this
    }

    /// One request; the lines since the last hand-over.
    #[inline]
    pub fn line(&mut self, method: &[u8], target: &[u8]) -> &[u8] {
        if self.count == LINES {
            self.count = 0;
            self.batch.clear();
        }
        self.count += 1;
        self.method = Clip::new(method);
        self.target = Clip::new(target);
        let record = Record {
            at: NOW,
            took_millis: 0,
            listener: ListenerId(0),
            outcome: &self.outcome,
            received: 0,
            sent: 13,
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            client: self.client.as_bytes(),
            upstream: b"10.0.43.175:8080",
        };
        self.lines.write(&record, &mut self.batch);
        &self.batch
    }
}

impl Default for Logged {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_each_other_until_they_are_handed_over() {
        let mut logged = Logged::new();
        let one = logged.batch.len();
        let line = String::from_utf8(logged.batch.clone()).unwrap();
        assert!(line.ends_with("}\n") && line.contains("\"reason\":\"pinned\""), "{line}");
        assert_eq!(logged.line(b"GET", b"/").len(), 2 * one);
        for _ in 2..LINES {
            logged.line(b"GET", b"/");
        }
        let escaped = line.replace("\"/\"", "\"/\\\"\"");
        assert_eq!(logged.line(b"GET", b"/\""), escaped.as_bytes());
    }
}
