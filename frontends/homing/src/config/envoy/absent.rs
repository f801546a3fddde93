//! Fields and values of Envoy's that Homing does not honour, by the feature that they ask for.

use super::super::reader::suggest;
use super::message::camel;

/// Field (or enum value), and what it asks for. The names are those of the conformance suite's list of what is absent,
/// where that has one.
const FEATURES: [(&str, &str); 57] = [
    ("CLUSTER_PROVIDED", "aggregate clusters, nor others of a type of their own"),
    ("EDS", "discovery of endpoints"),
    ("HTTP2", "http/2"),
    ("HTTP3", "http/3"),
    ("LOGICAL_DNS", "clusters that follow one name; STRICT_DNS takes all its addresses"),
    ("MAGLEV", "consistent hashing"),
    ("ORIGINAL_DST", "clusters of the original destination"),
    ("RING_HASH", "consistent hashing"),
    ("access_log_options", "access log of this form"),
    ("active_health_check", "active health checks"),
    ("additional_addresses", "further addresses of one host"),
    ("api_listener", "listener of this kind"),
    ("cds_config", "xDS"),
    ("circuit_breakers", "circuit breakers"),
    ("cluster_header", "choice of a cluster by a request's header"),
    ("cluster_specifier_plugin", "choice of a cluster by a plug-in"),
    ("cluster_type", "aggregate clusters, nor others of a type of their own"),
    ("config_discovery", "xDS"),
    ("cors", "CORS"),
    ("dns_refresh_rate", "second look at a name: names are resolved once, at start"),
    ("dns_resolvers", "resolver but the system's"),
    ("dynamic_resources", "xDS"),
    ("fail_traffic_on_panic", "panic that refuses all requests"),
    ("filter_chain_match", "choice among filter chains"),
    ("grpc", "match on gRPC"),
    ("hash_policy", "consistent hashing"),
    ("headers", "match on a request's headers"),
    ("health_checks", "active health checks"),
    ("hedge_policy", "hedging"),
    ("http2_protocol_options", "http/2"),
    ("http3_protocol_options", "http/3"),
    ("internal_redirect_policy", "internal redirects"),
    ("layered_runtime", "runtime layers"),
    ("lb_subset_config", "subset balancing"),
    ("listener_filters", "listener filters"),
    ("load_balancing_policy", "balancing by extension; `lb_policy` chooses"),
    ("locality_weighted_lb_config", "weights of localities"),
    ("lrs_config", "load reports"),
    ("matcher", "matching trees"),
    ("metadata_match", "subset balancing"),
    ("outlier_detection", "outlier detection"),
    ("overload_manager", "overload manager"),
    ("path_separated_prefix", "match on whole segments; two routes, with `path` and `prefix`, do the same"),
    ("path_with_escaped_slashes_action", "unescaping of slashes"),
    ("query_parameters", "match on a query"),
    ("rate_limits", "rate limits"),
    ("rds", "xDS"),
    ("regex_rewrite", "regular expressions"),
    ("request_mirror_policies", "request mirroring"),
    ("require_tls", "TLS"),
    ("safe_regex", "regular expressions"),
    ("scoped_routes", "xDS"),
    ("secrets", "TLS"),
    ("tracing", "tracing"),
    ("transport_socket", "TLS"),
    ("transport_socket_matches", "TLS"),
    ("zone_aware_lb_config", "zones"),
];

/// What a field or a value asks for, in either spelling.
pub(super) fn feature(name: &str) -> Option<&'static str> {
    FEATURES.iter().find(|(field, _)| *field == name || camel(field) == name).map(|(_, feature)| *feature)
}

/// What to say about a field that is not honoured, where these are.
pub(super) fn explain(field: &str, known: &[&str]) -> (String, String) {
    if let Some(feature) = feature(field) {
        return (format!("Homing has no {feature}"), "remove this field, or leave its job to Envoy".into());
    }
    let near = suggest(field, known);
    let remedy =
        if near.starts_with("did you mean") { near } else { "remove it, or leave its job to Envoy".into() };
    ("Homing does not honour this field".into(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_by_what_it_asks_for() {
        assert_eq!(feature("circuitBreakers"), Some("circuit breakers"));
        assert_eq!(explain("strcit", &["strict"]).1, "did you mean `strict`?");
        assert_eq!(explain("zzz", &["strict"]).1, "remove it, or leave its job to Envoy");
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(FEATURES.is_sorted_by(|one, next| one.0 < next.0));
    }
}
