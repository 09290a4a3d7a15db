//! Syntax trees to the typed model: names to ids, sets and services to values.
//!
//! A declaration in error is reported, left out, and the owners whose flows it could concern are tainted, so that
//! everything else is still judged and nothing is proved of a policy that was not meant.

mod canonical;
mod cycles;
mod endpoints;
mod exposures;
mod fabric;
mod gateways;
mod groups;
mod policies;
mod services;
mod sets;
mod symbols;
mod tenants;
mod tests_and_isolates;
mod usage;

use crate::model::Model;
use crate::report::Report;
pub(crate) use policies::views;

use lang::ast;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::{FileId, Span};
use std::collections::BTreeMap;
use symbols::Symbols;

/// One parsed file of a project.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    pub id: FileId,
    /// Relative to the project's root, with `/`.
    pub path: &'a str,
    pub text: &'a str,
    pub tree: &'a ast::File,
}

/// State of lowering: the tables, the model so far, the findings.
pub(crate) struct Lowering<'a> {
    files: &'a [SourceFile<'a>],
    symbols: Symbols<'a>,
    model: Model,
    report: Report,
    services: Vec<Option<std::sync::Arc<crate::sets::ServiceSet>>>,
    groups: Vec<Option<std::sync::Arc<crate::sets::EndSet>>>,
    /// By segment, by owner: the sets that their names mean, shared by every rule that names them.
    segment_sets: Vec<std::sync::Arc<crate::sets::EndSet>>,
    owner_sets: Vec<std::sync::Arc<crate::sets::EndSet>>,
    used: usage::Used,
    /// Names of rules and exposures that were left out because they are in error.
    left_out: std::collections::BTreeSet<String>,
    /// An error whose flows cannot be bounded to some owners.
    taint_all: bool,
    /// By file: unknown names and how often each was met.
    unknown: BTreeMap<FileId, BTreeMap<String, usize>>,
}

/// Uses of one unknown name that are listed of a file.
const MAX_USES: usize = 100;

/// Lowers all files of a project, which come sorted by path.
#[must_use]
pub fn lower(files: &[SourceFile<'_>]) -> (Model, Report) {
    let mut report = Report::default();
    let symbols = Symbols::collect(files, &mut report);
    let mut l = Lowering {
        files,
        symbols,
        model: Model::default(),
        report,
        services: Vec::new(),
        groups: Vec::new(),
        segment_sets: Vec::new(),
        owner_sets: Vec::new(),
        used: usage::Used::default(),
        left_out: std::collections::BTreeSet::new(),
        taint_all: false,
        unknown: BTreeMap::new(),
    };
    l.fabric();
    l.owners();
    l.nodes();
    l.endpoints();
    l.services();
    l.groups();
    l.gateways();
    l.routes();
    l.exposures();
    l.policies();
    l.rank_names();
    l.isolates();
    l.tests();
    l.unused();
    if l.taint_all {
        for owner in l.model.owners.ids() {
            l.report.taint(owner);
        }
    }
    (l.model, l.report)
}

impl<'a> Lowering<'a> {
    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.report.diagnostics.push(Diagnostic::new(code, span, message));
        // INVARIANT: the list is not empty, one was pushed just now.
        let last = self.report.diagnostics.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "see the invariant above")]
        &mut self.report.diagnostics[last]
    }

    /// Reports an unknown name, with the nearest known one. Of the uses of one name in a file only the first are listed.
    fn unknown<'c>(&mut self, what: &str, name: &ast::Name, candidates: impl IntoIterator<Item = &'c str>) {
        let listed = self.unknown.entry(name.span.file).or_default();
        if let Some(count) = listed.get_mut(&name.node) {
            *count += 1;
            if *count > MAX_USES {
                return;
            }
        } else {
            listed.insert(name.node.clone(), 1);
        }
        let last = listed.get(&name.node) == Some(&MAX_USES);
        let near = lang::suggest(&name.node, candidates).map(str::to_owned);
        let d = self.error(Code::PW0101, name.span, format!("unknown {what} `{}`", name.node));
        d.label = "not declared anywhere in the project".into();
        d.help = Some(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "declare it, or correct the name".into(),
        });
        if last {
            d.notes.push("further uses of this name in the file are not listed".into());
        }
    }

    /// Gives every rule and exposure its position among all names in byte order.
    fn rank_names(&mut self) {
        enum Slot {
            Rule(crate::ids::RuleId),
            Exposure(crate::ids::ExposureId),
        }
        let mut names: Vec<(String, Slot)> = Vec::new();
        names.extend(self.model.rules.iter().map(|(id, r)| (r.name.clone(), Slot::Rule(id))));
        names.extend(self.model.exposures.iter().map(|(id, e)| (e.name.clone(), Slot::Exposure(id))));
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (rank, (_, slot)) in (0u32..).zip(names) {
            match slot {
                Slot::Rule(id) => self.model.rules[id].rank = rank,
                Slot::Exposure(id) => self.model.exposures[id].rank = rank,
            }
        }
    }
}
