//! One upstream instance: small HTTP services that say which instance answered.
//!
//! Each instance keeps something in memory (its visits), so it is a person's or a test's question whether a session
//! stays home. Besides the friendly endpoints there are rude ones, which do on purpose what real upstreams do by
//! accident: close, reset, answer early, answer slowly. See `endpoints` for the list.
//!
//! One instance is one thread with one single-threaded runtime, stopped by dropping its [`Upstream`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::endpoints::Instance;
use super::socket;

/// A running instance; dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens; with the port the kernel chose when port 0 was asked for.
    pub address: SocketAddr,
    /// The name it answers with.
    pub name: Arc<str>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts an instance called `name` on `listen`; port 0 lets the kernel choose. It answers from now on.
///
/// `name` appears in headers, JSON and HTML: 1 to 64 letters, digits, `-` and `_`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for another name; else what the kernel says of the address, or of one more thread.
pub fn start(name: &str, listen: SocketAddr) -> io::Result<Upstream> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        let what = format!("instance name {name:?} must be 1 to 64 letters, digits, '-' and '_'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(listen))?;
    let address = listener.local_addr()?;
    let name: Arc<str> = name.into();
    let instance = Arc::new(Instance::new(Arc::clone(&name)));
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("upstream-{name}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = socket::accept(listener, instance) => {}
                _ = stopped => {}
            }
        });
    })?;
    Ok(Upstream { address, name, stop: Some(stop), thread: Some(thread) })
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The send fails only if the thread has ended already, which is what it asks for.
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}
