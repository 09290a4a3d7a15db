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
use crate::sets::{EndSet, ServiceSet};
pub(crate) use policies::views;

use lang::ast;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::source::Sources;
use lang::span::{FileId, Span};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
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

impl<'a> SourceFile<'a> {
    /// The files of `sources`, whose trees are `parsed`, in the same order.
    #[must_use]
    pub fn all(sources: &'a Sources, parsed: &'a [lang::Parsed]) -> Vec<Self> {
        sources
            .iter()
            .zip(parsed)
            .map(|((id, source), parsed)| SourceFile {
                id,
                path: source.path(),
                text: source.text(),
                tree: &parsed.file,
            })
            .collect()
    }
}

/// State of lowering: the tables, the model so far, the findings.
pub(crate) struct Lowering<'a> {
    files: &'a [SourceFile<'a>],
    symbols: Arc<Symbols<'a>>,
    model: Model,
    /// The model that names are looked up in, where it is not the one that grows.
    base: Option<Arc<Model>>,
    report: Report,
    services: Arc<Vec<Option<Arc<ServiceSet>>>>,
    groups: Arc<Vec<Option<Arc<EndSet>>>>,
    /// By segment, by owner: the sets that their names mean, shared by every rule that names them.
    segment_sets: Arc<Vec<Arc<EndSet>>>,
    owner_sets: Arc<Vec<Arc<EndSet>>>,
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
        symbols: Arc::new(symbols),
        model: Model::default(),
        base: None,
        report,
        services: Arc::default(),
        groups: Arc::default(),
        segment_sets: Arc::default(),
        owner_sets: Arc::default(),
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
    /// Another that looks up the same names in `base` and finds things on its own.
    fn fork(&self, base: &Arc<Model>) -> Self {
        Self {
            files: self.files,
            symbols: self.symbols.clone(),
            model: Model::default(),
            base: Some(base.clone()),
            report: Report::default(),
            services: self.services.clone(),
            groups: self.groups.clone(),
            segment_sets: self.segment_sets.clone(),
            owner_sets: self.owner_sets.clone(),
            used: usage::Used::default(),
            left_out: std::collections::BTreeSet::new(),
            taint_all: false,
            unknown: BTreeMap::new(),
        }
    }

    /// Whether what forks have found, taken together, is what one run over all would have found: some uses of an unknown
    /// name are left out when there are many.
    fn add_up(&self, forks: &[Self]) -> bool {
        let mut counts: BTreeMap<(FileId, &str), usize> = BTreeMap::new();
        for one in std::iter::once(self).chain(forks) {
            for (file, names) in &one.unknown {
                for (name, count) in names {
                    *counts.entry((*file, name)).or_default() += count;
                }
            }
        }
        counts.values().all(|count| *count < MAX_USES)
    }

    /// Takes over what a fork has found, but for its model.
    fn join(&mut self, fork: Self) {
        self.report.diagnostics.extend(fork.report.diagnostics);
        self.report.tainted.extend(fork.report.tainted);
        self.report.empty.extend(fork.report.empty);
        self.used.join(fork.used);
        self.left_out.extend(fork.left_out);
        self.taint_all |= fork.taint_all;
        for (file, names) in fork.unknown {
            let known = self.unknown.entry(file).or_default();
            for (name, count) in names {
                *known.entry(name).or_default() += count;
            }
        }
    }

    /// The model that names are looked up in.
    fn known(&self) -> &Model {
        self.base.as_deref().unwrap_or(&self.model)
    }

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
        let rules = self.model.rules.iter().map(|(id, r)| (r.name.as_str(), Slot::Rule(id)));
        let exposures = self.model.exposures.iter().map(|(id, e)| (e.name.as_str(), Slot::Exposure(id)));
        let mut names: Vec<(&str, Slot)> = rules.chain(exposures).collect();
        names.par_sort_by(|a, b| a.0.cmp(b.0));
        let slots: Vec<Slot> = names.into_iter().map(|(_, slot)| slot).collect();
        for (rank, slot) in (0u32..).zip(slots) {
            match slot {
                Slot::Rule(id) => self.model.rules[id].rank = rank,
                Slot::Exposure(id) => self.model.exposures[id].rank = rank,
            }
        }
    }
}
