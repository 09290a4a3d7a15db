//! A whole check: from what earlier runs have stored as far as that holds still, of all the work or of one shard.

mod stored;

use crate::analysis::{self, Stage};
use crate::cache::{BUILD, Cache};
use crate::cli::{Judging, Levels, Proving};
use crate::exit::Failure;
use crate::project::Project;
use crate::record::{Allowed, Finding, Shared};
use crate::settings;
use compiler::config::Config;
use lang::ast::{Date, Suppression};
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use lang::span::FileId;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tracing::info;
use verifier::units::{self, Judged, Unit};

/// One of several parts in which a check is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// From 1.
    pub index: usize,
    pub of: usize,
}

impl Shard {
    /// More parts than this are a mistake.
    const MOST: usize = 1_000;

    /// `i/n`
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=Self::MOST).contains(n));
        match text.split_once('/').map(|(index, of)| (number(index), number(of))) {
            Some((Some(index), Some(of))) if index <= of => Ok(Self { index, of }),
            _ => Err(format!("a shard is written i/n, from 1/n to n/n, n at most {}", Self::MOST)),
        }
    }

    /// Whether the thing at a place in a list is this shard's.
    fn has(self, at: usize) -> bool {
        at % self.of == self.index - 1
    }
}

/// What is told of a project that has no findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The fabric's name.
    pub project: String,
    pub files: usize,
    pub tenants: usize,
    pub rules: usize,
    pub exposures: usize,
}

/// What a check or a shard of one has found, before suppressions and levels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub facts: Facts,
    /// Owners whose flows were left out, since some of their declarations are in error.
    pub skipped: Vec<String>,
    pub findings: Vec<Finding>,
    /// By tenant: findings about pairs of platform rules from its view.
    pub shared: Vec<(String, Vec<Shared>)>,
    pub suppressions: Vec<Allowed>,
}

/// A check that has been run.
#[derive(Debug)]
pub struct Checked {
    pub sources: Sources,
    pub config: Config,
    pub state: State,
    /// The digest of all inputs; empty if nothing is stored or handed on.
    pub inputs: String,
}

/// What is to be printed.
#[derive(Debug)]
pub struct Report {
    pub sources: Sources,
    pub facts: Facts,
    /// Sorted by file, line, column, code.
    pub findings: Vec<Diagnostic>,
}

impl Report {
    /// Whether there is a finding at error level.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// How a check is run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub judging: &'a Judging,
    pub proving: &'a Proving,
    pub cache: Option<&'a Cache>,
    pub shard: Option<Shard>,
}

/// Checks a project.
///
/// # Errors
/// Its settings cannot be read, or the solver fails.
pub fn check(project: &Project, request: Request<'_>) -> Result<Checked, Failure> {
    request.judging.run(|| {
        let today = request.judging.today();
        let inputs = match (request.cache, request.shard) {
            (None, None) => String::new(),
            _ => inputs(project, today, request.proving),
        };
        let checked = match request.cache {
            Some(cache) => with_cache(project, request, today, inputs, cache)?,
            None => {
                let stage = analysis::compile(project, today)?;
                let judged = judge(&stage, request, None)?;
                finish(stage, judged, request.shard, inputs)
            }
        };
        Ok(checked)
    })?
}

/// The digest of all that a check's findings depend on, but for levels, which are applied to them.
fn inputs(project: &Project, today: Date, proving: &Proving) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(BUILD.as_bytes());
    put(format!("{today:?}").as_bytes());
    put(format!("{} {}", proving.solver_budget, proving.certify).as_bytes());
    put(project.config.as_ref().map_or(&b"-"[..], |_| b"+"));
    put(project.config.as_deref().unwrap_or_default().as_bytes());
    let digests: Vec<blake3::Hash> = project.files.par_iter().map(|file| blake3::hash(&file.bytes)).collect();
    for (file, digest) in project.files.iter().zip(digests) {
        put(file.path.as_bytes());
        put(digest.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn with_cache(
    project: &Project,
    request: Request<'_>,
    today: Date,
    inputs: String,
    cache: &Cache,
) -> Result<Checked, Failure> {
    let part = request.shard.map_or_else(String::new, |shard| format!("-{}of{}", shard.index, shard.of));
    let name = format!("run-{inputs}{part}");
    let config = settings::read(project.config.as_deref())?;
    if let Some(state) = cache.read::<State>(&name) {
        info!("nothing has changed since an earlier run");
        return Ok(Checked { sources: analysis::sources(project), config, state, inputs });
    }
    let stage = analysis::compile(project, today)?;
    let judged = judge(&stage, request, Some(cache))?;
    let checked = finish(stage, judged, request.shard, inputs);
    cache.write(&name, &checked.state);
    Ok(checked)
}

/// The units of a shard: each kind is dealt out in turn, what reads everything to the first.
fn units_of(all: Vec<Unit>, shard: Option<Shard>) -> Vec<Unit> {
    let Some(shard) = shard else { return all };
    let kind = |unit: &Unit| match unit {
        Unit::View(_) => 0_usize,
        Unit::Platform(_) => 1,
        Unit::Test(_) => 2,
        Unit::Isolate(_) => 3,
        Unit::Paths => 4,
    };
    let mut seen = [0_usize; 5];
    all.into_iter()
        .filter(|unit| {
            seen.get_mut(kind(unit)).is_some_and(|count| {
                *count += 1;
                shard.has(*count - 1)
            })
        })
        .collect()
}

/// The verdicts of all units that are this run's, from the cache or anew.
fn judge(stage: &Stage, request: Request<'_>, cache: Option<&Cache>) -> Result<Vec<(Unit, Judged)>, Failure> {
    let start = Instant::now();
    let c = &stage.compiled;
    let options = analysis::options(request.judging, request.proving);
    let units = units_of(units::units(c), request.shard);
    let judged = match cache {
        None => units::judge(c, &options, &units, &[]).map_err(analysis::broken)?,
        Some(cache) => {
            let mut stored = stored::Stored::open(cache, stage, request, &units);
            let known = stored.known();
            let missing: Vec<Unit> = units.iter().copied().filter(|unit| !known.contains_key(unit)).collect();
            info!(units = units.len(), missing = missing.len(), elapsed = ?start.elapsed(), "compared with the cache");
            let fresh = if missing.is_empty() {
                Vec::new()
            } else {
                let alive: Vec<_> = known.values().flat_map(|judged| judged.alive.iter().copied()).collect();
                units::judge(c, &options, &missing, &alive).map_err(analysis::broken)?
            };
            stored.keep(cache, &fresh);
            let mut all = known;
            all.extend(fresh);
            all.into_iter().collect()
        }
    };
    info!(elapsed = ?start.elapsed(), "verified");
    Ok(judged)
}

/// What is found in sum. What syntax, names and structure have to say is the first shard's.
fn finish(stage: Stage, judged: Vec<(Unit, Judged)>, shard: Option<Shard>, inputs: String) -> Checked {
    let Stage { sources, suppressions, config, compiled, findings: structure } = stage;
    let model = &compiled.model;
    let facts = Facts {
        project: model.fabric.name.clone(),
        files: sources.iter().count(),
        tenants: model.owners.values().filter(|owner| owner.is_tenant()).count(),
        rules: model.rules.len(),
        exposures: model.exposures.len(),
    };
    let mut findings: Vec<Finding> = Vec::new();
    if shard.is_none_or(|shard| shard.index == 1) {
        findings.extend(structure.iter().map(Finding::of));
    }
    let mut shared = Vec::new();
    for (unit, judged) in judged {
        findings.extend(judged.diagnostics.iter().map(Finding::of));
        if let (Unit::View(tenant), false) = (unit, judged.shared.is_empty()) {
            let pairs = judged.shared.iter().map(|one| Shared {
                rules: one.rules.clone(),
                decided: one.decided,
                finding: Finding::of(&one.finding),
            });
            shared.push((model.owners[tenant].name.clone(), pairs.collect()));
        }
    }
    let state = State {
        facts,
        skipped: model.tainted.iter().map(|id| model.owners[*id].name.clone()).collect(),
        findings,
        shared,
        suppressions: suppressions.iter().map(Allowed::of).collect(),
    };
    // The model is many small pieces: they are given back while the findings are written.
    rayon::spawn(move || drop(compiled));
    Checked { sources, config, state, inputs }
}

impl Checked {
    /// Suppressions and levels applied. A shard does not know which suppressions others use, so it names none as idle.
    ///
    /// # Errors
    /// A level that a code cannot have.
    pub fn settle(self, levels: &Levels, shard: Option<Shard>) -> Result<Report, Failure> {
        let Self { sources, config, state, .. } = self;
        let count = sources.iter().count();
        let files = |file: u32| (usize::try_from(file).is_ok_and(|at| at < count)).then_some(FileId(file));
        settle(sources, config, levels, vec![state], shard.is_some(), &files)
    }
}

/// The report on what all parts have found together; `partial`: there are others.
///
/// # Errors
/// A level that a code cannot have, or a part that names what does not exist.
pub fn settle(
    sources: Sources,
    config: Config,
    levels: &Levels,
    parts: Vec<State>,
    partial: bool,
    files: &dyn Fn(u32) -> Option<FileId>,
) -> Result<Report, Failure> {
    let unsound = || Failure::new("a stored finding names what does not exist");
    let mut plain = Judged::default();
    let mut shared: Vec<(String, Judged)> = Vec::new();
    let mut suppressions: Vec<Suppression> = Vec::new();
    let mut facts = None;
    for (at, part) in parts.into_iter().enumerate() {
        for finding in part.findings {
            plain.diagnostics.push(finding.diagnostic(files).ok_or_else(unsound)?);
        }
        for (tenant, pairs) in part.shared {
            let mut judged = Judged::default();
            for pair in pairs {
                let Shared { rules, decided, finding } = pair;
                let finding = finding.diagnostic(files).ok_or_else(unsound)?;
                judged.shared.push(units::Shared { rules, decided, finding });
            }
            shared.push((tenant, judged));
        }
        // Every part has all of them.
        if at == 0 {
            for one in part.suppressions {
                suppressions.push(one.suppression(files).ok_or_else(unsound)?);
            }
            facts = Some((part.facts, part.skipped.is_empty()));
        }
    }
    let (facts, proved) = facts.ok_or_else(unsound)?;
    // The order of tenants' ids is that of their names.
    shared.sort_by(|a, b| a.0.cmp(&b.0));
    let findings = units::gather(std::iter::once(plain).chain(shared.into_iter().map(|(_, judged)| judged)));
    let judged = |code: Code| !partial && analysis::is_judged(code, proved);
    let mut findings = analysis::weigh(&sources, config.lints, levels, findings, &suppressions, judged)?;
    if partial {
        findings.retain(|finding| finding.code != Code::PW0902);
    }
    Ok(Report { sources, facts, findings })
}
