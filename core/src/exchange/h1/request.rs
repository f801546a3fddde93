//! The request half: from the first byte of a head to the last byte of the body.

use memchr::memchr;

use super::super::attempt::{self, Decision};
use super::super::body::{Body, Flow};
use super::super::machine::{RequestState, ResponseState};
use super::super::{Answer, Asked, Dial, Draft, Exchange, Link, LinkOrder, Over, Step};
use super::super::{LOOK_AFTER_MILLIS, WATCH_AFTER};
use super::{Extent, edit};
use crate::clock::Tick;
use crate::http1::{
    Fields, HeadError, Method, RequestFraming, RequestHead, Version, cannot_be_request, head_end,
    leading_empty_lines, overlong, parse_request, plain_request,
};
use crate::limits::HEADROOM;
use crate::log::Clip;
use crate::route::Action;
use crate::stats::Ending;
use crate::window::Window;
use crate::worker::Worker;

/// What became of a head that was read.
enum Accepted {
    /// It is edited and its host is chosen.
    Forwarded,
    /// It is answered by us.
    Answered(Answer),
}

impl Exchange {
    pub(in crate::exchange) fn step_request(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if !self.replayable && window.kept_len() > 0 {
            window.release_kept();
        }
        if let Some(count) = self.forget.take() {
            window.release_kept();
            window.consume(count);
        }
        match self.machine.request() {
            RequestState::Idle | RequestState::Head => self.read_head(window, worker),
            RequestState::Dialing => self.step_dial(window),
            RequestState::Body => self.pass_request(window, worker),
            RequestState::Discard => self.discard_request(window, worker),
            RequestState::Tunnel => self.pass_tunnel(window),
            RequestState::Sent | RequestState::Paused => self.watch_client(window, worker),
            RequestState::Linger => {
                window.clear();
                Step::Fill
            }
            RequestState::Cut => Step::Hold,
        }
    }

    fn read_head(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        // RFC 9112 §2.2: empty lines in front of a request line are skipped.
        let skipped = leading_empty_lines(window.live(), self.empty_lines);
        if skipped > 0 {
            window.consume(2 * skipped);
            self.empty_lines += skipped;
            self.scanned = 0;
        }
        if window.live().is_empty() {
            if worker.stopping {
                self.end(Over::Close);
                return Step::Hold;
            }
            if !(self.resting || self.woken) && worker.windows.is_crowded() {
                self.rest(worker);
            }
            return if self.resting { Step::Rest } else { Step::Fill };
        }
        let head_max = self.limits(worker).request_head_bytes;
        if self.machine.request() == RequestState::Idle {
            self.attempt.begin(&worker.view);
            self.forget_last_request();
            self.owed = true;
            let still = worker.now.tick.since(self.started) >= LOOK_AFTER_MILLIS;
            self.stood = still || core::mem::take(&mut self.unseen_end);
            self.started = worker.now.tick;
            self.request_due = worker.now.tick.after(self.waits(worker).request_head);
            self.machine.move_request(RequestState::Head);
        }
        if let Err(error) = self.normalise_path(window, head_max, worker) {
            self.reject(error, worker);
            return Step::Hold;
        }
        // What began to be searched is searched on: a head that dribbles in is not read anew with every byte.
        if self.scanned == 0
            && let Some(step) = self.accept(window, Extent::Within(head_max), worker)
        {
            return step;
        }
        // Asked first, so that the answer does not depend on the pieces in which the bytes come.
        if cannot_be_request(window.live()) {
            self.reject(HeadError::RequestLine, worker);
            return Step::Hold;
        }
        match head_end(window.live(), self.scanned) {
            Some(length) if length > head_max => self.reject(too_long(window, head_max), worker),
            Some(length) => {
                return self.accept(window, Extent::Exactly(length), worker).unwrap_or(Step::Hold);
            }
            None if window.live().starts_with(b"\r\n") => {
                self.reject(HeadError::RequestLine, worker);
            }
            None if window.live().len() >= head_max => self.reject(too_long(window, head_max), worker),
            None => {
                self.scanned = window.live().len();
                if window.spare_len() == 0 {
                    window.compact(HEADROOM);
                }
                if window.spare_len() > 0 || worker.windows.promote(window) {
                    return Step::Fill;
                }
                self.reject(HeadError::TooLarge, worker);
            }
        }
        Step::Hold
    }

    /// A head is complete: decides what becomes of the request. `None`: there is no plain head.
    fn accept(&mut self, window: &mut Window, extent: Extent, worker: &mut Worker) -> Option<Step> {
        let considered = self.consider(window, extent, worker).transpose()?;
        let accepted = considered.and_then(|(accepted, length)| match accepted {
            Accepted::Forwarded => {
                self.inbound.cleared = self.apply_edits(window, length, worker)?;
                Ok(accepted)
            }
            Accepted::Answered(_) => {
                window.consume(length);
                Ok(accepted)
            }
        });
        Some(match accepted {
            Ok(Accepted::Forwarded) => {
                self.replayable = true;
                self.rewind = false;
                // The shell takes the held link for the dial, or gives it to the pool.
                self.link = Link::None;
                self.fresh = false;
                self.request_due = Tick::NEVER;
                self.machine.move_request(RequestState::Dialing);
                self.step_dial(window)
            }
            Ok(Accepted::Answered(answer)) => {
                self.answer_request(answer, worker);
                Step::Hold
            }
            Err(error) => {
                self.reject(error, worker);
                Step::Hold
            }
        })
    }

    /// Reads the head and decides. `None`: there is no plain head; else what became of it, and its length.
    fn consider(
        &mut self,
        window: &Window,
        extent: Extent,
        worker: &mut Worker,
    ) -> Result<Option<(Accepted, usize)>, HeadError> {
        let live = window.live();
        let mut fields = Fields::new();
        let fields_max = self.limits(worker).fields;
        let head = match extent {
            Extent::Exactly(length) => {
                parse_request(live.get(..length).unwrap_or_default(), &mut fields, fields_max)?
            }
            Extent::Within(most) => {
                let room = live.get(..most).unwrap_or(live);
                let Some(head) = plain_request(room, &mut fields, fields_max) else { return Ok(None) };
                head
            }
        };
        let length = head.bytes.len();
        Ok(Some((self.decide(&head, worker), length)))
    }

    /// Finds the route, decides where the request goes, and notes the edits in the scratch.
    fn decide(&mut self, head: &RequestHead<'_>, worker: &mut Worker) -> Accepted {
        self.remember(head);
        self.discard_left = self.limits(worker).discard_bytes;
        let limits = self.limits(worker);
        if head.method == Method::Connect {
            return Accepted::Answered(Answer::Fault(405, "CONNECT is not supported\n"));
        }
        if let (RequestFraming::Fixed(length), Some(most)) = (head.framing, limits.request_body_bytes)
            && length.get() > most
        {
            return Accepted::Answered(Answer::Fault(413, "request body too large\n"));
        }
        // The configuration that the request began with, though a newer one may have come since its first byte.
        let Some(view) = self.attempt.view() else {
            return Accepted::Answered(Answer::Fault(404, "no such listener\n"));
        };
        let Some(listener) = view.snapshot().listener(self.listener) else {
            return Accepted::Answered(Answer::Fault(404, "no such listener\n"));
        };
        let path = head.path.get(..memchr(b'?', head.path).unwrap_or(head.path.len())).unwrap_or_default();
        let Some((at, route)) = listener.routes.find(head.host.unwrap_or_default(), path) else {
            return Accepted::Answered(Answer::Fault(404, "no route\n"));
        };
        self.attempt.set_route(self.listener, at);
        let forward = match &route.action {
            Action::Redirect(redirect) => {
                edit::location(redirect, &route.path, head, &mut self.note);
                return Accepted::Answered(Answer::Redirect(redirect.status));
            }
            Action::Respond { status, .. } => return Accepted::Answered(Answer::Respond(*status)),
            Action::Forward(forward) => forward,
        };
        if head.connection.upgrade && !forward.upgrades {
            return Accepted::Answered(Answer::Fault(403, "upgrades are not allowed here\n"));
        }
        let fields = head.fields.iter().map(|field| (field.name, field.value));
        let basis = attempt::Basis { view: &view, forward, target: head.path, now: worker.now.wall };
        let decision = self.attempt.decide(&basis, fields, &mut worker.scratch.token, &mut worker.rng);
        match decision {
            Decision::Dial => {}
            Decision::Refuse(refusal) => return Accepted::Answered(Answer::Refusal(refusal)),
            Decision::NoHost | Decision::GiveUp => {
                return Accepted::Answered(Answer::Fault(503, "no healthy upstream\n"));
            }
        }
        let session = self.attempt.policy().zip(self.attempt.routed());
        let client = self.client.as_bytes();
        let context =
            edit::RequestContext { listener, route, forward, session, client, snapshot: view.snapshot() };
        edit::request(head, &context, &mut worker.scratch, &mut worker.rng);
        Accepted::Forwarded
    }

    /// A head that cannot be read is answered and logged for itself, not as the request before it.
    fn forget_last_request(&mut self) {
        self.asked = Asked::default();
        if let Some(draft) = self.draft.as_deref_mut() {
            *draft = Draft::default();
        }
    }

    fn remember(&mut self, head: &RequestHead<'_>) {
        self.asked = Asked {
            method: head.method,
            version: head.version,
            upgrade: head.connection.upgrade,
            expects_continue: head.expect_continue,
        };
        self.persist = head.persists() && self.persist;
        self.inbound = Flow { body: Body::from(head.framing), last: !head.persists(), ..Flow::default() };
        if let Some(draft) = self.draft.as_deref_mut() {
            draft.method = Clip::new(head.method_text);
            draft.target = Clip::new(head.target);
        }
    }

    /// Applies the edits in the window, which is enlarged if they need it. Returns the length of the new head.
    pub(super) fn apply_edits(
        &mut self,
        window: &mut Window,
        length: usize,
        worker: &mut Worker,
    ) -> Result<usize, HeadError> {
        match worker.scratch.edits.apply(window, length) {
            Ok(length) => Ok(length),
            Err(_) if worker.windows.promote(window) => {
                worker.scratch.edits.apply(window, length).map_err(|_| HeadError::TooLarge)
            }
            Err(_) => Err(HeadError::TooLarge),
        }
    }

    fn step_dial(&mut self, window: &mut Window) -> Step {
        if self.rewind {
            self.rewind = false;
            self.inbound.cleared += window.kept_len();
            window.rewind();
        }
        match self.attempt.host() {
            Some(host) => {
                let checked = self.stood || !self.asked.method.is_idempotent();
                Step::Dial(Dial::to(host, self.fresh, checked))
            }
            None => Step::Hold,
        }
    }

    fn pass_request(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if self.inbound.clear(window.live()).is_err() {
            self.bad_body(worker);
            return Step::Hold;
        }
        if self.body_is_too_large(worker) {
            return Step::Hold;
        }
        if self.inbound.cleared > 0 {
            return Step::Send(self.inbound.cleared);
        }
        if self.inbound.body.is_done() {
            self.request_is_sent(worker);
            return self.request(window, worker);
        }
        if window.spare_len() == 0 {
            // What was kept for a replay gives way to what is still to come.
            self.replayable = false;
            window.release_kept();
            window.compact(HEADROOM);
        }
        Step::Fill
    }

    /// Everything was passed on: the response's time begins to run.
    pub(super) fn request_is_sent(&mut self, worker: &mut Worker) {
        self.request_due = Tick::NEVER;
        let paused = self.asked.upgrade;
        self.machine.move_request(if paused { RequestState::Paused } else { RequestState::Sent });
        self.watching = false;
        self.request_due = worker.now.tick.after(WATCH_AFTER);
        self.await_response(worker);
        self.settle(worker);
    }

    /// The response's time runs from when nothing more goes upstream. An interim response that is on its way to the
    /// client right then is no answer: without a deadline here, neither a client that does not read it nor a host that
    /// says nothing behind it would ever be given up.
    pub(super) fn await_response(&mut self, worker: &Worker) {
        if matches!(self.machine.response(), ResponseState::Head | ResponseState::Interim) {
            self.response_due = worker.now.tick.after(self.response_wait(worker));
        }
    }

    fn body_is_too_large(&mut self, worker: &mut Worker) -> bool {
        let most = self.limits(worker).request_body_bytes;
        if most.is_none_or(|most| self.inbound.passed <= most) {
            return false;
        }
        self.cut_short(Answer::Fault(413, "request body too large\n"), Ending::Answered, worker);
        true
    }

    /// The body's framing is broken. The upstream has a part of it already, so its link is closed, not pooled.
    fn bad_body(&mut self, worker: &mut Worker) {
        self.persist = false;
        self.cut_short(Answer::Fault(400, "malformed chunked body\n"), Ending::Answered, worker);
    }

    fn discard_request(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        let taken = self.inbound.body.take(window.live());
        match taken {
            Ok(taken) if taken as u64 <= self.discard_left => {
                self.discard_left -= taken as u64;
                window.consume(taken);
                if self.inbound.body.is_done() {
                    self.machine.move_request(RequestState::Sent);
                    self.request_due = Tick::NEVER;
                    self.settle(worker);
                    return self.request(window, worker);
                }
                window.compact(HEADROOM);
                Step::Fill
            }
            Ok(_) | Err(_) => {
                self.persist = false;
                self.machine.move_request(RequestState::Cut);
                self.request_due = Tick::NEVER;
                self.settle(worker);
                Step::Hold
            }
        }
    }

    fn pass_tunnel(&mut self, window: &mut Window) -> Step {
        self.inbound.passed += (window.live().len() - self.inbound.cleared) as u64;
        self.inbound.cleared = window.live().len();
        match self.inbound.cleared {
            0 if self.client_done => Step::HalfClose,
            0 => Step::Fill,
            cleared => Step::Send(cleared),
        }
    }

    /// While the response is awaited for long, the client's side is read, to notice that it left.
    fn watch_client(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        let waiting = matches!(self.machine.response(), ResponseState::Idle | ResponseState::Head);
        if !(self.watching && waiting) || self.client_done {
            return Step::Hold;
        }
        worker.windows.lend(window);
        if window.spare_len() > 0 { Step::Fill } else { Step::Hold }
    }

    /// The head is refused: it is answered, nothing more is read, and the connection closes once the answer was read.
    fn reject(&mut self, error: HeadError, worker: &mut Worker) {
        self.persist = false;
        self.inbound.last = false;
        self.owed = true;
        if self.link != Link::None {
            self.drop_link(LinkOrder::Pool);
        }
        self.machine.move_request(RequestState::Cut);
        self.request_due = Tick::NEVER;
        let text = error.as_str();
        self.give_answer(Answer::Fault(error.status(), text), Ending::Answered, worker);
    }

    /// The head is fine, but the answer is ours; the body, if there is one, is dropped where that is cheap.
    fn answer_request(&mut self, answer: Answer, worker: &mut Worker) {
        self.inbound.cleared = 0;
        self.leave_request(worker);
        self.give_answer(answer, Ending::Answered, worker);
    }

    /// The rest of the request does not go upstream: it is dropped if it is small, else the connection will close.
    pub(super) fn leave_request(&mut self, worker: &Worker) {
        let small = self.inbound.body.left().is_none_or(|left| left <= self.discard_left);
        self.request_due = Tick::NEVER;
        if self.inbound.body.is_done() {
            self.machine.move_request(RequestState::Sent);
        } else if self.persist
            && small
            && !self.asked.expects_continue
            && self.asked.version == Version::Http11
        {
            self.machine.move_request(RequestState::Discard);
            self.request_due = worker.now.tick.after(self.waits(worker).body_idle);
        } else {
            self.persist = false;
            self.inbound.last = false;
            self.machine.move_request(RequestState::Cut);
        }
    }
}

/// Why a head that is longer than `head_max` is refused. What lies beyond does not count: how much of it has come is
/// a matter of segmentation.
fn too_long(window: &Window, head_max: usize) -> HeadError {
    overlong(window.live().get(..head_max).unwrap_or(window.live()))
}
