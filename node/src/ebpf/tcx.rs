//! Programs in a device's chain at tcx: the four system calls for which libbpf-rs has no function.
//!
//! A chain runs before all filters of clsact, in order; a pinned link keeps a program in it after its loader has ended, and is
//! given another program in one step.

#![expect(unsafe_code, reason = "libbpf-rs attaches programs to everything but tcx")]

use super::{EbpfError, Result, kernel};
use libbpf_rs::libbpf_sys::{
    BPF_F_BEFORE, BPF_TCX_EGRESS, BPF_TCX_INGRESS, bpf_link_create, bpf_link_create_opts, bpf_link_update,
    bpf_obj_get, bpf_obj_pin, bpf_prog_query_opts, bpf_prog_query_opts__bindgen_ty_1,
};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Programs of one chain that are read.
const MOST: usize = 64;

/// One program in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The kernel's number of the program.
    pub program: u32,
    /// Of the link that keeps it there; 0: none does.
    pub link: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// What a call of libbpf's returned: a number, or the negated error.
fn checked(step: &str, returned: i32) -> Result<i32> {
    if returned >= 0 {
        return Ok(returned);
    }
    Err(kernel(step)(libbpf_rs::Error::from_raw_os_error(returned.saturating_neg())))
}

/// The chain of a device, in order; `None` on a kernel that has none.
///
/// # Errors
/// There is no such device, or the caller may not ask.
pub fn chain(ifindex: u32, direction: Direction) -> Result<Option<Vec<Member>>> {
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut opts = bpf_prog_query_opts {
        sz: size_of::<bpf_prog_query_opts>().try_into().unwrap_or_default(),
        prog_ids: programs.as_mut_ptr(),
        link_ids: links.as_mut_ptr(),
        __bindgen_anon_1: bpf_prog_query_opts__bindgen_ty_1 {
            count: u32::try_from(MOST).unwrap_or_default(),
        },
        ..Default::default()
    };
    let kind = match direction {
        Direction::Ingress => BPF_TCX_INGRESS,
        Direction::Egress => BPF_TCX_EGRESS,
    };
    // SAFETY: both arrays live until the call returns and have as many elements as `count` says.
    let returned =
        unsafe { libbpf_rs::libbpf_sys::bpf_prog_query_opts(ifindex.cast_signed(), kind, &raw mut opts) };
    // A kernel before 6.6 knows no such kind of attachment.
    if returned == -(Errno::EINVAL as i32) {
        return Ok(None);
    }
    checked("asking for a device's chain of programs", returned)?;
    // SAFETY: both variants of the union are the same `u32`.
    let count = usize::try_from(unsafe { opts.__bindgen_anon_1.count }).unwrap_or_default();
    let members = programs.into_iter().zip(links).take(count);
    Ok(Some(members.map(|(program, link)| Member { program, link }).collect()))
}

/// Puts a program at the head of a device's chain at ingress. It stays there while the link or a pin of it is there.
///
/// # Errors
/// The kernel refuses.
pub fn first(program: &impl AsFd, ifindex: u32) -> Result<OwnedFd> {
    let opts = bpf_link_create_opts {
        sz: size_of::<bpf_link_create_opts>().try_into().unwrap_or_default(),
        // Before nothing in particular is before all. What is not set is zero, the union of the kinds of links as a whole.
        flags: BPF_F_BEFORE,
        ..Default::default()
    };
    let program = program.as_fd().as_raw_fd();
    // SAFETY: `opts` is whole and lives until the call returns; the descriptor is open for as long.
    let returned =
        unsafe { bpf_link_create(program, ifindex.cast_signed(), BPF_TCX_INGRESS, &raw const opts) };
    let link = checked("linking a program to a device", returned)?;
    // SAFETY: the call returned a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Gives a link another program, in one step.
///
/// # Errors
/// The kernel refuses.
pub fn replace(link: &impl AsFd, program: &impl AsFd) -> Result<()> {
    let (link, program) = (link.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
    // SAFETY: both descriptors are open until the call returns; no options are given.
    let returned = unsafe { bpf_link_update(link, program, std::ptr::null()) };
    checked("replacing a device's program", returned).map(drop)
}

fn text(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| EbpfError::Missing(format!("path {}", path.display())))
}

/// Gives a link a name on a BPF file system.
///
/// # Errors
/// The kernel refuses.
pub fn pin(link: &impl AsFd, path: &Path) -> Result<()> {
    let name = text(path)?;
    // SAFETY: the text ends in a zero and lives until the call returns, as does the descriptor.
    let returned = unsafe { bpf_obj_pin(link.as_fd().as_raw_fd(), name.as_ptr()) };
    checked("pinning a link", returned).map(drop)
}

/// A pinned link.
///
/// # Errors
/// There is none.
pub fn pinned(path: &Path) -> Result<OwnedFd> {
    let name = text(path)?;
    // SAFETY: the text ends in a zero and lives until the call returns.
    let link = checked("opening a pinned link", unsafe { bpf_obj_get(name.as_ptr()) })?;
    // SAFETY: the call returned a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}
