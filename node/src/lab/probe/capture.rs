//! Seeing on the wire: one packet socket in every namespace of the lab.

use super::wire::{self, Seen};
use crate::lab::error::LabError;
use crate::lab::netns;
use crate::lab::topology::{ENDPOINT_DEV, Topology};
use compiler::Compiled;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom,
    sendto, setsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// linux/if_packet.h
const PACKET_OUTGOING: u8 = 4;
/// How long a capture sleeps at most before it looks whether it is to stop, in milliseconds.
const TICK: u16 = 50;
/// Receive buffer of one socket, in bytes.
const BUFFER: usize = 4 << 20;

/// Where a packet was seen. All numbers are indices into the [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Endpoint(usize),
    /// A node's device on the underlay.
    Underlay(usize),
    /// An external's end of a cable.
    Link {
        external: usize,
        link: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) place: Place,
    /// Whether the namespace sent it, rather than received it.
    pub(crate) outgoing: bool,
    pub(crate) seen: Seen,
}

/// A packet socket on one device.
#[derive(Debug)]
pub(crate) struct Tap {
    fd: OwnedFd,
    device: LinkAddr,
    pub(crate) place: Place,
}

impl Tap {
    /// A socket for everything on this device of the namespace.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses.
    fn open(netns: &str, dev: &str, place: Place) -> Result<Self, LabError> {
        netns::enter(netns, || {
            let device = device(dev)?;
            let opened = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
            .and_then(|fd| {
                // Without the right to exceed the machine's limit the default has to do.
                let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER);
                bind(fd.as_raw_fd(), &device).map(|()| fd)
            });
            let fd =
                opened.map_err(|e| LabError::io(format!("cannot capture on {netns}/{dev}"))(e.into()))?;
            Ok(Self { fd, device, place })
        })
    }

    /// Sends a frame out of the device.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(self.fd.as_raw_fd(), frame, &self.device, MsgFlags::empty()).map(drop).map_err(io::Error::from)
    }

    /// The device's own MAC.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.device.addr().unwrap_or_default()
    }

    fn drain(&self, buffer: &mut [u8], mut each: impl FnMut(bool, &[u8])) -> Result<(), Errno> {
        loop {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), buffer) {
                Ok((length, from)) => {
                    let outgoing = from.is_some_and(|a| a.pkttype() == PACKET_OUTGOING);
                    each(outgoing, buffer.get(..length).unwrap_or_default());
                }
                Err(Errno::EAGAIN) => return Ok(()),
                // The device went down and up again.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The link-layer address of a device of the calling thread's namespace.
fn device(name: &str) -> Result<LinkAddr, LabError> {
    let what = || format!("cannot find device {name}");
    nix::ifaddrs::getifaddrs()
        .map_err(|e| LabError::io(what())(e.into()))?
        .filter(|i| i.interface_name == name)
        .find_map(|i| i.address.and_then(|a| a.as_link_addr().copied()))
        .filter(|a| a.family() == Some(AddressFamily::Packet))
        .ok_or_else(|| LabError::io(what())(io::ErrorKind::NotFound.into()))
}

/// The MAC of a device in a namespace.
///
/// # Errors
/// It is not there.
pub(crate) fn mac_of(netns: &str, dev: &str) -> Result<[u8; 6], LabError> {
    netns::enter(netns, || device(dev).map(|d| d.addr().unwrap_or_default()))
}

/// All taps of a lab.
#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) taps: Vec<Tap>,
}

impl Taps {
    /// # Errors
    /// One of the devices is not there.
    pub(crate) fn open(t: &Topology) -> Result<Self, LabError> {
        let mut taps = Vec::new();
        for (number, place) in t.endpoints.iter().enumerate() {
            taps.push(Tap::open(&place.netns, ENDPOINT_DEV, Place::Endpoint(number))?);
        }
        for (number, place) in t.nodes.iter().enumerate() {
            taps.push(Tap::open(&place.netns, &place.dev, Place::Underlay(number))?);
        }
        for (external, place) in t.externals.iter().enumerate() {
            for (link, cable) in place.links.iter().enumerate() {
                taps.push(Tap::open(&place.netns, &cable.peer, Place::Link { external, link })?);
            }
        }
        Ok(Self { taps })
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Tap> {
        self.taps.iter().find(|t| t.place == place)
    }
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Mutex<Vec<Event>>,
}

impl Log {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an event like this has been seen.
    pub(crate) fn any(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().any(wanted)
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Logs every packet of this run on every tap until told to stop.
///
/// # Errors
/// A socket fails.
pub(crate) fn watch(
    c: &Compiled,
    run: u32,
    taps: &Taps,
    log: &Log,
    stop: &AtomicBool,
) -> Result<(), LabError> {
    let encap = (c.model.fabric.encap, c.model.fabric.port);
    let failed = |e: Errno| LabError::io("a capture failed")(e.into());
    let mut buffer = vec![0; 1 << 16];
    loop {
        // Asked before the last look, so that nothing that came before the order to stop is missed.
        let last = stop.load(Ordering::Acquire);
        let mut fds: Vec<PollFd<'_>> =
            taps.taps.iter().map(|t| PollFd::new(t.fd.as_fd(), PollFlags::POLLIN)).collect();
        let wait = if last { PollTimeout::ZERO } else { PollTimeout::from(TICK) };
        match poll(&mut fds, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        for (tap, fd) in taps.taps.iter().zip(&fds) {
            if fd.any() != Some(true) {
                continue;
            }
            tap.drain(&mut buffer, |outgoing, bytes| {
                if wire::is_ip(bytes)
                    && let Some(seen) = wire::recognise(run, encap, bytes)
                {
                    log.push(Event { place: tap.place, outgoing, seen });
                }
            })
            .map_err(failed)?;
        }
        if last {
            return Ok(());
        }
    }
}
