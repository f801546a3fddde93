//! How much of a window's live bytes may pass. Bodies are counted or scanned, never copied.

use crate::http1::{ChunkError, Chunks, Piece, RequestFraming, ResponseFraming};

/// What is still to come of a message body.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// Nothing.
    #[default]
    Done,
    /// So many bytes (RFC 9112 §6.2).
    Fixed(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked(Chunks),
    /// Everything until the upstream closes (RFC 9112 §6.3, rule 8).
    UntilClose,
    /// Everything, in both directions: an upgraded connection.
    Opaque,
}

/// One direction's account: which of the live bytes may be sent, and what is to come.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The first so many live bytes may be sent.
    pub(super) cleared: usize,
    /// What is to come behind them.
    pub(super) body: Body,
    /// Body bytes that were cleared or went past the window so far, framing included.
    pub(super) passed: u64,
    /// The sender said that this is its last message on the connection.
    pub(super) last: bool,
}

impl Body {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Bytes still to come, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Fixed(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose | Self::Opaque => None,
        }
    }

    /// So many bytes to come all belong to the body, whatever they are. Nobody knows how much of a stream without an end is to
    /// come, and what comes in small pieces passes through the window at less cost.
    pub(super) const fn unseen(&self) -> u64 {
        match self {
            Self::Fixed(left) => *left,
            Self::Done | Self::Chunked(_) | Self::UntilClose | Self::Opaque => 0,
        }
    }

    /// Takes the next piece of the body off the front of `bytes`, for who takes the framing off.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Piece, ChunkError> {
        match self {
            Self::Done => Ok(Piece::Done),
            Self::Chunked(chunks) => {
                let piece = chunks.next(bytes)?;
                if piece == Piece::Done {
                    *self = Self::Done;
                }
                Ok(piece)
            }
            Self::Fixed(_) | Self::UntilClose | Self::Opaque if bytes.is_empty() => Ok(Piece::More),
            Self::Fixed(_) | Self::UntilClose | Self::Opaque => self.take(bytes).map(Piece::Data),
        }
    }

    /// `count` of the [`Body::unseen`] bytes have come.
    const fn skip(&mut self, count: u64) {
        if let Self::Fixed(left) = self {
            *left = left.saturating_sub(count);
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// How many of `bytes` belong to the body; takes note of them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        match self {
            Self::Done => Ok(0),
            Self::UntilClose | Self::Opaque => Ok(bytes.len()),
            Self::Fixed(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                self.skip(taken as u64);
                Ok(taken)
            }
            Self::Chunked(chunks) => {
                let scan = chunks.scan(bytes)?;
                if scan.done {
                    *self = Self::Done;
                }
                Ok(scan.taken)
            }
        }
    }
}

impl From<RequestFraming> for Body {
    fn from(framing: RequestFraming) -> Self {
        match framing {
            RequestFraming::Empty => Self::Done,
            RequestFraming::Fixed(length) => Self::Fixed(length.get()),
            RequestFraming::Chunked => Self::Chunked(Chunks::new()),
        }
    }
}

impl From<ResponseFraming> for Body {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::Empty => Self::Done,
            ResponseFraming::Fixed(length) => Self::Fixed(length.get()),
            ResponseFraming::Chunked => Self::Chunked(Chunks::new()),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }
}

impl Flow {
    /// Clears those of `live` that belong to the message and were not looked at yet.
    #[inline]
    pub(super) fn clear(&mut self, live: &[u8]) -> Result<(), ChunkError> {
        if self.body.is_done() {
            return Ok(());
        }
        let taken = self.body.take(live.get(self.cleared..).unwrap_or_default())?;
        self.cleared += taken;
        self.passed += taken as u64;
        Ok(())
    }

    /// `count` of the [`Body::unseen`] bytes went past the window.
    pub(super) fn pass(&mut self, count: usize) {
        self.body.skip(count as u64);
        self.passed += count as u64;
    }
}
