//! `check --diff-base REV`: what a revision did not have, shown where something changed since.

use super::CheckArgs;
use crate::checked::{self, Report, Request};
use crate::exit::Failure;
use crate::output;
use crate::revision::{Changes, Repository};
use crate::settings;
use lang::diag::{Diagnostic, Label};
use lang::render;
use lang::source::Sources;
use lang::span::{FileId, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

/// Leaves the findings that the revision did not have, each at a line that changed since, if one of its places is.
///
/// # Errors
/// There is no such revision, or what it holds cannot be read or judged.
pub fn narrow(
    sources: &Sources,
    findings: &mut Vec<Diagnostic>,
    args: &CheckArgs,
    request: Request<'_>,
    revision: &OsStr,
) -> Result<(), Failure> {
    let repository = Repository::of(&args.path)?;
    let commit = repository.commit(revision)?;
    let base = repository.find(&commit)?;
    let changes = repository.changes_since(&commit)?;
    let mut before: BTreeSet<String> = BTreeSet::new();
    let mut paths: BTreeSet<String> = BTreeSet::new();
    if let Some(project) = &base {
        let settings = settings::read(project.config.as_deref());
        match settings {
            Ok(_) => {
                let old = checked::check(project, request)?.settle(&args.levels, None)?;
                before.extend(fingerprints(&old, &changes));
            }
            Err(error) => output::tell(&format!(
                "every finding counts as new: the settings at {} cannot be read: {error}",
                commit.name
            )),
        }
        paths.extend(project.files.iter().map(|file| file.path.clone()));
    }
    let mut names = render::fingerprints(sources, findings, "").into_iter();
    findings.retain(|_| names.next().is_none_or(|name| !before.contains(&name)));
    let lines = Lines::new(sources, &changes, &paths);
    for finding in findings.iter_mut() {
        lines.anchor(sources, finding);
    }
    render::sort(sources, findings);
    Ok(())
}

/// The names of the findings of the revision, as they would be if its files were called what they are called now.
fn fingerprints(old: &Report, changes: &Changes) -> Vec<String> {
    let now: BTreeMap<&str, &str> =
        changes.renamed.iter().map(|(new, old)| (old.as_str(), new.as_str())).collect();
    let mut sources = Sources::new();
    for (_, source) in old.sources.iter() {
        let path = now.get(source.path()).copied().unwrap_or(source.path());
        sources.add(path, source.text());
    }
    render::fingerprints(&sources, &old.findings, "")
}

/// The lines that changed, by file.
struct Lines {
    /// As first and last line, from 1, ascending.
    files: BTreeMap<FileId, Vec<(u32, u32)>>,
}

impl Lines {
    fn new(sources: &Sources, changes: &Changes, before: &BTreeSet<String>) -> Self {
        let of = |path: &str| match changes.lines.get(path) {
            Some(lines) => lines.clone(),
            None if before.contains(path) || changes.renamed.contains_key(path) => Vec::new(),
            // The revision has no such file, or git follows none.
            None => vec![(1, u32::MAX)],
        };
        Self { files: sources.iter().map(|(id, source)| (id, of(source.path()))).collect() }
    }

    /// The part of a span from its first changed line on; the span itself where it begins on one.
    fn changed(&self, sources: &Sources, span: Span) -> Option<Span> {
        let lines = self.files.get(&span.file)?;
        let (start, end) = sources.range(span);
        // A span that ends before the first character of a line has no part of that line.
        let last = if end.column == 1 && end.line > start.line { end.line - 1 } else { end.line };
        let (first, _) = lines.iter().find(|(first, to)| *first <= last && start.line <= *to)?;
        if *first <= start.line {
            return Some(span);
        }
        let text = sources.slice(span);
        let skipped = usize::try_from(first - start.line).ok()?;
        let at = text.match_indices('\n').nth(skipped - 1).map(|(at, _)| at + 1)?;
        let rest = text.get(at..)?;
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let start = span.start.checked_add(u32::try_from(at + blank).ok()?)?;
        Some(Span::new(span.file, start.min(span.end), span.end))
    }

    /// Moves a finding to the first of its places on a changed line, its own place first; what stood first is told among the
    /// others.
    fn anchor(&self, sources: &Sources, finding: &mut Diagnostic) {
        if let Some(span) = self.changed(sources, finding.span) {
            finding.span = span;
            return;
        }
        let found = finding
            .related
            .iter()
            .enumerate()
            .find_map(|(at, label)| self.changed(sources, label.span).map(|span| (at, span)));
        let Some((at, span)) = found else { return };
        let Label { message, .. } = finding.related.remove(at);
        let label = std::mem::replace(&mut finding.label, message);
        let message = if label.is_empty() { "what the finding is about".to_owned() } else { label };
        let old = std::mem::replace(&mut finding.span, span);
        finding.related.insert(0, Label { span: old, message });
    }
}
