//! `eval PATH`: JSON lines in, JSON lines out.

use crate::analysis;
use crate::cli::{Global, Judging, ProjectPath};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use clap::Args;
use compiler::Compiled;
use compiler::wire::Evaluator;
use std::io::{BufRead, BufReader, Read};

/// A longer line is no packet; what is over is skipped.
const MAX_LINE: usize = 1 << 16;

/// Decide packets: JSON lines in, JSON lines out
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    project: ProjectPath,
    #[command(flatten)]
    judging: Judging,
}

pub fn run(global: &Global, args: &EvalArgs) -> Outcome {
    let analysis = analysis::meaning(&args.project.path, &args.judging)?;
    if analysis.refuse("decide packets", global) {
        return Ok(Exit::Findings);
    }
    decide(&analysis.compiled)
}

fn decide(compiled: &Compiled) -> Outcome {
    let evaluator = Evaluator::new(compiled);
    let mut input =
        Lines { inner: BufReader::with_capacity(MAX_LINE, std::io::stdin().lock()), line: Vec::new() };
    let mut out = Out::new();
    let mut malformed = false;
    while !out.is_closed() && input.next()? {
        let (answer, bad) = match std::str::from_utf8(&input.line) {
            _ if input.line.len() > MAX_LINE => {
                (error(&format!("the line is longer than {MAX_LINE} bytes")), true)
            }
            Ok(line) => evaluator.line(line),
            Err(_) => (error("the line is not UTF-8"), true),
        };
        malformed |= bad;
        out.text(&answer)?;
        out.text("\n")?;
        // Somebody may be waiting for this answer before writing the next line.
        if input.inner.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(Exit::findings(malformed))
}

fn error(why: &str) -> String {
    serde_json::json!({ "error": format!("not a packet: {why}") }).to_string()
}

/// Lines of bounded length.
struct Lines<R: Read> {
    inner: BufReader<R>,
    /// The last line without its end; over [`MAX_LINE`] bytes if it was too long.
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads the next line; `false` at the end.
    fn next(&mut self) -> Result<bool, Failure> {
        let cannot = |e| Failure::io("cannot read standard input", &e);
        self.line.clear();
        let mut any = false;
        loop {
            let chunk = self.inner.fill_buf().map_err(cannot)?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or(chunk);
            if self.line.len() <= MAX_LINE {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.inner.consume(used);
            if end.is_some() {
                break;
            }
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(any)
    }
}
