//! Why a node's generation could not be installed, read or compared.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// What was tried, and what the system said.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("cannot run `{command}`: {source}; install {package}, and have /usr/sbin in PATH")]
    Spawn { command: String, package: &'static str, source: io::Error },
    #[error("`{command}` was refused: {message}")]
    Refused { command: String, message: String },
    #[error("{what} is not what `{command}` of a known version prints")]
    Output { command: String, what: String },
    #[error("{} is no output of `build`: it has no manifest.json", dir.display())]
    NoManifest { dir: PathBuf },
    #[error("{}: {what}", path.display())]
    Manifest { path: PathBuf, what: String },
    #[error("{} was made for nodes {known}, and none of them is {wanted}; name one with --node", dir.display())]
    NoNode { dir: PathBuf, wanted: String, known: String },
    #[error("{}: the manifest names a digest and the file has another: it was damaged or changed after `build`", path.display())]
    Digest { path: PathBuf },
    #[error("nothing is installed here ({} has no generation); `partywall apply DIR` installs one", state.display())]
    NothingInstalled { state: PathBuf },
    #[error("there is no earlier generation to go back to")]
    NothingEarlier,
    #[error("another partywall is at work here and did not finish within {seconds} seconds")]
    Busy { seconds: u64 },
    /// The new generation was refused and the old one runs on.
    #[error("generation {generation} was refused and {running}: {message}")]
    Apply { generation: String, running: String, message: String },
    #[error(transparent)]
    Ebpf(#[from] crate::ebpf::EbpfError),
    #[error("a worker stopped unexpectedly")]
    Worker,
}

impl NodeError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn manifest(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Manifest { path: path.into(), what: what.into() }
    }
}
