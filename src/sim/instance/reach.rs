//! Listeners inside an instance that lead to the same address outside: the daemon, the simulated cloud itself.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::wire::{Ask, Wire};

/// Listens at the address inside and forwards each connection, until the network closes.
pub(super) async fn forward(
    control: &Wire,
    address: SocketAddr,
    network: CancellationToken,
) -> io::Result<()> {
    let (_, fds) = control.ask(Ask::Listen(address), &[]).await?;
    let listener = std::net::TcpListener::from(fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(network.clone().run_until_cancelled_owned(async move {
        loop {
            match listener.accept().await {
                Ok((inside, _)) => {
                    tokio::spawn(network.clone().run_until_cancelled_owned(join(inside, address)));
                }
                // Out of descriptors, or a client that left: later ones may fare better.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }));
    Ok(())
}

async fn join(mut inside: TcpStream, address: SocketAddr) {
    // Whatever goes wrong outside, the client inside sees its connection close.
    let joined = async {
        let mut outside = TcpStream::connect(address).await?;
        inside.set_nodelay(true)?;
        outside.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut inside, &mut outside).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%address, %error, "a connection out of an instance ended");
    }
}
