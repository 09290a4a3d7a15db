//! Connections and datagrams as real machines make them, and servers that answer them.

use super::wire::{self, MARK_LEN};
use crate::lab::error::LabError;
use crate::lab::netns;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long servers sleep at most before they look whether they are to stop, in milliseconds.
const TICK: u16 = 50;
/// Datagrams sent before an answer is given up, at equal distances.
const DATAGRAMS: u32 = 3;

/// Connects, sends the mark and waits for it to come back. `false`: refused, or nothing within `patience`.
///
/// # Errors
/// The machine itself stands in the way: the namespace, or the source address.
pub(crate) fn tcp(
    netns: &str,
    (src, dst): (SocketAddr, SocketAddr),
    mark: &[u8],
    patience: Duration,
) -> Result<bool, LabError> {
    netns::enter(netns, || {
        let fd = stream(src).map_err(LabError::io(format!("cannot bind tcp {src} in {netns}")))?;
        Ok(converse(fd, dst, mark, patience).unwrap_or(false))
    })
}

fn stream(src: SocketAddr) -> io::Result<OwnedFd> {
    let family = if src.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // Closed with a reset, so that the same ports can be used again at once.
    setsockopt(&fd, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(src))?;
    Ok(fd)
}

fn converse(fd: OwnedFd, dst: SocketAddr, mark: &[u8], patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(dst)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            let wait = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            let ready = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], wait)?;
            if ready == 0 || getsockopt(&fd, sockopt::SocketError)? != 0 {
                return Ok(false);
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    let mut stream = TcpStream::from(fd);
    stream.set_nonblocking(false)?;
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.write_all(mark)?;
    let mut answer = [0; MARK_LEN];
    stream.read_exact(&mut answer)?;
    Ok(answer.starts_with(mark.get(..MARK_LEN - 1).unwrap_or_default()))
}

/// Sends datagrams with the mark until one is answered. `false`: none was within `patience`.
///
/// # Errors
/// The machine itself stands in the way.
pub(crate) fn udp(
    netns: &str,
    (src, dst): (SocketAddr, SocketAddr),
    mark: &[u8],
    patience: Duration,
    attempts: bool,
) -> Result<bool, LabError> {
    netns::enter(netns, || {
        let socket =
            UdpSocket::bind(src).map_err(LabError::io(format!("cannot bind udp {src} in {netns}")))?;
        let attempts = if attempts { DATAGRAMS } else { 1 };
        Ok((0..attempts).any(|_| datagram(&socket, dst, mark, patience / attempts).unwrap_or(false)))
    })
}

fn datagram(socket: &UdpSocket, dst: SocketAddr, mark: &[u8], patience: Duration) -> io::Result<bool> {
    socket.connect(dst)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(mark)?;
    let mut answer = [0; 2 * MARK_LEN];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    Ok(wire::read_mark(answer).is_some_and(|(_, _, reply)| reply))
}

/// Servers that send every mark back as a reply.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    there: BTreeSet<(String, bool, SocketAddr)>,
}

impl Servers {
    /// Listens in a namespace, unless something of these servers does so already.
    ///
    /// # Errors
    /// The address cannot be bound there.
    pub(crate) fn add(&mut self, netns: &str, stream: bool, at: SocketAddr) -> Result<(), LabError> {
        if !self.there.insert((netns.to_owned(), stream, at)) {
            return Ok(());
        }
        let failed = || format!("cannot listen on {at} in {netns}");
        if stream {
            let listener = netns::enter(netns, || TcpListener::bind(at).map_err(LabError::io(failed())))?;
            listener.set_nonblocking(true).map_err(LabError::io(failed()))?;
            self.tcp.push(listener);
        } else {
            let socket = netns::enter(netns, || UdpSocket::bind(at).map_err(LabError::io(failed())))?;
            socket.set_nonblocking(true).map_err(LabError::io(failed()))?;
            self.udp.push(socket);
        }
        Ok(())
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// `poll` fails.
    pub(crate) fn serve(&self, stop: &AtomicBool) -> Result<(), LabError> {
        let mut connections: Vec<TcpStream> = Vec::new();
        while !stop.load(Ordering::Acquire) {
            let fds = self.tcp.iter().map(AsFd::as_fd).chain(self.udp.iter().map(AsFd::as_fd));
            let fds = fds.chain(connections.iter().map(AsFd::as_fd));
            let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, TICK) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(LabError::io("a server failed")(errno.into())),
            }
            drop(fds);
            // All sockets are non-blocking: asking one that is not ready costs little and keeps this simple.
            connections.retain_mut(echo);
            for socket in &self.udp {
                answer(socket);
            }
            for listener in &self.tcp {
                while let Ok((stream, _)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok() {
                        connections.push(stream);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the connection lives on.
fn echo(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; MARK_LEN];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => stream.write_all(buffer.get(..length).unwrap_or_default()).is_ok(),
        Err(e) => matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 2 * MARK_LEN];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some((run, shot, false)) = wire::read_mark(buffer.get(..length).unwrap_or_default()) {
            // A reply that the kernel cannot send is a reply that does not come: the probe says so.
            let _ = socket.send_to(&wire::mark(run, shot, true), from);
        }
    }
}
