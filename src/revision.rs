//! Reading a project, and what changed since, from a git repository, through the `git` program: no checkout, nothing written.

use crate::exit::Failure;
use crate::project::{CONFIG, File, MAX_FILE_BYTES, Project};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Links in a revision are followed through at most so many others.
const MAX_LINKS: usize = 8;

/// The repository that holds a project.
#[derive(Debug)]
pub struct Repository {
    /// Its root folder.
    root: PathBuf,
    /// The project's folder, relative to the root: empty, or ending with `/`.
    prefix: String,
    /// The name of the one file, where the project is a single `.pw` file.
    single: Option<String>,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// As the user wrote it.
    pub name: String,
    /// Its object id, hexadecimal.
    id: String,
}

/// What changed between a commit and the files as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths in the project: what a file is called now, what it was called.
    pub renamed: BTreeMap<String, String>,
    /// By path in the project: the lines that are new, as first and last, from 1, ascending.
    pub lines: BTreeMap<String, Vec<(u32, u32)>>,
}

impl Changes {
    /// Reads a patch without context (`git diff -U0`).
    fn read(patch: &[u8], prefix: &str) -> Self {
        let mut changes = Self::default();
        let inside =
            |path: &str| path.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
        let mut lines = patch.split(|byte| *byte == b'\n');
        let (mut from, mut file) = (None, None);
        while let Some(line) = lines.next() {
            if line.starts_with(b"diff --git ") {
                (from, file) = (None, None);
            } else if let Some(path) = line.strip_prefix(b"rename from ") {
                from = name(path).as_deref().and_then(inside);
            } else if let Some(path) = line.strip_prefix(b"rename to ") {
                if let (Some(old), Some(new)) = (from.take(), name(path).as_deref().and_then(inside)) {
                    changes.renamed.insert(new, old);
                }
            } else if let Some(path) = line.strip_prefix(b"+++ ") {
                file = name(path).and_then(|path| path.strip_prefix("b/").and_then(inside));
            } else if let Some((removed, (first, added))) = line.strip_prefix(b"@@ ").and_then(hunk) {
                if let (Some(file), true) = (&file, added > 0) {
                    let last = first.saturating_add(added - 1);
                    changes.lines.entry(file.clone()).or_default().push((first, last));
                }
                // The text of the hunk could look like anything. A remark on a missing line end is no part of the count,
                // and begins like nothing above.
                for _ in 0..removed.saturating_add(added) {
                    match lines.next() {
                        Some(text) if text.starts_with(b"\\") => drop(lines.next()),
                        Some(_) => {}
                        None => break,
                    }
                }
            }
        }
        changes
    }
}

/// A name as a patch has it: a tab ends one with blanks in it, and one with quotes or with bytes beyond ASCII stands in quotes, as C
/// writes them. `None`: it is not UTF-8.
fn name(text: &[u8]) -> Option<String> {
    let text = text.strip_suffix(b"\t").unwrap_or(text);
    let Some(quoted) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else {
        return String::from_utf8(text.to_vec()).ok();
    };
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut rest = quoted.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'a' => 7,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            high @ b'0'..=b'3' => {
                let digit = |byte: u8| (b'0'..=b'7').contains(&byte).then(|| byte - b'0');
                (high - b'0') << 6 | digit(rest.next()?)? << 3 | digit(rest.next()?)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `-a,b +c,d @@…`: how many lines are gone, and the first and the number of those that came.
fn hunk(text: &[u8]) -> Option<(u32, (u32, u32))> {
    let text = std::str::from_utf8(text.split(|byte| *byte == b'@').next()?).ok()?;
    let mut words = text.split_whitespace();
    let mut range = |sign: char| -> Option<(u32, u32)> {
        let word = words.next()?.strip_prefix(sign)?;
        match word.split_once(',') {
            Some((first, count)) => Some((first.parse().ok()?, count.parse().ok()?)),
            None => Some((word.parse().ok()?, 1)),
        }
    };
    let (_, removed) = range('-')?;
    Some((removed, range('+')?))
}

/// What a revision holds at a path.
#[derive(Debug, Clone)]
struct Entry {
    /// `100644`, `100755` or `120000` (a link).
    link: bool,
    /// The object's id.
    object: String,
    /// Bytes.
    size: u64,
}

impl Repository {
    /// The repository that holds the project at this path, a folder or a `.pw` file that exists.
    ///
    /// # Errors
    /// There is no such path, no repository around it, or no `git`.
    pub fn of(project: &Path) -> Result<Self, Failure> {
        let shown = project.display();
        let place = project.canonicalize().map_err(|e| Failure::io(format!("cannot read {shown}"), &e))?;
        let (folder, single) = if place.is_dir() {
            (place, None)
        } else {
            let name = place.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
            (place.parent().map(Path::to_owned).unwrap_or_default(), Some(name))
        };
        let top = output(&folder, ["rev-parse", "--show-toplevel"])
            .map_err(|why| Failure::new(format!("{shown} is in no git repository: {why}")))?;
        let root = PathBuf::from(path_of(strip_newline(&top)));
        let root = root.canonicalize().unwrap_or(root);
        let inner = folder.strip_prefix(&root).map_err(|_| {
            Failure::new(format!("{shown} is not below the root of its repository, {}", root.display()))
        })?;
        let mut prefix = String::new();
        for part in inner {
            let Some(part) = part.to_str() else {
                return Err(Failure::new(format!("the name of {} is not UTF-8", inner.display())));
            };
            prefix.push_str(part);
            prefix.push('/');
        }
        Ok(Self { root, prefix, single })
    }

    /// The commit that a revision names.
    ///
    /// # Errors
    /// It names none that this repository holds.
    pub fn commit(&self, revision: &OsStr) -> Result<Commit, Failure> {
        let shown = revision.to_string_lossy().into_owned();
        let unusable = |why: &str| Failure::new(format!("`{}` {why}", shown.escape_debug()));
        // `--end-of-options` keeps it from being an option; nothing that begins so names a revision.
        if shown.is_empty() || shown.starts_with('-') || shown.contains(char::is_control) {
            return Err(unusable("is no git revision"));
        }
        let mut spec = revision.to_owned();
        spec.push("^{commit}");
        let args: [&OsStr; 5] = [
            "rev-parse".as_ref(),
            "--verify".as_ref(),
            "--quiet".as_ref(),
            "--end-of-options".as_ref(),
            &spec,
        ];
        let found = output(&self.root, args).ok().map(|out| strip_newline(&out).to_vec());
        let id = found.and_then(|id| String::from_utf8(id).ok());
        if let Some(id) = id.filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Ok(Commit { name: shown, id });
        }
        let shallow = output(&self.root, ["rev-parse", "--is-shallow-repository"])
            .is_ok_and(|out| strip_newline(&out) == b"true");
        if shallow {
            return Err(unusable(&format!(
                "is no revision that this clone holds, and the clone is shallow: fetch it first \
                 (`git fetch --depth=1 origin {shown}`), or clone with the whole history"
            )));
        }
        Err(unusable("is no revision that this repository holds"))
    }

    /// The project as a commit has it.
    ///
    /// # Errors
    /// It has no policy there, or something of it cannot be read.
    pub fn project(&self, commit: &Commit) -> Result<Project, Failure> {
        self.find(commit)?.ok_or_else(|| {
            let place = if self.prefix.is_empty() { "the repository" } else { self.prefix.as_str() };
            Failure::new(match &self.single {
                Some(name) => format!("{}{name} does not exist at {}", self.prefix, commit.name),
                None => format!("no .pw file below {place} at {}", commit.name),
            })
        })
    }

    /// The project as a commit has it; `None`: there is no policy.
    ///
    /// # Errors
    /// Something of it cannot be read.
    pub fn find(&self, commit: &Commit) -> Result<Option<Project>, Failure> {
        let entries = self.entries(commit)?;
        let mut wanted: Vec<(String, Entry)> = Vec::new();
        let mut config = None;
        for (path, entry) in &entries {
            let Some(name) = path.strip_prefix(&self.prefix) else { continue };
            let is_config = name == CONFIG && self.single.is_none();
            let is_policy = match &self.single {
                Some(single) => name == single,
                None => is_policy_name(name),
            };
            if !is_config && !is_policy {
                continue;
            }
            let Some(entry) = self.follow(commit, &entries, path, entry)? else { continue };
            if entry.size > MAX_FILE_BYTES {
                return Err(Failure::new(format!(
                    "{path} at {} is larger than {} MiB, more than any policy file",
                    commit.name,
                    MAX_FILE_BYTES >> 20
                )));
            }
            if is_config {
                config = Some(entry);
            } else {
                wanted.push((name.to_owned(), entry));
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let objects: Vec<&str> =
            wanted.iter().map(|(_, e)| e).chain(&config).map(|e| e.object.as_str()).collect();
        let mut blobs = self.blobs(&objects)?.into_iter();
        let mut files = Vec::with_capacity(wanted.len());
        for ((path, _), bytes) in wanted.into_iter().zip(blobs.by_ref()) {
            files.push(File { path, bytes });
        }
        let config = match blobs.next() {
            Some(bytes) => Some(String::from_utf8(bytes).map_err(|_| {
                Failure::new(format!(
                    "cannot read {}{CONFIG} at {}: it is not UTF-8",
                    self.prefix, commit.name
                ))
            })?),
            None => None,
        };
        Ok(Some(Project { root: self.root.join(&self.prefix), files, config }))
    }

    /// What changed in the project's policy files since a commit, as `git diff` tells it. Files that git does not follow
    /// are not in it.
    ///
    /// # Errors
    /// `git` fails.
    pub fn changes_since(&self, commit: &Commit) -> Result<Changes, Failure> {
        let args = [
            "diff",
            "-M",
            "-U0",
            "--inter-hunk-context=0",
            "--text",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--no-relative",
            "--src-prefix=a/",
            "--dst-prefix=b/",
            &commit.id,
            "--",
            ":(top)*.pw",
        ];
        let out = output(&self.root, args)
            .map_err(|why| Failure::new(format!("cannot compare with {}: {why}", commit.name)))?;
        Ok(Changes::read(&out, &self.prefix))
    }

    /// Every file and link of a commit that a project could be made of, by path from the root.
    fn entries(&self, commit: &Commit) -> Result<BTreeMap<String, Entry>, Failure> {
        let args = ["ls-tree", "-r", "-z", "-l", "--full-tree", &commit.id];
        let out = output(&self.root, args)
            .map_err(|why| Failure::new(format!("cannot list the files of {}: {why}", commit.name)))?;
        let mut entries = BTreeMap::new();
        for line in out.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            // `mode type object size<TAB>path`
            let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { continue };
            let (head, path) = line.split_at(tab);
            let path = path.get(1..).unwrap_or_default();
            let Ok(head) = std::str::from_utf8(head) else { continue };
            let mut words = head.split_whitespace();
            let (Some(mode), Some("blob"), Some(object), Some(size)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(path) = std::str::from_utf8(path) else {
                if path.starts_with(self.prefix.as_bytes()) && path.ends_with(b".pw") {
                    let shown = String::from_utf8_lossy(path).into_owned();
                    return Err(Failure::new(format!("the name of {shown} at {} is not UTF-8", commit.name)));
                }
                continue;
            };
            let entry = Entry {
                link: mode == "120000",
                object: object.to_owned(),
                size: size.parse().unwrap_or(u64::MAX),
            };
            entries.insert(path.to_owned(), entry);
        }
        Ok(entries)
    }

    /// The file that a link leads to within the revision; `None` for a link to a folder, which belongs to no project.
    fn follow(
        &self,
        commit: &Commit,
        entries: &BTreeMap<String, Entry>,
        path: &str,
        entry: &Entry,
    ) -> Result<Option<Entry>, Failure> {
        let (mut at, mut entry) = (path.to_owned(), entry.clone());
        for _ in 0..MAX_LINKS {
            if !entry.link {
                return Ok(Some(entry));
            }
            let target = self.blobs(&[&entry.object])?.into_iter().next().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let Some(place) = resolve(&at, &target) else { break };
            let folder = format!("{place}/");
            if place.is_empty()
                || entries.range(folder.clone()..).next().is_some_and(|(p, _)| p.starts_with(&folder))
            {
                return Ok(None);
            }
            let Some(next) = entries.get(&place) else { break };
            (at, entry) = (place, next.clone());
        }
        Err(Failure::new(format!("{path} at {} is a link to nothing in that revision", commit.name)))
    }

    /// The contents of blobs, in the order asked for.
    fn blobs(&self, objects: &[&str]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut child = git(&self.root)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Failure::io("cannot run git", &e))?;
        let read = std::thread::scope(|scope| {
            // Written from a thread of its own: both pipes have an end.
            let input = child.stdin.take();
            let asked: String = objects.iter().flat_map(|object| [object, "\n"]).collect();
            scope.spawn(move || input.map(|mut pipe| pipe.write_all(asked.as_bytes())));
            read_blobs(&mut child, objects.len())
        });
        // It is waited for in any case, so that no process is left behind.
        let _ = child.wait();
        read.ok_or_else(|| Failure::new("cannot read the files of a revision: git cat-file fails"))
    }
}

/// `id blob size`, the bytes and a line end, for each; `None` where one is missing.
fn read_blobs(child: &mut Child, count: usize) -> Option<Vec<Vec<u8>>> {
    let mut out = BufReader::new(child.stdout.take()?);
    let mut blobs = Vec::with_capacity(count);
    for _ in 0..count {
        let mut head = String::new();
        out.read_line(&mut head).ok()?;
        let mut words = head.split_whitespace().skip(1);
        let ("blob", Some(size)) = (words.next()?, words.next().and_then(|size| size.parse::<usize>().ok()))
        else {
            return None;
        };
        let mut bytes = vec![0; size];
        out.read_exact(&mut bytes).ok()?;
        let mut end = [0];
        out.read_exact(&mut end).ok()?;
        blobs.push(bytes);
    }
    Some(blobs)
}

/// Whether a path relative to a project's folder is one of its policy files: no part of it is hidden.
fn is_policy_name(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    !hidden && Path::new(name).extension().is_some_and(|extension| extension == "pw")
}

/// Where a link at `at` leads, from the root; `None`: out of the repository.
fn resolve(at: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = at.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// `git` in a folder: no pager, no prompt, no lock that another program could wait for.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("--no-pager")
        .current_dir(folder)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LITERAL_PATHSPECS", "0");
    command
}

/// What `git` writes; the first line of its complaint otherwise.
fn output<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Result<Vec<u8>, String> {
    let out = git(folder).args(args).stdin(Stdio::null()).output().map_err(|e| {
        let failure = Failure::io("cannot run git", &e);
        failure.0
    })?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    let told = String::from_utf8_lossy(&out.stderr);
    let line = told.lines().find(|line| !line.trim().is_empty()).unwrap_or("git fails without a word");
    Err(line.strip_prefix("fatal: ").unwrap_or(line).to_owned())
}

fn strip_newline(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

/// Bytes as a path.
fn path_of(bytes: &[u8]) -> &OsStr {
    use std::os::unix::ffi::OsStrExt as _;
    OsStr::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Changes, is_policy_name, resolve};

    #[test]
    fn patches_are_read() {
        let patch = [
            "diff --git a/p/old name.pw \"b/p/n\\303\\251w \\\"1\\\".pw\"",
            "similarity index 80%",
            "rename from p/old name.pw",
            "rename to \"p/n\\303\\251w \\\"1\\\".pw\"",
            "index 1..2 100644",
            "--- a/p/old name.pw\t",
            "+++ \"b/p/n\\303\\251w \\\"1\\\".pw\"\t",
            "@@ -2 +2,2 @@ fabric",
            "-@@ -1 +1 @@",
            "++++ b/p/trap.pw",
            "+x",
            "@@ -9,2 +9,0 @@",
            "-a",
            "-b",
            "\\ No newline at end of file",
            "@@ -20,0 +19 @@",
            "+c",
            "\\ No newline at end of file",
            "diff --git a/p/gone.pw b/p/gone.pw",
            "--- a/p/gone.pw",
            "+++ /dev/null",
            "@@ -1 +0,0 @@",
            "-a",
            "diff --git a/other.pw b/other.pw",
            "--- a/other.pw",
            "+++ b/other.pw",
            "@@ -1 +1 @@",
            "-a",
            "+b",
            "",
        ];
        let changes = Changes::read(patch.join("\n").as_bytes(), "p/");
        let new = "néw \"1\".pw".to_owned();
        assert_eq!(changes.renamed, [(new.clone(), "old name.pw".to_owned())].into());
        assert_eq!(changes.lines, [(new, vec![(2, 3), (19, 19)])].into());
    }

    #[test]
    fn links_lead_from_their_folder() {
        assert_eq!(resolve("a/b/link.pw", "../c.pw").as_deref(), Some("a/c.pw"));
        assert_eq!(resolve("link.pw", "./x//y.pw").as_deref(), Some("x/y.pw"));
        assert_eq!(resolve("a/link.pw", "../../etc/x.pw"), None);
        assert_eq!(resolve("a/link.pw", "/etc/x.pw"), None);
        assert_eq!(resolve("a/link.pw", "..").as_deref(), Some(""));
    }

    #[test]
    fn hidden_files_are_no_policy() {
        assert!(is_policy_name("a/b.pw") && is_policy_name("b.pw"));
        for name in ["a/.b.pw", ".a/b.pw", ".pw", "a/b.toml", "a/b"] {
            assert!(!is_policy_name(name), "{name}");
        }
    }
}
