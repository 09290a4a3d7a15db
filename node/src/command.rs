//! Running the system's tools in the network namespace of the calling thread.

use crate::error::NodeError;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a program did.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// `PATH`, and after it the places of administrators' tools, which a user's own may lack.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// Where a program is, by a search as the shell's. Started by its path, it comes without a copy of this process, whose memory may
/// be large.
fn found(program: &str, path: &OsStr) -> PathBuf {
    let runs = |file: &PathBuf| {
        use std::os::unix::fs::PermissionsExt as _;
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let mut all = std::env::split_paths(path).map(|folder| folder.join(program));
    // Not found: as it was given, so that starting it says so.
    all.find(runs).unwrap_or_else(|| PathBuf::from(program))
}

fn package(program: &str) -> &'static str {
    match program {
        "nft" => "nftables",
        "ip" | "bridge" => "iproute2",
        _ => "it",
    }
}

/// Runs a program to its end, in `folder` if one is given, with `stdin` as its standard input or with an empty one.
///
/// # Errors
/// It cannot be started.
pub(crate) fn run(
    program: &str,
    args: &[&str],
    folder: Option<&Path>,
    stdin: Option<File>,
) -> Result<Ran, NodeError> {
    let cannot =
        |source| NodeError::Spawn { command: shown(program, args), package: package(program), source };
    let path = path();
    let mut command = Command::new(found(program, &path));
    command
        .args(args)
        .env("PATH", &path)
        .env("LC_ALL", "C")
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = command.output().map_err(cannot)?;
    let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() && stderr.trim().is_empty() {
        stderr = output.status.to_string();
    }
    Ok(Ran {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr,
    })
}

/// What a program printed.
///
/// # Errors
/// It cannot be started, or it fails: with its own words.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String, NodeError> {
    let ran = run(program, args, None, None)?;
    if ran.success {
        return Ok(ran.stdout);
    }
    Err(NodeError::Refused { command: shown(program, args), message: one_line(&ran.stderr) })
}

/// The list that `ip -j …` or `bridge -j …` prints; nothing at all is an empty one.
///
/// # Errors
/// As [`output`], or it is no list.
pub(crate) fn list(program: &str, args: &[&str]) -> Result<Vec<Value>, NodeError> {
    let text = output(program, args)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match serde_json::from_str(&text) {
        Ok(Value::Array(items)) => Ok(items),
        _ => Err(NodeError::Output { command: shown(program, args), what: "its output".into() }),
    }
}

/// The command as one would type it.
pub(crate) fn shown(program: &str, args: &[&str]) -> String {
    std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ")
}

/// A tool's words in one line, of a length that a message can hold.
pub(crate) fn one_line(text: &str) -> String {
    const MOST: usize = 600;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{} …", line.get(..at).unwrap_or(&line)),
        None => line,
    }
}
