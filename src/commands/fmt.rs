//! `fmt [PATH…]`: the one layout.

use crate::cli::{Global, HERE};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Out};
use crate::project;
use clap::Args;
use lang::source::Sources;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tracing::info;

/// Lay policy files out in the one way
#[derive(Debug, Args)]
pub struct FmtArgs {
    /// Folders and files; `-`: standard input to standard output
    #[arg(value_name = "PATH", default_value = HERE)]
    paths: Vec<PathBuf>,
    /// Change nothing, name the files that would change, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
    /// Change nothing, print what would change, and exit with 1 if anything would
    #[arg(long)]
    diff: bool,
}

/// One text to lay out.
struct Input {
    /// As shown to the user.
    name: String,
    /// Where it goes; `None`: standard output.
    place: Option<PathBuf>,
    bytes: Vec<u8>,
}

pub fn run(global: &Global, args: &FmtArgs) -> Outcome {
    let mut out = Out::new();
    let (mut differs, mut failed) = (false, false);
    for input in inputs(&args.paths)? {
        let Some((before, after)) = lay_out(&input, global.color_stderr()) else {
            failed = true;
            continue;
        };
        if args.check || args.diff {
            if before == after {
                continue;
            }
            differs = true;
            if args.check {
                out.text(&format!("{}\n", input.name))?;
            }
            if args.diff {
                out.text(&diff(&input.name, &before, &after))?;
            }
        } else if let Some(place) = &input.place {
            if before != after {
                replace(place, &after)?;
                info!(file = input.name, "laid out");
            }
        } else {
            out.text(&after)?;
        }
    }
    out.flush()?;
    Ok(if failed { Exit::Failed } else { Exit::findings(differs) })
}

fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .take(project::MAX_FILE_BYTES)
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::io("cannot read standard input", &e))?;
            inputs.push(Input { name: "<stdin>".into(), place: None, bytes });
        } else if path.is_dir() {
            for (_, place) in project::list(path)? {
                inputs.push(file(place)?);
            }
        } else {
            inputs.push(file(path.clone())?);
        }
    }
    Ok(inputs)
}

fn file(place: PathBuf) -> Result<Input, Failure> {
    let bytes = project::read(&place)?;
    Ok(Input { name: place.display().to_string(), place: Some(place), bytes })
}

/// The text before and after; `None` if it has errors of syntax, which are told.
fn lay_out(input: &Input, color: bool) -> Option<(String, String)> {
    let mut sources = Sources::new();
    let text = String::from_utf8_lossy(&input.bytes).into_owned();
    let id = sources.add(input.name.as_str(), text.as_str());
    let result = match std::str::from_utf8(&input.bytes) {
        Ok(text) => lang::fmt::format(text),
        Err(_) => Err(lang::parse_bytes(id, &input.bytes).diagnostics),
    };
    match result {
        Ok(after) => Some((text, after)),
        Err(diagnostics) => {
            let shown = lang::render::human(&sources, &diagnostics, color);
            output::show(&shown);
            output::tell(&format!("{} is left as it is: it has errors of syntax", input.name));
            None
        }
    }
}

fn diff(name: &str, before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().header(name, name).to_string()
}

/// Replaces a file at once: an interrupted run leaves the old or the new one. A link stays one.
fn replace(place: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::io(format!("cannot write {}", place.display()), &e);
    let target = place.canonicalize().map_err(cannot)?;
    let folder = target.parent().unwrap_or(Path::new("/"));
    let permissions = std::fs::metadata(&target).map_err(cannot)?.permissions();
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)?;
    file.as_file().set_permissions(permissions).map_err(cannot)?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(&target).map_err(|e| cannot(e.error))?;
    Ok(())
}
