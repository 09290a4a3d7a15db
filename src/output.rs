//! Standard output: results and nothing else.

use crate::exit::Failure;
use std::io::{self, BufWriter, StdoutLock, Write};

/// A buffered standard output. A reader that went away (`… | head`) is no failure: what is written after that goes
/// nowhere. Any other error of writing is one.
pub struct Out {
    inner: BufWriter<StdoutLock<'static>>,
    closed: bool,
}

impl Out {
    #[must_use]
    pub fn new() -> Self {
        Self { inner: BufWriter::with_capacity(1 << 16, io::stdout().lock()), closed: false }
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// # Errors
    /// The text could not be written.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// # Errors
    /// The bytes could not be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let result = self.inner.write_all(bytes);
        self.check(result)
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// It could not be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let result = self.inner.flush();
        self.check(result)
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::io("cannot write to standard output", &error)),
            Ok(()) => Ok(()),
        }
    }
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}

/// Text for people on standard error, such as diagnostics.
pub fn show(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One line for people on standard error; where even that is closed, nobody can be told.
pub fn tell(message: &str) {
    let _ = writeln!(io::stderr().lock(), "partywall: {message}");
}
