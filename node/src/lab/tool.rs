//! Running `ip` and `nft`.

use super::error::LabError;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs a command and returns what it printed.
///
/// # Errors
/// It cannot be started, or it fails: with its own words.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, LabError> {
    let output = spawn(program, args, None)?;
    finish(|| shown(program, args), &output)
}

fn spawn(program: &str, args: &[&str], input: Option<&str>) -> Result<Output, LabError> {
    let failed = |source| LabError::Spawn { command: shown(program, args), source };
    let mut child = Command::new(program)
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A tool that stops reading early says why on stderr; that is the better message.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}

fn finish(command: impl FnOnce() -> String, output: &Output) -> Result<String, LabError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = if message.is_empty() { output.status.to_string() } else { message };
    Err(LabError::Tool { command: command(), message })
}

fn shown(program: &str, args: &[&str]) -> String {
    std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ")
}

/// `ip` commands for one namespace, run in order and, where they can be, in one process.
#[derive(Debug)]
pub(crate) struct IpBatch {
    /// `-n NAME`, `-6`
    options: Vec<String>,
    commands: Vec<Vec<String>>,
}

impl IpBatch {
    /// For the namespace of this process.
    pub(crate) fn here() -> Self {
        Self { options: Vec::new(), commands: Vec::new() }
    }

    pub(crate) fn inside(netns: &str) -> Self {
        Self { options: vec!["-n".to_owned(), netns.to_owned()], commands: Vec::new() }
    }

    /// Goes on after a command that fails; the error comes all the same.
    pub(crate) fn forced(mut self) -> Self {
        self.options.push("-force".to_owned());
        self
    }

    /// For one family, where `ip` does not see it by the arguments.
    pub(crate) fn family(mut self, v6: bool) -> Self {
        self.options.push(if v6 { "-6" } else { "-4" }.to_owned());
        self
    }

    pub(crate) fn push(&mut self, args: &[&str]) {
        self.commands.push(args.iter().map(|a| (*a).to_owned()).collect());
    }

    /// # Errors
    /// The first command that fails, by its text.
    pub(crate) fn run(self) -> Result<(), LabError> {
        for group in self.commands.chunk_by(|a, b| batchable(a) && batchable(b)) {
            match group {
                [single] => {
                    let args: Vec<&str> = self.options().chain(single.iter().map(String::as_str)).collect();
                    run("ip", &args)?;
                }
                many => self.run_group(many)?,
            }
        }
        Ok(())
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(String::as_str)
    }

    fn run_group(&self, commands: &[Vec<String>]) -> Result<(), LabError> {
        let text: String = commands.iter().map(|c| c.join(" ") + "\n").collect();
        let args: Vec<&str> = self.options().chain(["-batch", "-"]).collect();
        let output = spawn("ip", &args, Some(&text))?;
        // `Command failed -:3` names the line.
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let failed = stderr
            .split_once("Command failed -:")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<usize>().ok())
            .and_then(|line| commands.get(line.checked_sub(1)?));
        let named = || match failed {
            Some(command) => format!("ip {} {}", self.options.join(" "), command.join(" ")),
            None => shown("ip", &args),
        };
        finish(named, &output).map(drop)
    }
}

/// Whether `ip -batch` reads this command as it is meant: it splits at white space, takes leading quotes off words,
/// cuts a line at `#`, and knows no options of its own.
fn batchable(command: &[String]) -> bool {
    let option = command.first().is_some_and(|word| word.starts_with('-'));
    !option
        && command.iter().all(|word| {
            !word.is_empty()
                && !word.starts_with(['\'', '"'])
                && !word.contains(|c: char| c.is_whitespace() || c == '#' || c == '\\')
        })
}

#[cfg(test)]
mod tests {
    use super::batchable;

    #[test]
    fn hostile_words_stay_out_of_batches() {
        let word = |w: &str| batchable(&[w.to_owned()]);
        assert!(word("tap-web1") && word("bond0.12") && word("a\"b"));
        assert!(!word("-6") && batchable(&["address".to_owned(), "-x".to_owned()]));
        assert!(!word("tap#1") && !word("\"tap") && !word("'x") && !word("a\\") && !word("a b") && !word(""));
    }
}
