//! Verdicts of single units, kept under the digest of all that they depend on.

use super::Request;
use crate::analysis::Stage;
use crate::cache::{BUILD, Cache};
use crate::record::{Finding, Shared};
use compiler::Compiled;
use compiler::digest::{Digest, Digests};
use compiler::ids::RuleId;
use lang::codes::Code;
use lang::span::FileId;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use verifier::units::{self, Judged, Unit};

/// After so many runs that had no use for it a verdict is dropped.
const MOST_IDLE: u32 = 8;

/// The verdicts that earlier runs on a project have left.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pack {
    /// The files that places are in.
    files: Vec<String>,
    /// By key.
    units: BTreeMap<String, Kept>,
}

/// One unit's verdict.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Runs since it was of use that wrote the pack.
    idle: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared: Vec<Shared>,
    /// Platform rules: the policy, and the position in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alive: Vec<(String, u32)>,
}

/// The pack of a project, and the keys under which this run's units are to be found in it.
pub(super) struct Stored<'s> {
    stage: &'s Stage,
    name: String,
    pack: Pack,
    keys: BTreeMap<Unit, String>,
}

impl<'s> Stored<'s> {
    pub(super) fn open(cache: &Cache, stage: &'s Stage, request: Request<'_>, units: &[Unit]) -> Self {
        let c = &stage.compiled;
        let options = format!("{BUILD} {} {}", request.proving.solver_budget, request.proving.certify);
        let project =
            blake3::hash(format!("{options} {:?} {}", request.shard, c.model.fabric.name).as_bytes());
        let name = format!("units-{}", project.to_hex());
        let paths: Vec<&str> = stage.sources.iter().map(|(_, source)| source.path()).collect();
        let digests = Digests::new(c, &paths);
        let keys = units.par_iter().map(|unit| (*unit, key(&options, digest(c, &digests, *unit)))).collect();
        let pack = cache.read(&name).unwrap_or_default();
        Self { stage, name, pack, keys }
    }

    /// The verdicts that hold still.
    // SOUNDNESS: a unit's verdict depends on its inputs alone (`verifier::units`), the key is a digest of all of them and of
    // the build and its options (`compiler::digest`), and a verdict on which the budget was spent is not kept.
    pub(super) fn known(&self) -> BTreeMap<Unit, Judged> {
        let ids: BTreeMap<&str, FileId> =
            self.stage.sources.iter().map(|(id, source)| (source.path(), id)).collect();
        let files = |file: u32| {
            let path = self.pack.files.get(usize::try_from(file).ok()?)?;
            ids.get(path.as_str()).copied()
        };
        let judged = |(unit, key): (&Unit, &String)| {
            Some((*unit, self.pack.units.get(key)?.clone().judged(&self.stage.compiled, &files)?))
        };
        self.keys.iter().filter_map(judged).collect()
    }

    /// Adds what has been judged anew, and forgets what was of no use for long.
    pub(super) fn keep(&mut self, cache: &Cache, fresh: &[(Unit, Judged)]) {
        let old = std::mem::take(&mut self.pack);
        let used: std::collections::BTreeSet<&String> = self.keys.values().collect();
        if fresh.is_empty() {
            return;
        }
        let mut table = Table::default();
        let mut units = BTreeMap::new();
        for (key, mut kept) in old.units {
            kept.idle = if used.contains(&key) { 0 } else { kept.idle + 1 };
            if kept.idle <= MOST_IDLE && kept.rename(&|file| table_of(&old.files, file), &mut table) {
                units.insert(key, kept);
            }
        }
        let paths: Vec<String> = self.stage.sources.iter().map(|(_, s)| s.path().to_owned()).collect();
        for (unit, judged) in fresh {
            let Some(key) = self.keys.get(unit) else { continue };
            if let Some(mut kept) = Kept::of(&self.stage.compiled, judged)
                && kept.rename(&|file| table_of(&paths, file), &mut table)
            {
                units.insert(key.clone(), kept);
            }
        }
        cache.write(&self.name, &Pack { files: table.files, units });
    }
}

fn table_of(files: &[String], file: u32) -> Option<&str> {
    files.get(usize::try_from(file).ok()?).map(String::as_str)
}

/// The files of a pack that is being made.
#[derive(Default)]
struct Table {
    files: Vec<String>,
    ids: BTreeMap<String, u32>,
}

impl Table {
    fn id(&mut self, path: &str) -> u32 {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        let id = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(path.to_owned());
        self.ids.insert(path.to_owned(), id);
        id
    }
}

fn key(options: &str, digest: Digest) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&digest).update(options.as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn digest(c: &Compiled, digests: &Digests<'_>, unit: Unit) -> Digest {
    match unit {
        Unit::View(tenant) => digests.view(tenant),
        Unit::Platform(policy) => digests.policy(policy),
        Unit::Test(at) => c.model.tests.get(at).map_or_else(|| digests.whole(), |test| digests.test(test)),
        Unit::Isolate(at) => {
            c.model.isolates.get(at).map_or_else(|| digests.whole(), |isolate| digests.isolate(isolate))
        }
        Unit::Paths => digests.whole(),
    }
}

impl Kept {
    /// `None` if the budget was spent on something.
    fn of(c: &Compiled, judged: &Judged) -> Option<Self> {
        let undecided = judged.diagnostics.iter().any(|finding| finding.code == Code::PW0901)
            || judged.shared.iter().any(|one| !one.decided);
        if undecided {
            return None;
        }
        let alive = judged.alive.iter().map(|id| {
            let policy = &c.model.policies[c.model.rules[*id].policy];
            let at = policy.rules.iter().position(|rule| rule == id)?;
            Some((policy.name.clone(), u32::try_from(at).ok()?))
        });
        Some(Self {
            idle: 0,
            findings: judged.diagnostics.iter().map(Finding::of).collect(),
            shared: judged
                .shared
                .iter()
                .map(|one| Shared {
                    rules: one.rules.clone(),
                    decided: one.decided,
                    finding: Finding::of(&one.finding),
                })
                .collect(),
            alive: alive.collect::<Option<_>>()?,
        })
    }

    fn judged(self, c: &Compiled, files: &dyn Fn(u32) -> Option<FileId>) -> Option<Judged> {
        let rule = |(policy, at): (String, u32)| -> Option<RuleId> {
            let policies = c.model.policies.as_slice();
            let policy = policies.binary_search_by(|p| p.name.as_str().cmp(policy.as_str())).ok()?;
            policies.get(policy)?.rules.get(usize::try_from(at).ok()?).copied()
        };
        let shared = |one: Shared| {
            let Shared { rules, decided, finding } = one;
            Some(units::Shared { rules, decided, finding: finding.diagnostic(files)? })
        };
        Some(Judged {
            diagnostics: self.findings.into_iter().map(|f| f.diagnostic(files)).collect::<Option<_>>()?,
            shared: self.shared.into_iter().map(shared).collect::<Option<_>>()?,
            alive: self.alive.into_iter().map(rule).collect::<Option<_>>()?,
        })
    }

    /// Numbers the files that its places are in as `table` does; `false` if one is not known.
    fn rename<'p>(&mut self, path: &dyn Fn(u32) -> Option<&'p str>, table: &mut Table) -> bool {
        let mut findings: Vec<&mut Finding> =
            self.findings.iter_mut().chain(self.shared.iter_mut().map(|one| &mut one.finding)).collect();
        let mut ids = BTreeMap::new();
        for file in findings.iter().flat_map(|finding| finding.files()) {
            match path(file) {
                Some(path) => ids.insert(file, table.id(path)),
                None => return false,
            };
        }
        findings
            .iter_mut()
            .for_each(|finding| finding.rename(&|file| ids.get(&file).copied().unwrap_or(file)));
        true
    }
}
