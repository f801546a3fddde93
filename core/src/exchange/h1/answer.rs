//! Answers of our own: faults, refusals, redirects, fixed responses.

use super::super::machine::{RequestState, ResponseState};
use super::super::{Answer, Exchange, LinkOrder, Step};
use crate::field::Status;
use crate::http1::{self, Keep, Method, Version};
use crate::route::Action;
use crate::stats::Ending;
use crate::window::Window;
use crate::worker::Worker;

impl Exchange {
    /// The response will be this answer, if nothing of another one was sent yet; else the connection is cut.
    pub(super) fn give_answer(&mut self, answer: Answer, ending: Ending, worker: &mut Worker) {
        self.attempt.outcome.ending = ending;
        if !matches!(self.machine.response(), ResponseState::Idle | ResponseState::Head) {
            self.abort(ending, worker);
            return;
        }
        if self.machine.response() == ResponseState::Head {
            // Without a request on its way there, a held link is as clean as before.
            self.drop_link(LinkOrder::Close);
        }
        if self.machine.request() == RequestState::Cut {
            // The rest of the request is not read, so that the connection ends with this answer, which says so.
            self.persist = false;
        }
        self.attempt.release();
        self.answer = Some(answer);
        self.answered = false;
        self.machine.move_response(ResponseState::Answer);
        self.response_due = worker.now.tick.after(self.waits(worker).body_idle);
    }

    /// Like [`Exchange::give_answer`], for a request that is still coming.
    pub(super) fn cut_short(&mut self, answer: Answer, ending: Ending, worker: &mut Worker) {
        if matches!(self.machine.request(), RequestState::Dialing | RequestState::Body) {
            self.forget = Some(core::mem::take(&mut self.inbound.cleared));
            self.rewind = false;
            self.replayable = false;
            self.leave_request(worker);
        }
        self.give_answer(answer, ending, worker);
    }

    pub(super) fn send_answer(&mut self, window: &mut Window, worker: &mut Worker) -> Step {
        if !self.answered {
            window.clear();
            worker.windows.lend(window);
            self.answered = true;
            let fits = self.write_answer(window, worker)
                || (worker.windows.promote(window) && self.write_answer(window, worker));
            if !fits {
                self.abort(Ending::Answered, worker);
                return Step::Hold;
            }
        }
        match window.live().len() {
            0 => {
                self.response_due = crate::clock::Tick::NEVER;
                self.machine.move_response(ResponseState::Sent);
                self.settle(worker);
                Step::Hold
            }
            live => Step::Send(live),
        }
    }

    /// Writes the answer into the empty window; false: it does not fit.
    fn write_answer(&mut self, window: &mut Window, worker: &mut Worker) -> bool {
        let Some(answer) = self.answer else { return true };
        let attempt = &self.attempt;
        let scratch = &mut worker.scratch;
        scratch.value.clear();
        let mut body: &[u8] = b"";
        let mut line: Option<(&[u8], &[u8])> = None;
        let status = match answer {
            Answer::Fault(status, text) => {
                body = text.as_bytes();
                if status == 405 {
                    // RFC 9110 §15.5.6: a 405 says what is allowed.
                    line = Some((b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
                }
                Status::new(status).unwrap_or(Status::UNAVAILABLE)
            }
            Answer::Refusal(refusal) => {
                body = refusal_text(refusal.reason);
                let cleared = attempt.policy().is_some_and(|p| refusal.clear_cookie(p, &mut scratch.value));
                line = cleared.then_some((b"set-cookie", scratch.value.as_slice()));
                refusal.status
            }
            Answer::Redirect(status) => {
                line = Some((b"location", &self.note));
                status
            }
            Answer::Respond(status) => {
                if let Some(Action::Respond { body: text, .. }) = attempt.action() {
                    body = text.as_bytes();
                }
                status
            }
        };
        let keep = match self.asked.version {
            _ if !self.persist || worker.stopping => Keep::Close,
            Version::Http10 => Keep::Say,
            Version::Http11 => Keep::Silent,
        };
        let date = scratch.date.text(worker.now.wall);
        let to_head = self.asked.method == Method::Head;
        let answer = http1::Answer { status, body, to_head, keep, date, lines: line.as_slice() };
        let fits = answer.write_window(window).is_ok();
        self.attempt.outcome.status = status.get();
        fits
    }
}

/// One line for a person; the reason is also in the log and the counters.
const fn refusal_text(reason: crate::affinity::RefusalReason) -> &'static [u8] {
    match reason {
        crate::affinity::RefusalReason::Gone => b"the host of this session is gone\n",
        crate::affinity::RefusalReason::Barred => b"the host of this session is out of service\n",
        crate::affinity::RefusalReason::ConnectFailed => b"the host of this session does not answer\n",
    }
}
