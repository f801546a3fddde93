//! Opening the listeners: each worker has a socket of its own (`SO_REUSEPORT`), so that the kernel spreads connections
//! and workers share nothing.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::BindAddress;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The file of a unix socket that was opened. While this program drains, its successor may have put another one in its
/// place, which is not ours to remove.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    print: Print,
}

/// What stays the same for as long as a file lives, also when its owner or mode change. Numbers are used again.
type Print = (u64, u64, Option<SystemTime>);

impl SocketFile {
    /// The file at `address`; `None`: it has none.
    pub(crate) fn at(address: &BindAddress) -> Option<Self> {
        let path = address.as_path()?.to_owned();
        let print = print(&path)?;
        Some(Self { path, print })
    }

    /// Removes the file if it is still the same.
    pub(crate) fn remove(self) {
        if print(&self.path) == Some(self.print) {
            // It is left behind then, and found to be stale.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn print(path: &Path) -> Option<Print> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

/// Opens `workers` sockets at `address`, and says where that is: the kernel chooses a port 0.
///
/// # Errors
/// The address cannot be used. A port that somebody else listens on is an error even where `SO_REUSEPORT` would let us
/// join: joining would hand a part of our connections to the other program.
pub(crate) fn open(address: &BindAddress, workers: usize) -> io::Result<(Vec<Socket>, BindAddress)> {
    match address {
        BindAddress::Tcp(address) => tcp(*address, workers),
        BindAddress::Unix(path) => unix(path, workers),
    }
}

fn tcp(address: SocketAddr, workers: usize) -> io::Result<(Vec<Socket>, BindAddress)> {
    // Without the flag, the kernel says whether anybody else is there. The probe does not listen: a client that connected
    // to it would be reset.
    let probe = bound(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    let sockets = if cfg!(target_os = "linux") {
        drop(probe);
        (0..workers).map(|_| bound(address, true)).collect::<io::Result<Vec<_>>>()?
    } else {
        // Elsewhere the flag does not spread connections: workers share one socket.
        shared(probe, workers)?
    };
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((sockets, BindAddress::Tcp(address)))
}

fn bound(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, so that both can be configured.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix(path: &Path, workers: usize) -> io::Result<(Vec<Socket>, BindAddress)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok((shared(socket, workers)?, BindAddress::Unix(path.to_owned())))
}

/// A socket file that nobody listens on was left behind by a program that died; one in use is not ours to take.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

fn shared(socket: Socket, workers: usize) -> io::Result<Vec<Socket>> {
    let mut sockets = (1..workers).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
    sockets.push(socket);
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> BindAddress {
        BindAddress::Tcp("127.0.0.1:0".parse().unwrap())
    }

    #[test]
    fn each_worker_has_a_socket_on_the_same_port_and_nobody_else_can_join() {
        let (sockets, address) = open(&any(), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            let own = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(BindAddress::Tcp(own), address);
        }
        assert_eq!(open(&address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_left_over_socket_file_is_replaced_and_a_used_one_is_not() {
        let folder = std::env::temp_dir().join(format!("homing-listen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let (sockets, address) = open(&BindAddress::Unix(path.clone()), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(open(&address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        drop(open(&address, 1).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file of somebody's").unwrap();
        assert_eq!(open(&address, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_socket_file_of_a_successor_stays() {
        let folder = std::env::temp_dir().join(format!("homing-successor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let (sockets, address) = open(&BindAddress::Unix(path.clone()), 1).unwrap();
        let file = SocketFile::at(&address).unwrap();
        drop(sockets);
        let (successor, address) = open(&address, 1).unwrap();
        file.remove();
        UnixStream::connect(&path).unwrap();
        let file = SocketFile::at(&address).unwrap();
        drop(successor);
        file.remove();
        assert!(!path.exists() && SocketFile::at(&address).is_none() && SocketFile::at(&any()).is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
