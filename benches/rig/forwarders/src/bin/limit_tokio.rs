//! The bare forwarder on tokio's current-thread runtime.

use std::io;

use forwarders::{Plan, REQUEST_BUFFER, RESPONSE_BUFFER};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve(Plan::from_args()))
}

async fn serve(mut plan: Plan) -> io::Result<()> {
    let listener = TcpListener::bind(plan.listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        let upstream = plan.next_upstream();
        spawn_local(async move {
            let Ok(upstream) = TcpStream::connect(upstream).await else { return };
            if client.set_nodelay(true).is_err() || upstream.set_nodelay(true).is_err() {
                return;
            }
            let (client_read, client_write) = client.into_split();
            let (upstream_read, upstream_write) = upstream.into_split();
            spawn_local(copy(upstream_read, client_write, RESPONSE_BUFFER));
            copy(client_read, upstream_write, REQUEST_BUFFER).await;
        });
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, size: usize) {
    let mut buffer = vec![0; size];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    // The peer may be gone already; there is no one to tell.
    let _ = to.shutdown().await;
}
