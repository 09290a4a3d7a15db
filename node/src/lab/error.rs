//! Why a lab could not be built, probed or removed.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// What this machine lacks, each with what to do about it.
    #[error("this machine cannot carry a lab: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    #[error("the kernel refused `{command}`: {message}")]
    Tool { command: String, message: String },
    #[error("cannot run `{command}`: {source}")]
    Spawn { command: String, source: std::io::Error },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{} is missing; build the project with `--target nft` first", path.display())]
    NoArtifacts { path: PathBuf },
    #[error("node `{node}`: apply.sh failed ({status}): {output}")]
    Apply { node: String, status: String, output: String },
    #[error("the lab is not up: {} of its namespaces are missing, first `{first}`", missing)]
    NotUp { missing: usize, first: String },
    #[error("the lab was never finished; `lab up` builds it anew")]
    Unfinished,
    #[error("the project has changed since the lab was built; `lab up` builds it anew")]
    Stale,
    #[error(
        "node `{node}` attaches externals `{first}` and `{second}` by one device `{dev}`, which the lab does not model"
    )]
    SharedDevice { node: String, dev: String, first: String, second: String },
    #[error("node `{node}` uses its underlay device `{dev}` as an attachment, which the lab does not model")]
    UnderlayAttach { node: String, dev: String },
    #[error("a worker of the lab stopped unexpectedly")]
    Worker,
}

impl LabError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Something that a lab needs and this machine does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `nft`, `CAP_NET_ADMIN`, `vxlan`, …
    pub what: String,
    pub help: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.what, self.help)
    }
}
