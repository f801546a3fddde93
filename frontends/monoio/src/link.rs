//! One connection to an upstream host.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use homing_core::worker::LinkKey;
use monoio::io::{OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use socket2::SockRef;

use crate::lend::Descriptor;

/// A connected upstream socket. Its halves are borrowed while an operation is under way; there is at most one of each
/// kind, since each direction of a connection does one thing at a time.
pub(crate) struct Link {
    pub(crate) key: LinkKey,
    pub(crate) descriptor: Descriptor,
    pub(crate) reader: RefCell<OwnedReadHalf<TcpStream>>,
    pub(crate) writer: RefCell<OwnedWriteHalf<TcpStream>>,
}

impl Link {
    /// Takes over a connected stream and its descriptor.
    pub(crate) fn new(key: LinkKey, descriptor: Descriptor, stream: TcpStream) -> io::Result<Rc<Self>> {
        // io_uring waits by itself; on a non-blocking socket it would say EAGAIN instead.
        SockRef::from(&descriptor).set_nonblocking(false)?;
        let (reader, writer) = stream.into_split();
        Ok(Rc::new(Self { key, descriptor, reader: RefCell::new(reader), writer: RefCell::new(writer) }))
    }

    /// Ends both directions, so that operations under way come back at once.
    pub(crate) fn shut(&self) {
        // Failing means that the host has gone already.
        let _ = SockRef::from(&self.descriptor).shutdown(Shutdown::Both);
    }

    /// Ends the sending direction.
    pub(crate) fn half_close(&self) {
        let _ = SockRef::from(&self.descriptor).shutdown(Shutdown::Write);
    }
}
