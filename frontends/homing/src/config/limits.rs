//! The `limits` block: every bound and time-out of the core under its own name, with units.

use homing_core::limits::{FIELDS_MAX, HEADROOM, Limits, WINDOW_LARGE};

use super::error::Problems;
use super::reader::{Fields, size, time, whole};
use super::tree::Node;

/// The smallest head that still holds a browser's request.
const HEAD_MIN: u64 = 1024;
const HEAD_MAX: u64 = (WINDOW_LARGE - HEADROOM) as u64;

/// Reads the block; what is not written keeps its default.
pub(super) fn limits(node: &Node, problems: &mut Problems) -> Option<Limits> {
    let mut fields = Fields::open(node, "`limits`", problems)?;
    let mut limits = Limits::default();
    sizes(&mut fields, &mut limits, problems);
    counts(&mut fields, &mut limits, problems);
    times(&mut fields, &mut limits, problems);
    fields.finish(problems);
    Some(limits)
}

fn sizes(fields: &mut Fields<'_>, limits: &mut Limits, problems: &mut Problems) {
    let mut head = |key, to: &mut usize| {
        if let Some(bytes) = fields.optional(key, problems, size(HEAD_MIN..=HEAD_MAX)) {
            *to = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
    };
    head("requestHead", &mut limits.request_head_bytes);
    head("responseHead", &mut limits.response_head_bytes);
    limits.request_body_bytes = fields.optional("requestBody", problems, size(0..=u64::MAX));
    if let Some(bytes) = fields.optional("discard", problems, size(0..=u64::MAX)) {
        limits.discard_bytes = bytes;
    }
}

fn counts(fields: &mut Fields<'_>, limits: &mut Limits, problems: &mut Problems) {
    if let Some(count) = fields.optional("fields", problems, whole(1..=FIELDS_MAX as u64)) {
        limits.fields = usize::try_from(count).unwrap_or(FIELDS_MAX);
    }
    let mut count = |key, from: u64, to: &mut u32| {
        if let Some(count) = fields.optional(key, problems, whole(from..=u32::MAX.into())) {
            *to = u32::try_from(count).unwrap_or(u32::MAX);
        }
    };
    count("connections", 1, &mut limits.connections);
    count("hostConnections", 0, &mut limits.host_connections);
    count("hostPending", 0, &mut limits.host_pending);
    count("hostIdle", 0, &mut limits.host_idle);
}

fn times(fields: &mut Fields<'_>, limits: &mut Limits, problems: &mut Problems) {
    for (key, to) in [
        ("requestHeadTimeout", &mut limits.request_head_timeout),
        ("bodyIdleTimeout", &mut limits.body_idle_timeout),
        ("connectTimeout", &mut limits.connect_timeout),
        ("responseTimeout", &mut limits.response_timeout),
        ("keepAliveTimeout", &mut limits.keep_alive_timeout),
        ("tunnelIdleTimeout", &mut limits.tunnel_idle_timeout),
        ("linkIdleTimeout", &mut limits.link_idle_timeout),
        ("pendingTimeout", &mut limits.pending_timeout),
        ("drainTimeout", &mut limits.drain_timeout),
        ("lingerTimeout", &mut limits.linger_timeout),
    ] {
        if let Some(wait) = fields.optional(key, problems, time) {
            *to = wait;
        }
    }
}
