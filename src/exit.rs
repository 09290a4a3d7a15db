//! How a run ends.

use std::io;
use std::process::ExitCode;

/// The exit statuses, with one meaning for every subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, nothing at error level.
    Clean,
    /// Done; there are findings at error level, or a difference.
    Findings,
    /// Could not do it.
    Failed,
}

impl Exit {
    /// `Findings` if there are any.
    #[must_use]
    pub fn findings(any: bool) -> Self {
        if any { Self::Findings } else { Self::Clean }
    }

    /// The number that the shell sees.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Failed => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// Why a subcommand could not do its work: one sentence for people. The status is 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// What was tried and what the system said.
    pub fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self(format!("{what}: {}", plain(error)))
    }
}

/// The system's words without "(os error 13)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) if error.raw_os_error().is_some() => text.get(..at).unwrap_or(&text).to_owned(),
        _ => text,
    }
}

/// What every subcommand returns.
pub type Outcome = Result<Exit, Failure>;
