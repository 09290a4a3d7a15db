//! `diff OLD NEW`: which flows are allowed on one side only, and which go otherwise.

mod human;
mod json;
mod markdown;

use crate::analysis::{self, Analysis};
use crate::boxes::{BoxLine, Owner};
use crate::cli::{Global, HERE, Judging};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Out;
use crate::project::{self, Project};
use crate::revision::Repository;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use verifier::diff::{Change, ChangeKind, Saying, Seen};
use verifier::flows::Work;

/// Compare what two states of a project allow: flows opened, closed and rerouted
///
/// Exit status: 0 no difference, 1 a difference, 2 could not compare.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A project's folder or .pw file; with --git a revision
    #[arg(value_name = "OLD")]
    old: OsString,
    /// The same; with --git it may be left out: the files as they are now
    #[arg(value_name = "NEW", required_unless_present = "git")]
    new: Option<OsString>,
    /// OLD and NEW are revisions of the git repository that holds the project
    #[arg(long)]
    git: bool,
    /// With --git: the project's folder or .pw file
    #[arg(long, value_name = "PATH", default_value = HERE, requires = "git")]
    path: PathBuf,
    /// How the difference is printed
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    judging: Judging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// One document, for tools
    Json,
    /// For a comment on a pull request
    Markdown,
}

/// The difference, and how the two sides are called.
struct Difference<'a> {
    old: &'a str,
    new: &'a str,
    project: &'a str,
    changes: &'a [Change],
}

pub fn run(global: &Global, args: &DiffArgs) -> Outcome {
    let [old, new] = projects(args)?;
    let today = args.judging.today();
    let (before, after) = args.judging.run(|| {
        rayon::join(
            || analysis::meaning_of(&old.project, today),
            || analysis::meaning_of(&new.project, today),
        )
    })?;
    let read = |side: &Named, result: Result<Analysis, Failure>| {
        result.map_err(|failure| Failure::new(format!("{}: {failure}", side.name)))
    };
    let (before, after) = (read(&old, before)?, read(&new, after)?);
    // Both are told of, so that nobody mends one to learn of the other.
    let refused = [(&old, &before), (&new, &after)]
        .map(|(side, analysis)| analysis.refuse(&format!("compare with {}", side.name), global));
    if refused.contains(&true) {
        return Ok(Exit::Failed);
    }
    // Whoever compares waits for one answer, not for one for every rule.
    let work = Work(4 * verifier::Options::DEFAULT_WORK);
    let changes = args
        .judging
        .run(|| verifier::diff::diff(&before.compiled, &after.compiled, work))?
        .map_err(|e| Failure::new(e.to_string()))?;
    let difference =
        Difference { old: &old.name, new: &new.name, project: after.project(), changes: &changes };
    let text = match args.format {
        Format::Human => human::text(&difference),
        Format::Json => json::text(&difference)?,
        Format::Markdown => markdown::text(&difference),
    };
    let mut out = Out::new();
    out.text(&text)?;
    out.flush()?;
    Ok(Exit::findings(!changes.is_empty()))
}

/// A side and what the user calls it.
struct Named {
    name: String,
    project: Project,
}

fn projects(args: &DiffArgs) -> Result<[Named; 2], Failure> {
    let here = |path: &Path| -> Result<Named, Failure> {
        Ok(Named { name: path.display().to_string(), project: project::load(path)? })
    };
    if !args.git {
        let new = args.new.as_deref().unwrap_or_default();
        return Ok([here(Path::new(&args.old))?, here(Path::new(new))?]);
    }
    let repository = Repository::of(&args.path)?;
    let at = |revision: &OsString| -> Result<Named, Failure> {
        let commit = repository.commit(revision)?;
        Ok(Named { project: repository.project(&commit)?, name: commit.name })
    };
    let old = at(&args.old)?;
    let new = match &args.new {
        Some(revision) => at(revision)?,
        None => Named { name: "the files as they are".to_owned(), ..here(&args.path)? },
    };
    Ok([old, new])
}

impl Difference<'_> {
    fn of(&self, kind: ChangeKind) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.kind == kind)
    }
}

/// The boxes of a change, with the gateway of the side that allows; where both do, each says its own.
fn lines(change: &Change) -> Vec<BoxLine<'_>> {
    let via = match change.kind {
        ChangeKind::Opened => via(&change.new),
        ChangeKind::Closed => via(&change.old),
        ChangeKind::Rerouted => None,
    };
    let src = Owner { name: &change.src.name, tenant: change.src.tenant };
    let dst = Owner { name: &change.dst.name, tenant: change.dst.tenant };
    change.rows.iter().map(|row| BoxLine::new(src, dst, change.family, row, via)).collect()
}

/// The gateway through which a side lets the flows.
fn via(saying: &Saying) -> Option<&str> {
    saying.decided()?.ways.first()?.via.as_deref()
}

/// What a side says, in words: ``allowed by `x` and `y` ``.
fn words(saying: &Saying) -> String {
    let reached = match saying {
        Saying::Absent => return "the source or the destination does not exist".to_owned(),
        Saying::Elsewhere => return "no address leads there".to_owned(),
        Saying::Decided(reached) => reached,
    };
    let decision = &reached.decision;
    if decision.verdict == "allow" {
        let rules = [&decision.rule, &decision.ingress_rule].into_iter().flatten();
        let rules: Vec<String> = rules.map(|rule| format!("`{rule}`")).collect();
        return format!("allowed by {}", rules.join(" and "));
    }
    match (&reached.denied_by, decision.reason.as_str()) {
        (Some(rule), _) => format!("denied by `{rule}`"),
        (None, "unknown-source") => "dropped: the source is unknown".to_owned(),
        (None, "no-route") => "dropped: there is no route".to_owned(),
        (None, "not-exposed") => "dropped: it is not exposed".to_owned(),
        (None, _) => "denied: no rule allows it".to_owned(),
    }
}

/// How the flows of a side go, as far as the sides differ by it: ``via `edge`, seen at 100.64.0.1, seen from 10.1.0.5``; several
/// ways are joined by "or".
fn ways(saying: &Saying, other: &Saying) -> String {
    let of = |saying: &'_ Saying| saying.decided().map(|reached| reached.ways.clone()).unwrap_or_default();
    let (ways, others) = (of(saying), of(other));
    let (via, dst, src) = match (ways.as_slice(), others.as_slice()) {
        ([a], [b]) => (a.via != b.via, a.dst != b.dst, a.src != b.src),
        _ => (true, true, true),
    };
    let text = |way: &Seen| {
        let mut parts = Vec::new();
        if via {
            parts.push(way.via.as_ref().map_or("via no gateway".to_owned(), |via| format!("via `{via}`")));
        }
        if dst {
            parts.push(format!("the destination seen as {}", way.dst));
        }
        if src {
            let sources: Vec<String> = way.src.iter().map(ToString::to_string).collect();
            parts.push(format!("the source seen as {}", sources.join(" or ")));
        }
        parts.join(", ")
    };
    ways.iter().map(text).collect::<Vec<_>>().join("; or ")
}
