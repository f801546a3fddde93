//! Event streams that hand out a session in a URL: which responses are rewritten, and how they pass.
//!
//! A response is rewritten when its session travels so, it is a 200 with a body of `text/event-stream`, and it is not
//! encoded. All others pass as they are. The stream's framing is taken off and put on anew, in chunks for a client that
//! reads them: what the upstream said about the length does not hold any more.

use super::super::body::Body;
use super::super::{Exchange, Step};
use crate::affinity::{EndpointEdit, Policy};
use crate::http1::{EndpointFate, Pass, ResponseFraming, ResponseHead, Splicer, Version, field, list};
use crate::limits::HEADROOM;
use crate::stats::{Ending, Stream};
use crate::window::Window;
use crate::worker::Worker;

/// What the head of a rewritten stream must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reframed {
    /// The length that it states is wrong now, and chunks take its place if the client reads them.
    pub(super) chunked: bool,
    /// `cache-control: private` is to be added.
    pub(super) no_cache: bool,
}

impl Exchange {
    /// Decides whether the response that begins with `head` is to be rewritten, and begins. Called once its head is final
    /// and before that is edited.
    pub(super) fn begin_stream(&mut self, head: &ResponseHead<'_>, worker: &mut Worker) -> Option<Reframed> {
        let policy = self.attempt.policy().filter(|policy| policy.sse_parameter().is_some())?;
        if head.status != 200 || head.framing == ResponseFraming::Empty || !is_event_stream(head) {
            return None;
        }
        if is_encoded(head) {
            self.attempt.outcome.stream = Some(Stream::Encoded);
            return None;
        }
        let host = self.attempt.host().and_then(|at| self.attempt.snapshot()?.host(at))?;
        let routed = self.attempt.routed()?;
        let edit = routed.endpoint_edit(policy, host.address(), &mut worker.scratch.value);
        let EndpointEdit::Append { no_cache } = edit else { return None };
        // To HTTP/1.0, and where the upstream ends with its connection, the client's end is told in the same way.
        let chunked = self.asked.version == Version::Http11 && head.framing != ResponseFraming::UntilClose;
        let mut splicer = worker.splicers.pop().unwrap_or_default();
        if !splicer.begin(&worker.scratch.value, chunked) {
            return None;
        }
        self.splicer = Some(splicer);
        self.attempt.outcome.stream = Some(Stream::NoEndpoint);
        self.persist &= chunked;
        Some(Reframed { chunked, no_cache })
    }

    /// As [`Exchange::pass_response`], for a stream that is rewritten. The head leaves by itself.
    pub(super) fn pass_stream(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if self.outbound.cleared > 0 {
            return Step::Send(self.outbound.cleared);
        }
        match self.rewrite(window, worker) {
            Some(0) => {}
            Some(ready) => {
                self.outbound.cleared = ready;
                self.outbound.passed += ready as u64;
                return Step::Send(ready);
            }
            None => {
                // As with any broken body: nobody may take this for a whole response.
                self.abort(Ending::UpstreamMalformed, worker);
                return Step::Hold;
            }
        }
        let done = self.splicer.as_ref().is_none_or(|splicer| splicer.has_ended());
        if self.ends_response(done, window, worker) {
            return Step::Hold;
        }
        // What is held stays, so that the head room does not come back by itself.
        window.compact(HEADROOM);
        Step::Fill
    }

    /// Rewrites what has come. How many bytes are to be sent; `None`: the framing is broken.
    fn rewrite(&mut self, window: &mut Window, worker: &mut Worker) -> Option<usize> {
        let splicer = self.splicer.as_deref_mut()?;
        let over = matches!(self.outbound.body, Body::Done);
        if !over && !self.truncated && window.live().len() == splicer.held() {
            return Some(0);
        }
        worker.windows.lend(window);
        if Splicer::needs_room(window) {
            window.compact(HEADROOM);
        }
        if Splicer::needs_room(window) && !worker.windows.promote(window) {
            return None;
        }
        let parameter = self.attempt.policy().and_then(Policy::sse_parameter)?;
        let pass = if self.truncated { Pass::Broken } else { Pass::Ongoing };
        let body = &mut self.outbound.body;
        let passed = splicer.pass(window, parameter.as_bytes(), pass, |bytes| body.next(bytes)).ok()?;
        self.attempt.outcome.minted |= passed.inserted;
        if let Some(fate) = splicer.fate() {
            self.attempt.outcome.stream = Some(match fate {
                EndpointFate::Rewritten => Stream::Rewritten,
                EndpointFate::NoSession => Stream::NoSession,
                EndpointFate::TooLong => Stream::TooLong,
                EndpointFate::Unfinished => Stream::Unfinished,
            });
        }
        Some(passed.ready)
    }
}

/// RFC 9110 §8.3.1: a media type without regard to case and to parameters.
fn is_event_stream(head: &ResponseHead<'_>) -> bool {
    let Some(value) = field(head.fields, b"content-type") else { return false };
    let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// RFC 9110 §8.4: any coding that is not `identity`, which says nothing.
fn is_encoded(head: &ResponseHead<'_>) -> bool {
    let lines = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"content-encoding"));
    lines.flat_map(|line| list(line.value)).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}
