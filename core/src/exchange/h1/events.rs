//! What happened on the sockets and the clock, and what it means for both halves.

use super::super::attempt::Decision;
use super::super::body::Body;
use super::super::machine::{RequestState, ResponseState};
use super::super::{Answer, Dialed, Direction, Exchange, Link, LinkOrder, Over};
use crate::clock::{Tick, Wait};
use crate::stats::{Ending, Move};
use crate::window::Window;
use crate::worker::Worker;

impl Exchange {
    /// Bytes came from the client.
    pub(in crate::exchange) fn request_progress(&mut self, worker: &Worker) {
        match self.machine.request() {
            RequestState::Body | RequestState::Discard => {
                self.request_due = worker.now.tick.after(self.waits(worker).body_idle);
            }
            RequestState::Tunnel => self.tunnel_progress(worker),
            _ => {}
        }
    }

    /// Bytes came from the upstream.
    pub(in crate::exchange) fn response_progress(&mut self, worker: &Worker) {
        match self.machine.response() {
            ResponseState::Body => {
                self.response_due = worker.now.tick.after(self.waits(worker).body_idle);
            }
            ResponseState::Tunnel => self.tunnel_progress(worker),
            _ => {}
        }
    }

    /// Each side that is still open has its own deadline, since either may close first.
    pub(super) fn tunnel_progress(&mut self, worker: &Worker) {
        let due = worker.now.tick.after(self.waits(worker).tunnel_idle);
        if self.machine.request() == RequestState::Tunnel {
            self.request_due = due;
        }
        if self.machine.response() == ResponseState::Tunnel {
            self.response_due = due;
        }
    }

    /// Bytes went to the upstream.
    pub(in crate::exchange) fn request_sent(
        &mut self,
        window: &mut Window,
        count: usize,
        worker: &mut Worker,
    ) {
        if !matches!(self.machine.request(), RequestState::Body | RequestState::Tunnel) {
            return;
        }
        self.inbound.cleared = self.inbound.cleared.saturating_sub(count);
        if self.replayable {
            window.keep(count);
        } else {
            window.consume(count);
        }
        self.request_progress(worker);
        self.note_whole_request(worker);
    }

    /// The request is sent when its last byte was passed on. Said at once: the response may be looked at before the request is
    /// asked for its next step.
    fn note_whole_request(&mut self, worker: &mut Worker) {
        if self.inbound.cleared == 0
            && self.inbound.body.is_done()
            && self.machine.request() == RequestState::Body
        {
            self.request_is_sent(worker);
        }
    }

    /// Bytes of a body went past the window.
    pub(in crate::exchange) fn went_past(&mut self, direction: Direction, count: usize, worker: &mut Worker) {
        match direction {
            Direction::Request => {
                self.inbound.pass(count);
                self.request_progress(worker);
                self.note_whole_request(worker);
            }
            Direction::Response => {
                self.outbound.pass(count);
                self.unseen_end = true;
                self.response_progress(worker);
            }
        }
    }

    /// Bytes went to the client.
    pub(in crate::exchange) fn response_sent(
        &mut self,
        window: &mut Window,
        count: usize,
        worker: &mut Worker,
    ) {
        match self.machine.response() {
            ResponseState::Interim | ResponseState::Body | ResponseState::Tunnel => {
                self.outbound.cleared = self.outbound.cleared.saturating_sub(count);
                window.consume(count);
                self.response_progress(worker);
                if self.machine.response() == ResponseState::Interim && self.outbound.cleared == 0 {
                    self.machine.move_response(ResponseState::Head);
                }
            }
            ResponseState::Answer => window.consume(count),
            _ => {}
        }
    }

    /// The client has closed its sending side.
    pub(in crate::exchange) fn client_closed(&mut self, worker: &mut Worker) {
        self.client_done = true;
        match self.machine.request() {
            // A head that will never be complete gets no answer: the client has stopped talking.
            RequestState::Idle | RequestState::Head => {
                self.owed = false;
                self.end(Over::Close);
            }
            RequestState::Body => {
                self.abort(Ending::ClientLeft, worker);
            }
            RequestState::Sent | RequestState::Paused | RequestState::Dialing => {
                if matches!(self.machine.response(), ResponseState::Idle | ResponseState::Head) {
                    self.record(Ending::ClientLeft, worker);
                    self.end(Over::Close);
                } else {
                    self.persist = false;
                }
            }
            RequestState::Discard => {
                self.persist = false;
                self.machine.move_request(RequestState::Cut);
                self.settle(worker);
            }
            RequestState::Linger => self.end(Over::Close),
            RequestState::Tunnel | RequestState::Cut => {}
        }
    }

    /// The client has reset the connection, or does not take what it is sent.
    pub(in crate::exchange) fn client_reset(&mut self, worker: &mut Worker) {
        if self.machine.request() == RequestState::Head {
            // As in `client_closed`: it never became a request.
            self.owed = false;
        }
        self.abort(Ending::ClientLeft, worker);
    }

    /// The upstream has closed its sending side.
    pub(in crate::exchange) fn upstream_closed(&mut self, window: &Window, worker: &mut Worker) {
        self.upstream_done = true;
        match self.machine.response() {
            ResponseState::Head => self.upstream_lost(window, worker),
            ResponseState::Body if matches!(self.outbound.body, Body::UntilClose) => {
                self.outbound.body = Body::Done;
            }
            ResponseState::Body => self.truncate(),
            _ => {}
        }
    }

    /// The upstream has reset the connection.
    pub(in crate::exchange) fn upstream_reset(&mut self, window: &Window, worker: &mut Worker) {
        self.upstream_done = true;
        match self.machine.response() {
            ResponseState::Head => self.upstream_lost(window, worker),
            ResponseState::Body => self.truncate(),
            _ => {
                self.abort(Ending::UpstreamReset, worker);
            }
        }
    }

    /// The upstream takes no more bytes. It may have answered before it closed, so its answer is awaited.
    pub(in crate::exchange) fn upstream_deaf(&mut self, worker: &mut Worker) {
        self.link_persists = false;
        match self.machine.request() {
            RequestState::Body => {
                self.request_due = Tick::NEVER;
                self.machine.move_request(RequestState::Cut);
                self.await_response(worker);
                self.settle(worker);
            }
            RequestState::Tunnel => {
                self.abort(Ending::UpstreamReset, worker);
            }
            _ => {}
        }
    }

    /// What came so far is passed on, then the connection is cut, so that nobody takes it for the whole.
    fn truncate(&mut self) {
        self.truncated = true;
    }

    /// The link ended before a response head.
    fn upstream_lost(&mut self, window: &Window, worker: &mut Worker) {
        let untouched = window.live().is_empty();
        if untouched && self.link == (Link::Live { reused: true }) && self.may_retry() {
            // The host closed an idle link while we were using it: not its failure, and strict may stay with it.
            match self.attempt.again() {
                Decision::Dial => return self.redial(true),
                Decision::Refuse(_) | Decision::NoHost | Decision::GiveUp => {}
            }
        }
        let policy = self.attempt.forward().is_some_and(|forward| {
            let on = forward.retry.on;
            (on.reset || on.server_error || on.gateway_error)
                && self.outcome().tries <= forward.retry.attempts
        });
        if policy && self.may_retry() {
            return self.try_again(Move::Reset, worker);
        }
        self.fail_upstream(Ending::UpstreamReset, worker);
    }

    /// The upstream's response is no HTTP.
    pub(super) fn malformed_response(&mut self, worker: &mut Worker) {
        self.fail_upstream(Ending::UpstreamMalformed, worker);
    }

    /// The host did not give an answer that can be passed on: ours takes its place.
    pub(super) fn fail_upstream(&mut self, ending: Ending, worker: &mut Worker) {
        let (status, text) = match ending {
            Ending::UpstreamTimeout => (504, "upstream took too long\n"),
            Ending::UpstreamMalformed => (502, "upstream sent no valid response\n"),
            _ => (502, "upstream closed the connection before it answered\n"),
        };
        self.cut_short(Answer::Fault(status, text), ending, worker);
        if self.machine.request() == RequestState::Paused {
            self.machine.move_request(RequestState::Sent);
        }
    }

    /// A dial has come to something.
    pub(in crate::exchange) fn link_made(&mut self, dialed: Dialed, worker: &mut Worker) {
        let queued_too_long = core::mem::take(&mut self.dial_expired) && self.dial_queued;
        let reused = match dialed {
            Dialed::Reused => true,
            Dialed::Fresh => false,
            Dialed::Failed if !queued_too_long => return self.dial_failed(worker),
            Dialed::Failed | Dialed::Full => {
                let answer = Answer::Fault(503, "upstream host is full\n");
                return self.cut_short(answer, Ending::HostFull, worker);
            }
        };
        if !reused {
            worker.counters.dialed.add();
        }
        self.link = Link::Live { reused };
        self.link_persists = true;
        self.upstream_done = false;
        self.truncated = false;
        self.attempt.occupy();
        self.machine.move_request(RequestState::Body);
        self.machine.move_response(ResponseState::Head);
        self.request_due = worker.now.tick.after(self.waits(worker).body_idle);
        self.response_due = Tick::NEVER;
    }

    fn dial_failed(&mut self, worker: &mut Worker) {
        self.request_due = Tick::NEVER;
        self.fresh = false;
        match self.attempt.connect_failed(&mut worker.rng) {
            Decision::Dial => {}
            Decision::Refuse(refusal) => {
                self.cut_short(Answer::Refusal(refusal), Ending::ConnectFailed, worker);
            }
            Decision::NoHost | Decision::GiveUp => {
                let answer = Answer::Fault(503, "upstream refused the connection\n");
                self.cut_short(answer, Ending::ConnectFailed, worker);
            }
        }
    }

    /// One side's sending half was closed.
    pub(in crate::exchange) fn closed_half(&mut self, direction: Direction, worker: &mut Worker) {
        match direction {
            Direction::Request => {
                if self.machine.request() == RequestState::Tunnel {
                    self.machine.move_request(RequestState::Sent);
                    self.request_due = Tick::NEVER;
                    self.watching = false;
                }
            }
            Direction::Response => match self.machine.response() {
                ResponseState::Tunnel => {
                    self.machine.move_response(ResponseState::Sent);
                    self.response_due = Tick::NEVER;
                }
                ResponseState::Close => {
                    self.machine.move_response(ResponseState::Over);
                    self.machine.move_request(RequestState::Linger);
                    self.request_due = worker.now.tick.after(self.waits(worker).linger);
                }
                _ => {}
            },
        }
        self.settle(worker);
    }

    /// The response head must come within this time: the route's, else the listener's; a try's own if it is shorter.
    pub(super) fn response_wait(&self, worker: &Worker) -> Wait {
        let limit = self.waits(worker).response;
        let Some(forward) = self.attempt.forward() else { return limit };
        forward.response_timeout.map_or(limit, Wait::from).min(forward.retry.per_try_timeout.into())
    }

    /// A deadline may have come.
    pub(in crate::exchange) fn time_out(&mut self, worker: &mut Worker) {
        let now = worker.now.tick;
        if now >= self.request_due {
            self.request_timed_out(worker);
        }
        if self.over.is_none() && now >= self.response_due {
            self.response_timed_out(worker);
        }
    }

    /// No request is expected soon: the link goes to the pool, and no buffer is held.
    pub(super) fn rest(&mut self, worker: &Worker) {
        self.resting = true;
        self.drop_link(LinkOrder::Pool);
        self.attempt.rest();
        self.request_due = worker.now.tick.after(self.waits(worker).keep_alive);
    }

    fn request_timed_out(&mut self, worker: &mut Worker) {
        self.request_due = Tick::NEVER;
        match self.machine.request() {
            RequestState::Idle if self.resting => self.end(Over::Close),
            RequestState::Idle => self.rest(worker),
            RequestState::Head => {
                self.persist = false;
                self.machine.move_request(RequestState::Cut);
                self.give_answer(
                    Answer::Fault(408, "request head took too long\n"),
                    Ending::ClientTimeout,
                    worker,
                );
            }
            RequestState::Dialing => self.dial_expired = true,
            RequestState::Body => {
                self.persist = false;
                if self.inbound.cleared > 0 {
                    return self.cut_short(
                        Answer::Fault(504, "upstream took too long to read the request\n"),
                        Ending::UpstreamTimeout,
                        worker,
                    );
                }
                let answer = Answer::Fault(408, "request body took too long\n");
                self.cut_short(answer, Ending::ClientTimeout, worker);
            }
            RequestState::Sent | RequestState::Paused => self.watching = true,
            RequestState::Discard => {
                self.persist = false;
                self.machine.move_request(RequestState::Cut);
                self.settle(worker);
            }
            RequestState::Linger => self.end(Over::Close),
            RequestState::Tunnel => {
                self.record(Ending::Complete, worker);
                self.end(Over::Close);
            }
            RequestState::Cut => {}
        }
    }

    fn response_timed_out(&mut self, worker: &mut Worker) {
        self.response_due = Tick::NEVER;
        match self.machine.response() {
            ResponseState::Head => {
                let again = self.attempt.forward().is_some_and(|forward| {
                    let on = forward.retry.on;
                    !forward.retry.per_try_timeout.is_zero()
                        && (on.server_error || on.gateway_error)
                        && self.outcome().tries <= forward.retry.attempts
                });
                if again && self.may_retry() {
                    return self.try_again(Move::Retried, worker);
                }
                self.fail_upstream(Ending::UpstreamTimeout, worker);
            }
            ResponseState::Body | ResponseState::Interim => {
                let ending =
                    if self.outbound.cleared > 0 { Ending::ClientTimeout } else { Ending::UpstreamTimeout };
                self.abort(ending, worker);
            }
            ResponseState::Answer => {
                self.abort(Ending::ClientTimeout, worker);
            }
            ResponseState::Tunnel => {
                self.record(Ending::Complete, worker);
                self.end(Over::Close);
            }
            _ => {}
        }
    }
}
