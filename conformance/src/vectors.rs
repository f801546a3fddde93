//! The recorded decisions of Envoy 1.40.0, one per line of `vectors/vectors.jsonl`, and what becomes of them here.
//!
//! ```text
//!  vectors.jsonl ─ Vector ─ setup ──┬─ Setup ─ run ─ Run ─ compare ─┬─ no difference: same
//!                                   │                               └─ differences ─ ledger ─ divergence (rows)
//!                                   ├─ Refusal::Invalid ─────────────────────────── ledger ─ divergence (rows)
//!                                   └─ Refusal::Absent(feature) ──────────────────────────── feature absent
//! ```
//!
//! A vector's class is computed, never looked up; the committed lists in `vectors/` say what it must be. What counts as
//! a difference is written down in [`crate::projection`], and what each row of the ledger explains in [`ledger`].
//! The format of a line is described in the README beside this crate.

pub mod classes;
pub mod compare;
pub mod config;
pub mod counters;
pub mod ledger;
pub mod moved;
pub mod run;
pub mod setup;
pub mod table;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The vectors as text, one JSON object a line.
pub const TEXT: &str = include_str!("../vectors/vectors.jsonl");

/// Parses all vectors, in the order of the file.
///
/// # Errors
/// Names the line that cannot be read, and why.
pub fn all() -> Result<Vec<Vector>, String> {
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("vectors.jsonl line {}: {error}", at + 1))
    };
    TEXT.lines().enumerate().map(parse).collect()
}

/// One recorded decision: configuration, request, and what Envoy made of it.
#[derive(Debug, Deserialize)]
pub struct Vector {
    /// Names it: `pb-053`, say. The part before the number is the case's topic.
    pub id: String,
    /// What it is about.
    pub mode: Mode,
    /// For people.
    pub note: String,
    /// The filter's and the listener's configuration.
    pub config: config::Config,
    /// The cluster, where it is more than plain round robin over `hosts`.
    pub cluster: Option<config::ClusterConfig>,
    /// The clusters that the virtual hosts name.
    #[serde(default)]
    pub clusters: BTreeMap<String, config::ClusterConfig>,
    /// What active checks or outlier detection had found when the request was sent.
    #[serde(default)]
    pub health: BTreeMap<String, config::HealthStatus>,
    /// The addresses of the cluster's hosts.
    pub hosts: Vec<String>,
    /// The wall clock when the request was sent, in Unix seconds.
    #[serde(default)]
    pub now: u64,
    /// The request; none in `config` vectors.
    pub request: Option<Request>,
    /// What the upstream hosts answer.
    #[serde(default)]
    pub upstream_behaviour: Behaviour,
    /// The token in the request, where the case is about one.
    pub token: Option<Token>,
    /// What Envoy did.
    pub observed: Observed,
}

/// The token in a request. Where its parts are of interest, they are listed too: `hex`, `text`, `parts`, `expires`.
#[derive(Debug, Deserialize)]
pub struct Token {
    /// The address it names.
    pub address: Option<String>,
}

/// What a vector is about.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A token in a cookie.
    Cookie,
    /// A token in a header.
    Header,
    /// A token around the upstream's own session header.
    Envelope,
    /// Hosts, health, retries, routes.
    Routing,
    /// Settings of virtual hosts, routes and weighted entries.
    PerRoute,
    /// HTTP around it all.
    Hcm,
    /// Accepting or rejecting a configuration.
    Config,
}

impl Mode {
    /// All modes, in the order in which they are reported.
    pub const ALL: [Self; 7] =
        [Self::Cookie, Self::Header, Self::PerRoute, Self::Envelope, Self::Routing, Self::Hcm, Self::Config];

    /// The name used in the vectors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::Envelope => "envelope",
            Self::Routing => "routing",
            Self::PerRoute => "perroute",
            Self::Hcm => "hcm",
            Self::Config => "config",
        }
    }
}

/// Bytes as the file writes them: one character is one byte, and long runs are counted.
#[derive(Clone, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "WrittenText")]
pub struct Text(pub Vec<u8>);

/// The two ways in which text is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenText {
    Plain(String),
    Runs { runs: Vec<(String, usize)> },
}

impl WrittenText {
    fn whole(self) -> String {
        match self {
            Self::Plain(text) => text,
            Self::Runs { runs } => runs.iter().map(|(text, times)| text.repeat(*times)).collect(),
        }
    }
}

impl TryFrom<WrittenText> for Text {
    type Error = String;

    fn try_from(written: WrittenText) -> Result<Self, String> {
        latin1(&written.whole()).map(Self)
    }
}

/// The bytes that `text` stands for.
fn latin1(text: &str) -> Result<Vec<u8>, String> {
    let byte = |char: char| u8::try_from(char).map_err(|_| format!("{char:?} is not one byte"));
    text.chars().map(byte).collect()
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Field lines in order: name and value.
pub type Fields = Vec<(Text, Text)>;

/// The request. Besides what is listed, `host: t.example` and `x-vec-id` were sent.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target.
    pub path: Text,
    /// Field lines.
    pub headers: Fields,
    /// The value of `host` where it was another one.
    pub host: Option<String>,
    /// The body; its length was sent as `content-length`.
    pub body: Option<Text>,
    /// The bytes on the wire; they replace all of the above.
    pub raw: Option<Text>,
    /// The bytes on the wire, in segments.
    pub raw_segments: Option<Vec<Text>>,
    /// `HTTP/2`, where it was.
    pub protocol: Option<String>,
}

/// What the upstream hosts answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// The status; 200.
    pub status: Option<u16>,
    /// Field lines in front of `x-be`, which names the host.
    #[serde(default)]
    pub headers: Fields,
    /// The bytes on the wire; they replace the answer. The host closes behind them.
    pub raw: Option<Text>,
    /// Whether the host closes behind `raw`; it does unless told otherwise.
    pub close: Option<bool>,
    /// Chunks of a chunked body.
    pub chunks: Option<Vec<Text>>,
    /// Seconds until the answer.
    pub delay: Option<f64>,
    /// The host resets the connection instead of answering.
    pub reset: Option<u8>,
    /// These hosts behave differently.
    #[serde(default)]
    pub by_host: BTreeMap<String, Self>,
    /// The first attempts behave like these, further ones like the last.
    #[serde(default)]
    pub by_attempt: Vec<Self>,
}

impl Behaviour {
    /// How `host` behaves at the request's try of this number, counted from zero.
    pub fn of_try(&self, host: &str, number: usize) -> &Self {
        let of_try = self.by_attempt.get(number).or(self.by_attempt.last()).unwrap_or(self);
        of_try.by_host.get(host).unwrap_or(of_try)
    }
}

/// What Envoy did.
#[derive(Debug, Deserialize)]
pub struct Observed {
    /// The status of the final response; none in `config` vectors and where the connection just closed.
    pub status: Option<u16>,
    /// How the host was chosen.
    pub chosen_by: Option<String>,
    /// The host that answered the first repetition.
    pub upstream: Option<String>,
    /// The host that answered, per repetition.
    #[serde(default)]
    pub repeats: Vec<Option<String>>,
    /// The status per repetition, where they differ.
    pub repeat_statuses: Option<Vec<u16>>,
    /// The session cookie that was set.
    pub set_cookie: Option<Text>,
    /// The response's field lines, in order.
    #[serde(default)]
    pub response_headers: Fields,
    /// The name of the session header, as configured.
    pub response_header_name: Option<Text>,
    /// The body.
    #[serde(default)]
    pub body: Text,
    /// Interim responses.
    #[serde(default)]
    pub interim: Vec<(u16, Fields)>,
    /// The request as the last host of the first repetition received it.
    pub upstream_saw: Option<Saw>,
    /// The hosts of each try, per repetition, where one had several.
    pub attempts: Option<Vec<Vec<String>>>,
    /// Envoy's counters over all repetitions.
    #[serde(default)]
    pub stats_delta_over_repeats: BTreeMap<String, u64>,
    /// What the access log said.
    pub log: Option<Log>,
    /// `config`: whether the configuration was accepted.
    pub accepted: Option<bool>,
    /// `config`: the message.
    pub error: Option<String>,
}

/// A request as a host received it.
#[derive(Debug, Deserialize)]
pub struct Saw {
    /// The method.
    #[serde(default)]
    pub method: String,
    /// The target.
    pub path: Text,
    /// Field lines in order.
    pub headers: Fields,
    /// The body, without framing.
    #[serde(default)]
    pub body: Text,
}

/// What the access log said.
#[derive(Debug, Deserialize)]
pub struct Log {
    /// Envoy's response flags.
    pub flags: Option<String>,
    /// Envoy's response code details.
    pub details: Option<String>,
}

impl Vector {
    /// The topic: the id without its number.
    pub fn topic(&self) -> &str {
        self.id.rsplit_once('-').map_or(self.id.as_str(), |(topic, _)| topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_vector_with_a_name_of_its_own() {
        let vectors = all().unwrap();
        assert_eq!(vectors.len(), 2315);
        let mut ids: Vec<&str> = vectors.iter().map(|vector| vector.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), vectors.len());
    }

    #[test]
    fn a_counted_run_is_written_out() {
        let text: Text = serde_json::from_str(r#"{"runs": [["x: ", 1], ["\u00e9", 3]]}"#).unwrap();
        assert_eq!(text.0, b"x: \xe9\xe9\xe9");
        assert!(serde_json::from_str::<Text>(r#""\u20ac""#).is_err());
    }
}
