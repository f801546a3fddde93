//! The upstream hosts: each says who it is, echoes in a tunnel, sends events; and some can die.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::clients::read_head;

/// What may happen to a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Steady,
    Volatile,
    Mortal,
}

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    life: Arc<Life>,
}

struct Life {
    /// Bound throughout, so that nobody else gets the port while the host is dead.
    socket: Socket,
    /// `None`: dead.
    connections: Mutex<Option<HashMap<u64, TcpStream>>>,
    /// Deaths that have begun, and revivals that are complete.
    deaths: AtomicU64,
    revivals: AtomicU64,
    accepted: AtomicU64,
}

/// What is known of a host's life before a request.
#[derive(Clone, Copy)]
pub(crate) struct Alive(u64);

impl Host {
    pub(crate) fn start(kind: Kind) -> Self {
        let socket = bound();
        let name = socket.local_addr().unwrap().as_socket().unwrap().to_string();
        let life = Life {
            socket,
            connections: Mutex::default(),
            deaths: AtomicU64::new(0),
            revivals: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        };
        let host = Self { name, kind, life: Arc::new(life) };
        host.revive();
        host
    }

    /// Only one thread may call it.
    pub(crate) fn die_or_revive(&self) {
        if self.is_dead() { self.revive() } else { self.die() }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.connections.lock().unwrap().is_none()
    }

    fn revive(&self) {
        *self.life.connections.lock().unwrap() = Some(HashMap::new());
        self.life.socket.listen(1024).unwrap();
        let (life, name) = (Arc::clone(&self.life), self.name.clone());
        thread::spawn(move || life.serve(&name));
        self.life.revivals.fetch_add(1, Ordering::SeqCst);
    }

    fn die(&self) {
        self.life.deaths.fetch_add(1, Ordering::SeqCst);
        // Wakes the thread that accepts. The socket stays bound and refuses connections.
        self.life.socket.shutdown(Shutdown::Both).unwrap();
        for stream in self.life.connections.lock().unwrap().take().unwrap_or_default().into_values() {
            // Fails where the proxy was quicker.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// To be asked before a request; see [`Host::was_down`].
    pub(crate) fn alive(&self) -> Alive {
        Alive(self.life.revivals.load(Ordering::SeqCst))
    }

    /// Whether the host was dead at any time since.
    pub(crate) fn was_down(&self, since: Alive) -> bool {
        self.life.deaths.load(Ordering::SeqCst) + 1 > since.0
    }
}

/// A socket with a port that is bound by number: one that the kernel chose would be given back at a death.
fn bound() -> Socket {
    for _ in 0..100 {
        let socket = |port| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            std::io::Result::Ok(socket)
        };
        let port = socket(0).unwrap().local_addr().unwrap().as_socket().unwrap().port();
        if let Ok(socket) = socket(port) {
            return socket;
        }
    }
    panic!("no port stays free between two calls");
}

impl Life {
    fn serve(self: Arc<Self>, name: &str) {
        while let Ok((socket, _)) = self.socket.accept() {
            let stream = TcpStream::from(OwnedFd::from(socket));
            let _ = stream.set_nodelay(true);
            let Ok(known) = stream.try_clone() else { continue };
            let number = self.accepted.fetch_add(1, Ordering::Relaxed);
            match self.connections.lock().unwrap().as_mut() {
                Some(connections) => connections.insert(number, known),
                // Accepted at the moment of death.
                None => return,
            };
            let (life, name) = (Arc::clone(&self), name.to_owned());
            thread::spawn(move || {
                converse(BufReader::new(stream), &name);
                // The other half of the descriptor goes too, which closes the connection.
                life.connections.lock().unwrap().as_mut().and_then(|connections| connections.remove(&number));
            });
        }
    }
}

fn converse(mut stream: BufReader<TcpStream>, name: &str) {
    while let Some(head) = read_head(&mut stream) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let open = match path {
            "/tunnel" => "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo",
            "/events" => "200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked",
            _ => {
                if path == "/slow" {
                    // Long enough for a change to come in between.
                    thread::sleep(Duration::from_millis(5));
                }
                let answer = format!("HTTP/1.1 200 OK\r\nx-be: {name}\r\ncontent-length: 2\r\n\r\nok");
                if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
        };
        let answer = format!("HTTP/1.1 {open}\r\nx-be: {name}\r\n\r\n");
        let mut going = stream.get_mut().write_all(answer.as_bytes()).is_ok();
        let mut bytes = [0; 256];
        while going {
            going = if path == "/tunnel" {
                matches!(stream.read(&mut bytes), Ok(count @ 1..) if stream.get_mut().write_all(&bytes[..count]).is_ok())
            } else {
                thread::sleep(Duration::from_millis(20));
                stream.get_mut().write_all(b"9\r\ndata: x\n\n\r\n").is_ok()
            };
        }
        return;
    }
}
