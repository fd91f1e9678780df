//! The control socket between the simulated cloud and the processes of an instance: one JSON message in each packet,
//! with file descriptors beside it.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::boot_spec::{BootSpec, Isolation};

/// The most bytes of one message; the kernel's own limit for such a packet is a little higher.
const LARGEST: usize = 200 * 1024;

/// What pid 1 is asked to do to the agent of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AgentVerb {
    Start,
    Stop,
    Kill,
    Freeze,
    Thaw,
}

/// A request; the first three are the keeper's, the others pid 1's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Make the instance's root under this directory.
    Prepare(PathBuf),
    /// Start pid 1; its control socket comes along.
    Boot(Box<BootSpec>),
    /// Kill pid 1 and with it everything else in the instance; answered when all of it is dead.
    Kill,
    /// An unbound TCP socket of the instance's network.
    Socket,
    /// A listening socket at this address of the instance's network.
    Listen(SocketAddr),
    /// Run a command; its stdout and stderr come along.
    Exec(Vec<String>),
    Agent(AgentVerb),
}

/// An answer, or (with id 0) a report that nobody asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Prepared {
        isolation: Isolation,
        limits: Vec<String>,
    },
    Exit(i32),
    Failed(String),
    /// User-data has ended with this exit code.
    Booted(i32),
}

/// A message with the id that ties an answer to its question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<T> {
    pub id: u64,
    pub body: T,
}

/// Two connected control sockets, closed on exec.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message with descriptors beside it.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &Envelope<T>,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a control message of {} bytes is over the limit of {LARGEST}", bytes.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and its descriptors; None when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(Envelope<T>, Vec<OwnedFd>)>> {
    buffer.resize(LARGEST, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(Some((serde_json::from_slice(&buffer[..got.bytes])?, fds)))
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<(Answer, Vec<OwnedFd>)>>>>;

/// The asking end of a control socket.
pub(super) struct Wire {
    /// A packet socket; tokio's type serves any that the kernel can poll.
    socket: Arc<UnixStream>,
    waiting: Waiting,
    next: AtomicU64,
    /// Cancelled when the other side is gone.
    pub(super) gone: CancellationToken,
}

impl Wire {
    /// Takes over the socket; `report` gets what comes unasked.
    pub(super) fn start(socket: OwnedFd, report: impl Fn(Answer) + Send + 'static) -> io::Result<Wire> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = Arc::new(UnixStream::from_std(socket.into())?);
        let waiting: Waiting = Arc::default();
        let gone = CancellationToken::new();
        let wire = Wire { socket: socket.clone(), waiting: waiting.clone(), next: AtomicU64::new(1), gone };
        let gone = wire.gone.clone();
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            loop {
                let received = tokio::select! {
                    () = gone.cancelled() => break,
                    received = socket.async_io(Interest::READABLE, || {
                        receive::<Answer>(socket.as_fd(), &mut buffer)
                    }) => received,
                };
                let Ok(Some((Envelope { id, body }, fds))) = received else { break };
                if id == 0 {
                    report(body);
                } else if let Some(asker) = lock(&waiting).remove(&id) {
                    // An asker that went away needs no answer.
                    drop(asker.send((body, fds)));
                }
            }
            gone.cancel();
            lock(&waiting).clear();
        });
        Ok(wire)
    }

    /// Asks and waits for the answer; `Answer::Failed` becomes an error.
    pub(super) async fn ask(&self, ask: Ask, fds: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let envelope = Envelope { id, body: ask };
        let sent =
            self.socket.async_io(Interest::WRITABLE, || send(self.socket.as_fd(), &envelope, fds)).await;
        if let Err(error) = sent {
            lock(&self.waiting).remove(&id);
            return Err(error);
        }
        if self.gone.is_cancelled() {
            lock(&self.waiting).remove(&id);
        }
        match answered.await {
            Ok((Answer::Failed(error), _)) => Err(io::Error::other(error)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the instance is not running")),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
