//! Below HTTP: accepting, one socket that both hyper and an endpoint can write to, and how a connection ends.
//!
//! ```text
//! accept ─▶ hyper ─┬─ done ────────────▶ linger ─▶ closed
//!            ▲     ├─ upgraded ─▶ echo ▶ linger
//!            │     ├─ Ending::Close ───▶ linger          (the endpoint wrote the answer itself)
//!            │     ├─ Ending::Reset ───▶ reset
//!            └─────┴─ Ending::KeepAlive                  (likewise, and the connection goes on)
//! ```

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::endpoints::Instance;

/// How long a closed connection still reads, so that the peer gets the answer instead of a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How long to wait when the process has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One client's socket, shared between hyper and the endpoint at work.
#[derive(Clone, Debug)]
pub(super) struct Socket(Arc<TcpStream>);

/// What an endpoint may know of, and do to, its connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) socket: Socket,
    /// Set by an endpoint that answers with 101.
    upgrade: Mutex<Option<OnUpgrade>>,
}

/// What becomes of the connection when hyper is not to write the answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// A whole, delimited answer was written: the next request may come. (One that was pipelined behind this one is
    /// lost with hyper's buffer.)
    KeepAlive,
    /// Close in good order.
    Close,
    /// Send a reset.
    Reset,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAlive => "answered below hyper; the connection goes on",
            Self::Close => "the endpoint closes the connection",
            Self::Reset => "the endpoint resets the connection",
        })
    }
}

impl std::error::Error for Ending {}

/// Serves connections for ever.
pub(super) async fn accept(listener: TcpListener, instance: Arc<Instance>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it, an answer written in two parts could wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(Socket(Arc::new(stream)), Arc::clone(&instance)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(socket: Socket, instance: Arc<Instance>) {
    let peer = Arc::new(Peer { socket: socket.clone(), upgrade: Mutex::new(None) });
    let ending = loop {
        let service = service_fn(|request| super::endpoints::answer(&instance, &peer, request));
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // A client that has said all it wants to say still gets its answer.
            .half_close(true)
            .serve_connection(TokioIo::new(socket.clone()), service)
            .with_upgrades()
            .await;
        let ending = served.err().and_then(|error| {
            use std::error::Error;
            error.source()?.downcast_ref::<Ending>().copied()
        });
        match ending {
            Some(Ending::KeepAlive) => {}
            Some(Ending::Reset) => break Ending::Reset,
            Some(Ending::Close) | None => break Ending::Close,
        }
    };
    let upgrade = peer.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(upgrade) = upgrade {
        // An error is the client's end of the conversation, in good order or not.
        let _ = echo(upgrade, &instance).await;
    }
    match ending {
        Ending::Reset => {
            let _ = socket2::SockRef::from(&*socket.0).set_linger(Some(Duration::ZERO));
        }
        Ending::KeepAlive | Ending::Close => socket.linger().await,
    }
}

/// Answers each text with the instance's name before it, and each binary message with itself.
async fn echo(upgrade: OnUpgrade, instance: &Instance) -> Result<(), Box<dyn std::error::Error>> {
    let stream = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => {
                socket.send(Message::text(format!("{}: {text}", instance.name()))).await?;
            }
            Message::Binary(bytes) => socket.send(Message::Binary(bytes)).await?,
            // The library answers pings and closes by itself.
            _ => {}
        }
    }
    Ok(())
}

impl Peer {
    /// Hands the connection to the WebSocket echo once hyper has written the 101.
    pub(super) fn upgrade(&self, upgrade: OnUpgrade) {
        *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
    }
}

impl Socket {
    /// The client's address.
    pub(super) fn address(&self) -> String {
        self.0.peer_addr().map_or_else(|_| String::from("gone"), |address| address.to_string())
    }

    /// Writes past hyper. Only while hyper waits for the answer to the one request it has read, so nothing of its own
    /// can be half written.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> Result<(), Ending> {
        while !bytes.is_empty() {
            let wrote = self.0.async_io(Interest::WRITABLE, || self.0.try_write(bytes)).await;
            let Ok(wrote) = wrote else { return Err(Ending::Close) };
            bytes = bytes.split_at_checked(wrote).map_or(&[], |(_, rest)| rest);
        }
        Ok(())
    }

    /// Says that nothing more comes, then reads until the client says the same: a socket that is closed with unread
    /// bytes resets the connection, and the reset overtakes the answer (RFC 9112 §9.6).
    async fn linger(&self) {
        let _ = socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write);
        let drain = async {
            let mut bytes = vec![0; 16 * 1024];
            let read = |bytes: &mut [u8]| self.0.try_read(bytes);
            while matches!(self.0.async_io(Interest::READABLE, || read(&mut bytes)).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing yet: the end is [`serve`]'s to choose.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
