//! A vector's configuration, in the forms in which Envoy and the recorder write it. Every field is known by name: one
//! that is not is an error. What Homing makes of it is in [`super::setup`].

use std::collections::BTreeMap;
use std::time::Duration;

use homing_core::affinity::{CarrierSpec, CookieSpec, PolicySpec};
use homing_core::field::{FieldName, Status};
use homing_core::hosts::Health;
use serde::Deserialize;
use serde_json::Value;

use super::WrittenText;
use super::setup::Refusal;

/// In front of the names of message types.
const TYPES: &str = "type.googleapis.com/";

/// The configuration of one vector.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(super) session_state: Option<SessionState>,
    #[serde(default)]
    pub(super) strict: bool,
    #[serde(rename = "status_on_strict_destination_not_found")]
    pub(super) gone_status: Option<u32>,
    pub(super) stat_prefix: Option<String>,
    pub(super) cluster: Option<Value>,
    pub(super) virtual_hosts: Option<Vec<VirtualHostConfig>>,
    pub(super) hcm: Option<ConnectionManager>,
    #[serde(default)]
    pub(super) filters_before: Vec<NamedFilter>,
    /// Always null: the listener has no filter under its usual name.
    #[serde(default, rename = "stateful_session_filter", deserialize_with = "present")]
    pub(super) has_no_filter: bool,
    #[serde(rename = "note")]
    _note: Option<String>,
    // `config` vectors
    pub(super) filter: Option<Value>,
    pub(super) routes: Option<Value>,
    pub(super) typed_per_filter_config: Option<Value>,
}

/// A field that counts by being there.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Option::<()>::deserialize(from).map(|_| true)
}

/// A carrier, as the vectors write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub(super) enum SessionState {
    #[serde(rename = "CookieBasedSessionState")]
    Cookie {
        #[serde(default)]
        cookie: Cookie,
    },
    #[serde(rename = "HeaderBasedSessionState")]
    Header {
        #[serde(default)]
        name: String,
    },
    #[serde(rename = "EnvelopeSessionState")]
    Envelope {
        #[serde(default)]
        header: EnvelopeHeader,
    },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvelopeHeader {
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cookie {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) path: String,
    pub(super) ttl: Option<String>,
    #[serde(default)]
    pub(super) attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attribute {
    #[serde(deserialize_with = "whole")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "whole")]
    pub(super) value: String,
}

/// Text that may be written with runs.
fn whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    WrittenText::deserialize(from).map(WrittenText::whole)
}

/// A filter in front of the router, as Envoy writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedFilter {
    pub(super) name: String,
    #[serde(default)]
    pub(super) disabled: bool,
    pub(super) typed_config: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionManager {
    #[serde(default)]
    pub(super) upgrade_configs: Vec<Value>,
    #[serde(default)]
    pub(super) normalize_path: bool,
    #[serde(default)]
    pub(super) merge_slashes: bool,
    #[serde(default)]
    pub(super) use_remote_address: bool,
    pub(super) codec_type: Option<String>,
    #[serde(rename = "http_protocol_options")]
    _http_protocol_options: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VirtualHostConfig {
    pub(super) name: String,
    pub(super) domains: Vec<String>,
    pub(super) routes: Vec<RouteConfig>,
    #[serde(default)]
    pub(super) typed_per_filter_config: Overrides,
}

pub(super) type Overrides = BTreeMap<String, Value>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteConfig {
    #[serde(rename = "match")]
    pub(super) path: PathConfig,
    pub(super) route: Option<RouteAction>,
    pub(super) redirect: Option<RedirectConfig>,
    pub(super) direct_response: Option<DirectResponse>,
    #[serde(default)]
    pub(super) typed_per_filter_config: Overrides,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PathConfig {
    Prefix(String),
    Path(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteAction {
    pub(super) cluster: Option<String>,
    pub(super) weighted_clusters: Option<WeightedClusters>,
    pub(super) prefix_rewrite: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) retry_policy: Option<RetryPolicy>,
    pub(super) metadata_match: Option<Value>,
    pub(super) request_mirror_policies: Option<Value>,
    pub(super) hash_policy: Option<Value>,
    pub(super) hedge_policy: Option<Value>,
    pub(super) internal_redirect_policy: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightedClusters {
    pub(super) clusters: Vec<WeightedEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightedEntry {
    pub(super) name: String,
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) typed_per_filter_config: Overrides,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryPolicy {
    pub(super) retry_on: String,
    pub(super) num_retries: u8,
    pub(super) per_try_timeout: Option<String>,
    // Homing always prefers another host.
    #[serde(rename = "retry_host_predicate")]
    _retry_host_predicate: Option<Value>,
    #[serde(rename = "host_selection_retry_max_attempts")]
    _host_selection_retry_max_attempts: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedirectConfig {
    pub(super) path_redirect: Option<String>,
    #[serde(default)]
    pub(super) https_redirect: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectResponse {
    pub(super) status: u16,
    pub(super) body: InlineBody,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InlineBody {
    pub(super) inline_string: String,
}

/// A cluster, as the vectors write it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    pub(super) hosts: Vec<HostConfig>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) lb_policy: Option<String>,
    pub(super) common_lb_config: Option<CommonLb>,
    // Their findings are in the vector's `health`.
    #[serde(rename = "health_checks")]
    _health_checks: Option<Value>,
    pub(super) outlier_detection: Option<Value>,
    pub(super) circuit_breakers: Option<Value>,
    pub(super) lb_subset_config: Option<Value>,
}

impl ClusterConfig {
    /// Round robin over these.
    pub(super) fn plain(hosts: &[String]) -> Self {
        Self { hosts: hosts.iter().cloned().map(HostConfig::Plain).collect(), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommonLb {
    pub(super) override_host_status: Option<Statuses>,
    pub(super) zone_aware_lb_config: Option<ZoneAware>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statuses {
    pub(super) statuses: Vec<HealthStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneAware {
    pub(super) fail_traffic_on_panic: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum HostConfig {
    Plain(String),
    Full(FullHost),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullHost {
    pub(super) address: String,
    pub(super) health_status: Option<HealthStatus>,
    #[serde(default)]
    pub(super) priority: u8,
    pub(super) weight: Option<u16>,
    // Names and further addresses never match (addr-082 to addr-091).
    #[serde(rename = "hostname")]
    _hostname: Option<String>,
    #[serde(default, rename = "additional")]
    _additional: Vec<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
}

/// Envoy's six.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthStatus {
    /// Nothing is known.
    Unknown,
    /// Checks pass.
    Healthy,
    /// Checks fail.
    Unhealthy,
    /// It is drained.
    Draining,
    /// A check took too long.
    Timeout,
    /// It is worse than others.
    Degraded,
}

impl HealthStatus {
    /// The core's name for it.
    pub const fn core(self) -> Health {
        match self {
            Self::Unknown => Health::Unknown,
            Self::Healthy => Health::Healthy,
            Self::Unhealthy => Health::Unhealthy,
            Self::Draining => Health::Draining,
            Self::Timeout => Health::Timeout,
            Self::Degraded => Health::Degraded,
        }
    }
}

/// A `StatefulSession`, in the vectors' form or in Envoy's.
#[derive(Debug, Default)]
pub(super) struct StatefulSession {
    pub(super) state: Option<SessionState>,
    pub(super) strict: bool,
    pub(super) gone_status: Option<u32>,
    pub(super) stat_prefix: Option<String>,
}

/// As Envoy writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStatefulSession {
    #[serde(rename = "@type")]
    kind: Option<String>,
    session_state: Option<Extension>,
    #[serde(default)]
    strict: bool,
    #[serde(rename = "status_on_strict_destination_not_found")]
    gone_status: Option<u32>,
    stat_prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    name: String,
    typed_config: serde_json::Map<String, Value>,
}

impl StatefulSession {
    pub(super) fn read(value: Value) -> Result<Self, Refusal> {
        let form = |error: serde_json::Error| Refusal::Form(error.to_string());
        let written: WrittenStatefulSession = serde_json::from_value(value).map_err(form)?;
        if written.kind.is_some_and(|kind| !kind.ends_with(".StatefulSession")) {
            return Err(Refusal::Form("another filter".into()));
        }
        let state = match written.session_state {
            None => None,
            Some(extension) => Some(extension.state()?),
        };
        Ok(Self {
            state,
            strict: written.strict,
            gone_status: written.gone_status,
            stat_prefix: written.stat_prefix,
        })
    }

    /// None: there is no session state, so nothing is done.
    pub(super) fn policy(&self) -> Result<Option<PolicySpec>, Refusal> {
        let Some(state) = &self.state else { return Ok(None) };
        let field = |name: &str| FieldName::new(name).map_err(Refusal::Field);
        let carrier = match state {
            SessionState::Cookie { cookie } => CarrierSpec::Cookie(CookieSpec {
                name: cookie.name.as_str().into(),
                path: cookie.path.as_str().into(),
                ttl: cookie.ttl.as_deref().map_or(Ok(Duration::ZERO), duration)?,
                attributes: cookie
                    .attributes
                    .iter()
                    .map(|attribute| (attribute.name.as_str().into(), attribute.value.as_str().into()))
                    .collect(),
            }),
            SessionState::Header { name } => CarrierSpec::Header { name: field(name)? },
            SessionState::Envelope { header } => CarrierSpec::Envelope { name: field(&header.name)? },
        };
        // Zero is Envoy's way to say "the default".
        let gone_status = match self.gone_status.filter(|&status| status != 0 && self.strict) {
            None => Status::UNAVAILABLE,
            Some(status) => Status::new(u16::try_from(status).unwrap_or(u16::MAX)).map_err(Refusal::Field)?,
        };
        Ok(Some(PolicySpec {
            carrier,
            strict: self.strict,
            gone_status,
            clear_dead: false,
            hide_from_upstream: false,
            no_cache: false,
            renew_before: None,
        }))
    }
}

impl Extension {
    fn state(mut self) -> Result<SessionState, Refusal> {
        let kind = self.typed_config.remove("@type");
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
        let kind = kind.rsplit('.').next().unwrap_or_default();
        let named = match self.name.strip_prefix("envoy.http.stateful_session.") {
            Some("cookie") => "CookieBasedSessionState",
            Some("header") => "HeaderBasedSessionState",
            Some("envelope") => "EnvelopeSessionState",
            _ => return Err(Refusal::Form(format!("unknown session state {:?}", self.name))),
        };
        if kind != named {
            return Err(Refusal::Form(format!("{:?} is not made of {kind:?}", self.name)));
        }
        self.typed_config.insert("kind".into(), kind.into());
        serde_json::from_value(Value::Object(self.typed_config))
            .map_err(|error| Refusal::Form(error.to_string()))
    }
}

/// What a more specific place says.
pub(super) enum PerRoute {
    Disabled,
    Session(StatefulSession),
}

/// As Envoy writes it, bare or wrapped in a `FilterConfig`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPerRoute {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(default)]
    disabled: bool,
    // Whether Envoy must know the filter.
    #[serde(rename = "is_optional")]
    _is_optional: Option<bool>,
    stateful_session: Option<Value>,
    config: Option<Value>,
}

impl PerRoute {
    pub(super) fn read(value: Value) -> Result<Self, Refusal> {
        let form = |error: serde_json::Error| Refusal::Form(error.to_string());
        let written: WrittenPerRoute = serde_json::from_value(value).map_err(form)?;
        match (written.disabled, written.stateful_session, written.config) {
            (true, None, None) => Ok(Self::Disabled),
            (false, Some(session), None) => StatefulSession::read(session).map(Self::Session),
            (false, None, Some(inner)) => Self::read(inner),
            _ => {
                Err(Refusal::Form(format!("{} says both or neither", written.kind.trim_start_matches(TYPES))))
            }
        }
    }
}

/// A protobuf duration in JSON: decimal seconds with an `s`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let wrong = || Refusal::Form(format!("{text:?} is not a duration such as \"1.5s\""));
    let number = text.strip_suffix('s').ok_or_else(wrong)?;
    let (whole, nanos) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    if nanos.len() > 9 {
        return Err(wrong());
    }
    let nanos: u32 = format!("{nanos:0<9}").parse().map_err(|_| wrong())?;
    Ok(Duration::new(whole, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("0.000000001s"), Ok(Duration::from_nanos(1)));
        assert_eq!(duration("1.9s"), Ok(Duration::from_millis(1900)));
        for text in ["60", "1m", "-1s", "", "s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
