//! A pipe through which long bodies go from socket to socket by splice(2): the kernel moves pages, and copies nothing.
//!
//! ```text
//!  source ──fill──▶ pipe ──pour──▶ destination
//!                    └────drain──▶ window         what the destination does not take
//! ```
//!
//! All three happen in one step of a connection, so that the pipe is empty whenever anything else does: one serves a worker,
//! no connection waits with bytes in it, and what a connection holds is as if there were none (docs/decisions/0012).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::Poll;

use homing_core::exchange::{Direction, Exchange};
use homing_core::limits::PASS_MAX;
use homing_core::window::Window;
use homing_core::worker::{WindowPool, Worker};
use rustix::io::Errno;

/// A remainder shorter than this passes through the window: it costs no more, and the window is at hand.
const WORTH: u64 = 16 * 1024;

/// A worker's pipe.
#[derive(Debug)]
pub struct Pipe {
    /// Reader and writer; `None`: it could not be made, and is tried again when it is needed.
    ends: Option<(OwnedFd, OwnedFd)>,
    /// Bytes in it.
    held: usize,
    /// The system does not let us: some sandboxes do not, nor does one that had no memory for it.
    refused: bool,
}

impl Default for Pipe {
    /// Made at once, so that how many descriptors a worker has does not depend on what passes.
    fn default() -> Self {
        Self { ends: open().ok(), held: 0, refused: false }
    }
}

impl Pipe {
    /// Whether so many bytes that need not be looked at should go through the pipe. The pipe is empty then.
    #[inline]
    pub fn serves(&mut self, unseen: u64) -> bool {
        unseen >= WORTH && !self.refused && self.is_there()
    }

    fn is_there(&mut self) -> bool {
        if self.held > 0 {
            // The one they were for has gone.
            *self = Self::default();
        }
        if self.ends.is_none() {
            self.ends = open().ok();
        }
        self.ends.is_some()
    }

    /// Receives what has come, without waiting, at most `most` bytes and [`PASS_MAX`]; zero: the peer has closed its sending
    /// side. `source` does not block.
    ///
    /// # Errors
    /// `WouldBlock`: nothing has come. Others: the connection is broken.
    pub fn fill(&mut self, source: &impl AsFd, most: u64) -> io::Result<usize> {
        let Some((_, writer)) = &self.ends else { return Err(Errno::NOSYS.into()) };
        let most = usize::try_from(most).unwrap_or(PASS_MAX).min(PASS_MAX);
        let count = splice(source, writer, most)?;
        self.held += count;
        Ok(count)
    }

    /// Sends what the destination takes of what is in the pipe, without waiting. `destination` does not block. A broken
    /// connection is an error and no signal, as Rust's programs ignore SIGPIPE; splice(2) has no flag for it.
    ///
    /// # Errors
    /// `WouldBlock`: it takes nothing now. Others: the connection is broken.
    pub fn pour(&mut self, destination: &impl AsFd) -> io::Result<usize> {
        let Some((reader, _)) = &self.ends else { return Err(Errno::NOSYS.into()) };
        let count = splice(reader, destination, self.held)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }

    /// Tells `exchange` what became of a [`Pipe::fill`] and of the [`Pipe::pour`] behind it, which a fill that received
    /// nothing has not. What is still in the pipe goes into the `window`.
    pub fn report(
        &mut self,
        (received, sent): (io::Result<usize>, Poll<io::Result<usize>>),
        (exchange, direction): (&mut Exchange, Direction),
        window: &mut Window,
        worker: &mut Worker,
    ) {
        match received {
            Ok(0) => exchange.filled(direction, window, 0, worker),
            Ok(received) => {
                let sent = match sent {
                    Poll::Ready(Ok(sent)) => sent,
                    Poll::Ready(Err(error)) if !self.outlives(&error) => {
                        return exchange.send_failed(direction, worker);
                    }
                    Poll::Pending | Poll::Ready(Err(_)) => 0,
                };
                exchange.passed(direction, sent, worker);
                if sent < received {
                    match self.drain(window, &mut worker.windows) {
                        Ok(rest) => exchange.filled(direction, window, rest, worker),
                        Err(_) => exchange.fill_failed(direction, window, worker),
                    }
                }
            }
            Err(error) if self.outlives(&error) => {}
            Err(_) => exchange.fill_failed(direction, window, worker),
        }
    }

    /// Whether an error says nothing about the connection, which goes on, perhaps without a pipe.
    fn outlives(&mut self, error: &io::Error) -> bool {
        let refused =
            [Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOMEM, Errno::NOBUFS];
        self.refused |= Errno::from_io_error(error).is_some_and(|error| refused.contains(&error));
        self.refused || error.kind() == io::ErrorKind::Interrupted
    }

    /// Puts what is in the pipe into the spare part of an empty `window`. Returns how many bytes that are.
    ///
    /// # Errors
    /// They cannot be had, and are lost.
    fn drain(&mut self, window: &mut Window, windows: &mut WindowPool) -> io::Result<usize> {
        let Some((reader, _)) = &self.ends else { return Ok(0) };
        windows.lend(window);
        if window.spare_len() < self.held {
            windows.promote(window);
        }
        let mut drained = 0;
        while drained < self.held {
            let room = window.spare_mut().get_mut(drained..).unwrap_or_default();
            match rustix::io::read(reader, room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => drained += count,
            }
        }
        self.held = 0;
        Ok(drained)
    }
}

/// Does `work` on a socket that blocks, as a completion runtime has it, as if it did not.
///
/// # Errors
/// Those of `work`; `WouldBlock` is [`Poll::Pending`].
pub fn unblocked<S: AsFd>(socket: &S, work: impl FnOnce(&S) -> io::Result<usize>) -> Poll<io::Result<usize>> {
    let result = rustix::io::ioctl_fionbio(socket, true).map_err(io::Error::from).and_then(|()| work(socket));
    // Failing means that the socket is no socket any more; its next operation says so.
    let _ = rustix::io::ioctl_fionbio(socket, false);
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

#[cfg(target_os = "linux")]
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

#[cfg(target_os = "linux")]
fn splice(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    use rustix::pipe::SpliceFlags;
    Ok(rustix::pipe::splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(not(target_os = "linux"))]
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn splice(_: &impl AsFd, _: &impl AsFd, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn bytes_go_through_and_what_is_not_taken_is_in_the_window() {
        let ((source, mut sender), (destination, mut receiver)) = (pair(), pair());
        let mut pipe = Pipe::default();
        assert!(!pipe.serves(WORTH - 1) && pipe.serves(WORTH));
        assert_eq!(pipe.fill(&source, WORTH).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        sender.write_all(b"abcdef").unwrap();
        assert_eq!(pipe.fill(&source, 4).unwrap(), 4);
        assert_eq!(pipe.pour(&destination).unwrap(), 4);
        let mut taken = [0; 4];
        receiver.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"abcd");
        assert_eq!(pipe.fill(&source, WORTH).unwrap(), 2);
        let (mut window, mut windows) = (Window::new(), WindowPool::default());
        assert_eq!(pipe.drain(&mut window, &mut windows).unwrap(), 2);
        window.commit(2);
        assert_eq!((window.live(), pipe.held), (&b"ef"[..], 0));
    }

    #[test]
    fn what_was_left_in_it_reaches_nobody_else() {
        let (source, mut sender) = pair();
        let mut pipe = Pipe::default();
        assert!(pipe.serves(WORTH));
        sender.write_all(b"of another").unwrap();
        assert_eq!(pipe.fill(&source, WORTH).unwrap(), 10);
        assert!(pipe.serves(WORTH));
        assert_eq!(pipe.held, 0);
        assert_eq!(pipe.fill(&source, WORTH).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (destination, _receiver) = pair();
        assert_eq!(pipe.pour(&destination).unwrap_or(0), 0, "nothing is in it");
    }
}
