//! The response half: from the upstream's head to the last byte for the client.

use super::super::attempt::Decision;
use super::super::body::Body;
use super::super::machine::{RequestState, ResponseState};
use super::super::{Exchange, LinkOrder, Step};
use super::sse::Reframed;
use super::{Extent, edit};
use crate::clock::Tick;
use crate::http1::{
    Fields, Piece, ResponseFraming, ResponseHead, Version, cannot_be_response, head_end, parse_response,
    plain_response,
};
use crate::limits::{HEADROOM, WINDOW_SMALL};
use crate::stats::{Ending, Move};
use crate::window::Window;
use crate::worker::Worker;

/// What a response head calls for.
enum Received {
    /// An interim head is passed on, edited.
    Interim,
    /// An interim head is not passed on: the client speaks HTTP/1.0.
    Dropped,
    /// The protocol changes.
    Switched,
    /// The final head is passed on, edited.
    Final(ResponseFraming),
    /// The request is tried again instead.
    Retry,
    /// It is not HTTP.
    Malformed,
}

impl Exchange {
    pub(in crate::exchange) fn step_response(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if self.stale {
            self.stale = false;
            window.clear();
        }
        match self.machine.response() {
            ResponseState::Idle | ResponseState::Sent | ResponseState::Over => Step::Hold,
            ResponseState::Head => self.read_response(window, worker),
            ResponseState::Interim => Step::Send(self.outbound.cleared),
            ResponseState::Body => self.pass_response(window, worker),
            ResponseState::Answer => self.send_answer(window, worker),
            ResponseState::Tunnel => self.pass_tunnel_back(window),
            ResponseState::Close => Step::HalfClose,
        }
    }

    fn read_response(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        // Asked before anything came: there is nothing to read.
        if window.live().is_empty() {
            return self.read_more_of_head(window, worker);
        }
        let head_max = self.limits(worker).response_head_bytes;
        loop {
            let plain = match self.response_scanned {
                0 => self.read_into_edits(window, Extent::Within(head_max), worker),
                _ => None,
            };
            let (received, length) = match plain {
                Some(read) => read,
                None => match head_end(window.live(), self.response_scanned) {
                    Some(length) if length <= head_max => self
                        .read_into_edits(window, Extent::Exactly(length), worker)
                        .unwrap_or((Received::Malformed, length)),
                    None if window.live().len() < head_max && !cannot_be_response(window.live()) => {
                        return self.read_more_of_head(window, worker);
                    }
                    Some(length) => (Received::Malformed, length),
                    None => (Received::Malformed, 0),
                },
            };
            if let Some(step) = self.receive(received, length, window, worker) {
                return step;
            }
        }
    }

    fn read_more_of_head(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        self.response_scanned = window.live().len();
        if window.has_buffer() && window.spare_len() == 0 {
            window.compact(HEADROOM);
        }
        if window.has_buffer() && window.spare_len() == 0 && !worker.windows.promote(window) {
            self.malformed_response(worker);
            return Step::Hold;
        }
        Step::Fill
    }

    /// A response head is complete. `None`: it was dropped, and the next one may be here already.
    fn receive(
        &mut self,
        received: Received,
        length: usize,
        window: &mut Window,
        worker: &mut Worker,
    ) -> Option<Step> {
        self.response_scanned = 0;
        match received {
            Received::Malformed => {
                self.malformed_response(worker);
                return Some(Step::Hold);
            }
            Received::Retry => {
                self.redial(false);
                return Some(Step::Hold);
            }
            Received::Dropped => {
                window.consume(length);
                return None;
            }
            Received::Interim | Received::Switched | Received::Final(_) => {}
        }
        let Some(cleared) = self.apply_response_edits(window, length, worker) else {
            return Some(Step::Hold);
        };
        self.outbound.cleared = cleared;
        match received {
            Received::Switched => {
                self.switch_protocols(worker);
                Some(self.pass_tunnel_back(window))
            }
            Received::Final(framing) => {
                self.outbound.body = Body::from(framing);
                self.make_room(framing, window, worker);
                self.machine.move_response(ResponseState::Body);
                self.response_due = worker.now.tick.after(self.waits(worker).body_idle);
                Some(self.pass_response(window, worker))
            }
            _ => {
                self.machine.move_response(ResponseState::Interim);
                Some(Step::Send(cleared))
            }
        }
    }

    fn apply_response_edits(
        &mut self,
        window: &mut Window,
        length: usize,
        worker: &mut Worker,
    ) -> Option<usize> {
        let applied = match worker.scratch.edits.apply(window, length) {
            Ok(length) => Some(length),
            Err(_) if worker.windows.promote(window) => worker.scratch.edits.apply(window, length).ok(),
            Err(_) => None,
        };
        if applied.is_none() {
            self.malformed_response(worker);
        }
        applied
    }

    /// Reads a head and notes its edits. `None`: there is no plain head; else what it calls for, and its length.
    fn read_into_edits(
        &mut self,
        window: &Window,
        extent: Extent,
        worker: &mut Worker,
    ) -> Option<(Received, usize)> {
        let live = window.live();
        let mut fields = Fields::new();
        let (to, fields_max) = (self.asked.method, self.limits(worker).fields);
        let head = match extent {
            Extent::Exactly(length) => {
                let bytes = live.get(..length).unwrap_or_default();
                match parse_response(bytes, &mut fields, to, fields_max) {
                    Ok(head) => head,
                    Err(_) => return Some((Received::Malformed, length)),
                }
            }
            Extent::Within(most) => {
                plain_response(live.get(..most).unwrap_or(live), &mut fields, to, fields_max)?
            }
        };
        Some((self.consider_response(&head, worker), head.bytes.len()))
    }

    fn consider_response(&mut self, head: &ResponseHead<'_>, worker: &mut Worker) -> Received {
        if head.status == 101 {
            // A host that switches before it has the whole request speaks of something else.
            let waited_for = self.asked.upgrade && self.machine.request() == RequestState::Paused;
            if !(waited_for && head.connection.upgrade) {
                return Received::Malformed;
            }
            self.attempt.outcome.status = 101;
            self.persist = false;
            self.link_persists = false;
            self.replayable = false;
            self.edit_response(head, None, worker);
            return Received::Switched;
        }
        if head.is_interim() {
            // The upstream has begun to answer: what it has seen may not be sent again.
            self.replayable = false;
            if self.asked.version == Version::Http10 {
                return Received::Dropped;
            }
            edit::interim(head, &mut worker.scratch);
            return Received::Interim;
        }
        if self.calls_for_retry(head.status)
            && matches!(self.attempt.retry(Move::Retried, &mut worker.rng), Decision::Dial)
        {
            return Received::Retry;
        }
        // Where nobody else can be asked, the client gets this answer.
        self.take_final(head, worker);
        let reframed = self.begin_stream(head, worker);
        self.edit_response(head, reframed, worker);
        Received::Final(head.framing)
    }

    /// Takes note of what a final head means for both connections.
    fn take_final(&mut self, head: &ResponseHead<'_>, worker: &Worker) {
        self.replayable = false;
        self.attempt.outcome.status = head.status;
        let until_close = head.framing == ResponseFraming::UntilClose;
        self.link_persists = head.persists() && !until_close;
        self.dechunk = self.asked.version == Version::Http10 && head.framing == ResponseFraming::Chunked;
        if until_close || self.dechunk || worker.stopping {
            self.persist = false;
        }
        let unread = self.machine.request() == RequestState::Cut || !self.inbound.body.is_done();
        let small = self.inbound.body.left().is_some_and(|left| left <= self.discard_left);
        if unread && (self.machine.request() == RequestState::Cut || !small || self.asked.expects_continue) {
            // The client may be sending for long after this answer; it is told that the connection ends with it.
            self.persist = false;
            self.inbound.last = false;
        }
    }

    fn edit_response(&mut self, head: &ResponseHead<'_>, reframed: Option<Reframed>, worker: &mut Worker) {
        let Some(snapshot) = self.attempt.snapshot() else { return };
        let Some(listener) = snapshot.listener(self.listener) else { return };
        let Some(forward) = self.attempt.forward() else { return };
        let context = edit::ResponseContext {
            listener,
            forward,
            session: self.attempt.policy().zip(self.attempt.routed()),
            host: self.attempt.host().and_then(|at| snapshot.host(at)),
            client: self.asked.version,
            persist: self.persist,
            dechunk: self.dechunk,
            reframed,
        };
        let minted = edit::response(head, &context, &mut worker.scratch, worker.now.wall);
        self.attempt.outcome.minted = minted;
    }

    fn calls_for_retry(&self, status: u16) -> bool {
        if !matches!(status, 500..=599) {
            return false;
        }
        let Some(forward) = self.attempt.forward() else { return false };
        let on = forward.retry.on;
        let called = on.server_error || (on.gateway_error && matches!(status, 502..=504));
        called && self.may_retry() && self.outcome().tries <= forward.retry.attempts
    }

    /// A large body gets a large window, so that fewer calls carry it.
    fn make_room(&self, framing: ResponseFraming, window: &mut Window, worker: &mut Worker) {
        let large = match framing {
            ResponseFraming::Fixed(length) => length.get() > WINDOW_SMALL as u64,
            ResponseFraming::Empty | ResponseFraming::Chunked | ResponseFraming::UntilClose => false,
        };
        if large {
            worker.windows.promote(window);
        }
    }

    fn pass_response(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if self.splicer.is_some() {
            return self.pass_stream(window, worker);
        }
        let cleared =
            if self.dechunk { self.clear_data(window) } else { self.outbound.clear(window.live()).is_ok() };
        if !cleared {
            // The head is on its way: all that can be done is to make sure that nobody takes this for a whole response.
            self.abort(Ending::UpstreamMalformed, worker);
            return Step::Hold;
        }
        if self.outbound.cleared > 0 {
            return Step::Send(self.outbound.cleared);
        }
        if self.ends_response(self.outbound.body.is_done(), window, worker) {
            return Step::Hold;
        }
        if window.has_buffer() && window.spare_len() == 0 {
            window.compact(HEADROOM);
        }
        Step::Fill
    }

    /// De-chunks for an HTTP/1.0 client: framing is dropped, data is cleared span by span. False: the framing is broken.
    fn clear_data(&mut self, window: &mut Window) -> bool {
        while self.outbound.cleared == 0 {
            let Body::Chunked(chunks) = &mut self.outbound.body else { return true };
            match chunks.next(window.live()) {
                Ok(Piece::Framing(count)) => window.consume(count),
                Ok(Piece::Data(count)) => {
                    self.outbound.cleared = count;
                    self.outbound.passed += count as u64;
                }
                Ok(Piece::More) => return true,
                Ok(Piece::Done) => self.outbound.body = Body::Done,
                Err(_) => return false,
            }
        }
        true
    }

    /// All that has come was sent: ends the response if it is complete (`done`) or broke off. True: it has ended.
    pub(super) fn ends_response(&mut self, done: bool, window: &mut Window, worker: &mut Worker) -> bool {
        if done {
            self.response_is_sent(window, worker);
        } else if self.truncated {
            self.abort(Ending::UpstreamReset, worker);
        }
        done || self.truncated
    }

    fn response_is_sent(&mut self, window: &mut Window, worker: &mut Worker) {
        if !window.live().is_empty() {
            // Bytes beyond the declared end: they belong to nobody, and the link cannot be used again.
            self.link_persists = false;
            window.clear();
        }
        self.response_due = Tick::NEVER;
        self.machine.move_response(ResponseState::Sent);
        self.settle(worker);
    }

    fn switch_protocols(&mut self, worker: &Worker) {
        self.outbound.body = Body::Opaque;
        self.inbound.body = Body::Opaque;
        self.machine.move_response(ResponseState::Tunnel);
        self.machine.move_request(RequestState::Tunnel);
        self.tunnel_progress(worker);
    }

    fn pass_tunnel_back(&mut self, window: &mut Window) -> Step {
        self.outbound.passed += (window.live().len() - self.outbound.cleared) as u64;
        self.outbound.cleared = window.live().len();
        match self.outbound.cleared {
            0 if self.upstream_done => Step::HalfClose,
            0 => Step::Fill,
            cleared => Step::Send(cleared),
        }
    }

    /// Whether the request can be sent again as far as the wire is concerned.
    pub(super) fn may_retry(&self) -> bool {
        self.replayable && self.asked.method.is_idempotent() && self.machine.response() == ResponseState::Head
    }

    /// Another attempt by the route's retry policy, at another host if there is one.
    pub(super) fn try_again(&mut self, why: Move, worker: &mut Worker) {
        let status = self.attempt.outcome.status;
        match self.attempt.retry(why, &mut worker.rng) {
            Decision::Dial => self.redial(false),
            Decision::Refuse(_) | Decision::NoHost | Decision::GiveUp => {
                self.attempt.outcome.status = status;
                // A retried status never comes here, so that without a reset it was the try's time that ran out.
                let ending = if why == Move::Reset { Ending::UpstreamReset } else { Ending::UpstreamTimeout };
                self.fail_upstream(ending, worker);
            }
        }
    }

    /// Sends the kept request again.
    pub(super) fn redial(&mut self, fresh: bool) {
        self.drop_link(LinkOrder::Close);
        self.attempt.release();
        self.upstream_done = false;
        self.response_scanned = 0;
        self.fresh = fresh;
        self.rewind = true;
        self.stale = true;
        self.request_due = Tick::NEVER;
        self.response_due = Tick::NEVER;
        self.machine.move_response(ResponseState::Idle);
        self.machine.move_request(RequestState::Dialing);
    }
}
