//! The two half machines and their joint table. Everything that changes a state goes through this file;
//! `LIFECYCLE.md` draws it, and a test holds the drawing against the tables here. Another test sees to it that each row is
//! used.
//!
//! There is no state for a connection that has ended: any state can be the last one, and
//! [`Exchange::over`](super::Exchange::over) says so.

/// How far the request has come: from the client, through the inbound window, to the upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RequestState {
    /// Between requests; no byte of the next one has come.
    #[default]
    Idle,
    /// A part of a head has come.
    Head,
    /// The head is accepted and edited; a link to the host is being found.
    Dialing,
    /// Head and body are passed on.
    Body,
    /// An upgrade was asked for; what follows the head waits for the answer.
    Paused,
    /// The upstream takes no more; what is left of the request is not read yet.
    Cut,
    /// The rest of the body is read and dropped to save the connection.
    Discard,
    /// Upgraded: bytes are passed on unseen.
    Tunnel,
    /// The whole request was passed on, or dropped.
    Sent,
    /// The connection is being closed; the client's bytes are dropped until it has read the answer.
    Linger,
}

/// How far the response has come: from the upstream, through the outbound window, to the client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ResponseState {
    /// Nothing is to be answered yet.
    #[default]
    Idle,
    /// The upstream's head is awaited or coming.
    Head,
    /// An interim head (1xx) is passed on.
    Interim,
    /// Head and body are passed on.
    Body,
    /// An answer of our own is sent.
    Answer,
    /// Upgraded: bytes are passed on unseen.
    Tunnel,
    /// The whole response was sent.
    Sent,
    /// The sending side towards the client is to be closed.
    Close,
    /// Nothing more is sent to the client.
    Over,
}

/// What the two states together call for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Joint {
    /// The exchange is complete: the next request may come, or the connection ends if one side wants that.
    Cycle,
    /// The response is complete but the request is not: drop the rest, or close.
    Curtail,
}

use RequestState as Q;
use ResponseState as S;

/// Every move of the request half, as (from, to).
pub const REQUEST_MOVES: [(RequestState, RequestState); 25] = [
    (Q::Idle, Q::Head),
    (Q::Head, Q::Dialing),
    (Q::Head, Q::Discard),
    (Q::Head, Q::Sent),
    (Q::Head, Q::Cut),
    (Q::Dialing, Q::Body),
    (Q::Dialing, Q::Discard),
    (Q::Dialing, Q::Sent),
    (Q::Dialing, Q::Cut),
    (Q::Body, Q::Dialing),
    (Q::Body, Q::Paused),
    (Q::Body, Q::Cut),
    (Q::Body, Q::Discard),
    (Q::Body, Q::Sent),
    (Q::Paused, Q::Tunnel),
    (Q::Paused, Q::Dialing),
    (Q::Paused, Q::Sent),
    (Q::Cut, Q::Dialing),
    (Q::Cut, Q::Linger),
    (Q::Discard, Q::Sent),
    (Q::Discard, Q::Cut),
    (Q::Tunnel, Q::Sent),
    (Q::Sent, Q::Idle),
    (Q::Sent, Q::Dialing),
    (Q::Sent, Q::Linger),
];

/// Every move of the response half, as (from, to).
pub const RESPONSE_MOVES: [(ResponseState, ResponseState); 14] = [
    (S::Idle, S::Head),
    (S::Idle, S::Answer),
    (S::Head, S::Idle),
    (S::Head, S::Interim),
    (S::Head, S::Body),
    (S::Head, S::Answer),
    (S::Head, S::Tunnel),
    (S::Interim, S::Head),
    (S::Body, S::Sent),
    (S::Answer, S::Sent),
    (S::Tunnel, S::Sent),
    (S::Sent, S::Idle),
    (S::Sent, S::Close),
    (S::Close, S::Over),
];

/// The joint table: every pair of states that calls for something. All other pairs wait.
pub const JOINT: [(RequestState, ResponseState, Joint); 4] = [
    (Q::Sent, S::Sent, Joint::Cycle),
    (Q::Body, S::Sent, Joint::Curtail),
    (Q::Paused, S::Sent, Joint::Curtail),
    (Q::Cut, S::Sent, Joint::Curtail),
];

/// Both states, changed only along the tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    request: RequestState,
    response: ResponseState,
    #[cfg(debug_assertions)]
    trace: Trace,
}

/// Which rows of the tables an exchange has used, a bit for each. Kept in debug builds only: tests hold it against the
/// tables, so that no row stays that nothing needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    /// Rows of [`REQUEST_MOVES`].
    pub request: u64,
    /// Rows of [`RESPONSE_MOVES`].
    pub response: u64,
    /// Rows of [`JOINT`].
    pub joint: u64,
}

impl Machine {
    #[inline]
    pub(super) const fn request(self) -> RequestState {
        self.request
    }

    #[inline]
    pub(super) const fn response(self) -> ResponseState {
        self.response
    }

    pub(super) fn trace(self) -> Trace {
        #[cfg(debug_assertions)]
        return self.trace;
        #[cfg(not(debug_assertions))]
        Trace::default()
    }

    /// Moves the request half. Staying put is no move.
    #[inline]
    pub(super) fn move_request(&mut self, to: RequestState) {
        #[cfg(debug_assertions)]
        if self.request != to {
            let row = REQUEST_MOVES.iter().position(|&row| row == (self.request, to));
            debug_assert!(row.is_some(), "{:?} to {to:?} is not in REQUEST_MOVES", self.request);
            self.trace.request |= row.map_or(0, |row| 1 << row);
        }
        self.request = to;
    }

    /// Moves the response half. Staying put is no move.
    #[inline]
    pub(super) fn move_response(&mut self, to: ResponseState) {
        #[cfg(debug_assertions)]
        if self.response != to {
            let row = RESPONSE_MOVES.iter().position(|&row| row == (self.response, to));
            debug_assert!(row.is_some(), "{:?} to {to:?} is not in RESPONSE_MOVES", self.response);
            self.trace.response |= row.map_or(0, |row| 1 << row);
        }
        self.response = to;
    }

    /// What the two states together call for; `None`: wait.
    #[inline]
    pub(super) fn joint(&mut self) -> Option<Joint> {
        // The common waits first: nothing in the table has an unfinished response.
        if self.response != S::Sent {
            return None;
        }
        let row = JOINT.iter().position(|row| row.0 == self.request && row.1 == self.response)?;
        #[cfg(debug_assertions)]
        {
            self.trace.joint |= 1 << row;
        }
        JOINT.get(row).map(|row| row.2)
    }
}
