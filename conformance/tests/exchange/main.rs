//! What one client connection does, feature by feature, in memory. Every scenario runs several ways: plain, then with
//! seeded segmentation, short writes, missed turns and both kinds of shell.

mod bodies;
mod connections;
mod edits;
mod failures;
mod interim;
mod limits;
mod malformed;
mod routes;
mod streams;
mod tunnels;

use std::time::Duration;

use homing_conformance::build::Builder;
use homing_conformance::memory::{Act, ClientId, Knobs, Lab, answer};
use homing_conformance::message::Request;
use homing_core::stats::Ending;

const HOST: &str = "10.0.0.1:80";
const OTHER: &str = "10.0.0.2:80";
const GET: &str = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";

/// Runs `scenario` with a dozen seeds; the first is plain.
fn ways(scenario: impl Fn(u64)) {
    for seed in 0..12 {
        let told = Told(seed);
        scenario(seed);
        drop(told);
    }
}

/// Says which seed it was when a scenario fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the scenario's seed is {}", self.0);
        }
    }
}

fn lab(mut builder: Builder, seed: u64) -> Lab {
    let knobs = if seed == 0 { Knobs::PLAIN } else { Knobs::drawn(seed) };
    Lab::new(builder.build(), seed).rough(knobs)
}

/// One host that answers every request with `response`.
fn one_host(response: &'static str, seed: u64) -> Lab {
    lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| answer(response))
}

/// A client that sends `text`, and all that follows from it without the clock moving.
fn sent(lab: &mut Lab, text: impl AsRef<[u8]>) -> ClientId {
    let id = lab.client();
    lab.client_send(id, text);
    lab.run();
    id
}

fn text(lab: &Lab, id: ClientId) -> String {
    String::from_utf8_lossy(lab.client_received(id)).into_owned()
}

fn statuses(lab: &Lab, id: ClientId) -> Vec<u16> {
    lab.client_responses(id, &[]).iter().map(|response| response.status).collect()
}

fn endings(lab: &Lab) -> Vec<Ending> {
    lab.outcomes().iter().map(|record| record.outcome.ending).collect()
}

fn ok(body: &str) -> Vec<Act> {
    answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// The client reads the rest, closes, and the connection is over.
fn leaves(lab: &mut Lab, id: ClientId) {
    lab.client_half_close(id);
    lab.run();
    assert!(lab.client_is_closed(id), "{:?}", lab.client_states(id));
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
