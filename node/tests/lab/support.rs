//! Projects and machines for the lab's tests.

use compiler::{Compiled, SourceFile, compile};
use lang::ast::Date;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use partywall_node::lab::{self, LabOptions, Missing, ProbeOptions, ProbeReport};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A compiled project with its sources.
pub struct Project {
    pub sources: Sources,
    pub compiled: Compiled,
}

/// Compiles files given as (path, text); the test fails if an error is among the findings.
pub fn project(files: &[(String, String)]) -> Project {
    let mut sources = Sources::new();
    let ids: Vec<_> = files.iter().map(|(path, text)| sources.add(path.as_str(), text.as_str())).collect();
    let parsed: Vec<_> = files.iter().zip(&ids).map(|((_, text), id)| lang::parse(*id, text)).collect();
    let trees: Vec<SourceFile<'_>> = files
        .iter()
        .zip(ids.iter().zip(&parsed))
        .map(|((path, text), (id, parsed))| SourceFile { id: *id, path, text, tree: &parsed.file })
        .collect();
    let compilation = compile(&trees, Date { year: 2026, month: 11, day: 21 });
    let errors: Vec<&Diagnostic> = parsed
        .iter()
        .flat_map(|p| &p.diagnostics)
        .chain(&compilation.diagnostics)
        .filter(|d| d.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    Project { sources, compiled: compilation.compiled }
}

/// What the nodes of a lab run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    Nft,
    Ebpf,
    /// By name, the second node and every other one after it run eBPF.
    Mixed,
    /// These run nft.
    MixedOtherwise,
}

impl Fleet {
    /// What `PARTYWALL_TARGET` names, nft where it names nothing.
    pub fn wanted() -> Self {
        match std::env::var("PARTYWALL_TARGET").as_deref() {
            Err(_) | Ok("nft") => Self::Nft,
            Ok("ebpf") => Self::Ebpf,
            Ok("mixed") => Self::Mixed,
            Ok("mixed-otherwise") => Self::MixedOtherwise,
            Ok(other) => panic!("PARTYWALL_TARGET={other}"),
        }
    }

    /// Those of a project's nodes that run eBPF.
    pub fn ebpf<'a>(self, nodes: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let nodes: BTreeSet<&str> = nodes.collect();
        let does = |n: usize| match self {
            Self::Nft => false,
            Self::Ebpf => true,
            Self::Mixed => n % 2 == 1,
            Self::MixedOtherwise => n.is_multiple_of(2),
        };
        nodes.into_iter().enumerate().filter(|(n, _)| does(*n)).map(|(_, name)| name.to_owned()).collect()
    }

    /// What is asked for to build it, with the instances on `down` counted as dead.
    pub fn request(self, down: &[&str]) -> backends::Request {
        let targets = match self {
            Self::Nft => vec![backends::Target::Nft],
            Self::Ebpf => vec![backends::Target::Ebpf],
            Self::Mixed | Self::MixedOtherwise => vec![backends::Target::Nft, backends::Target::Ebpf],
        };
        backends::Request {
            targets: targets.into_iter().collect(),
            down: down.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    /// Builds the artifacts of a project into a directory, with the instances on `down` counted as dead.
    pub fn build(self, project: &Project, down: &[&str], directory: &Path) {
        let bundle = backends::build(&project.compiled, &project.sources, &self.request(down)).unwrap();
        let ebpf = self.ebpf(bundle.manifest.nodes.keys().map(String::as_str));
        for artifact in bundle.files {
            // Of both targets a node gets one.
            let mut parts = artifact.path.split('/');
            let (node, target) = (parts.next().unwrap(), parts.next());
            if target == Some(if ebpf.contains(node) { "nft" } else { "ebpf" }) {
                continue;
            }
            let path = directory.join(&artifact.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, artifact.bytes).unwrap();
        }
    }
}

/// Builds the artifacts of a project into a directory, for the targets that `PARTYWALL_TARGET` names.
pub fn build(project: &Project, directory: &Path) {
    Fleet::wanted().build(project, &[], directory);
}

/// Elements of a `stage.nft` whose keys begin with a range of ports.
pub fn port_ranges(stage: &str) -> usize {
    let is_range = |key: &str| {
        let ends = key.trim_start().split_once('-');
        ends.is_some_and(|(from, to)| from.parse::<u16>().is_ok() && to.parse::<u16>().is_ok())
    };
    stage.lines().filter(|line| line.split(" . ").next().is_some_and(is_range)).count()
}

/// All `.pw` files below a directory, sorted by path.
pub fn read(root: &Path) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "pw") {
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.push((relative, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    out.sort();
    out
}

/// Whether this machine can carry a lab; if not, says loudly what is missing, and fails where the environment's
/// `PARTYWALL_LAB_REQUIRED` says that nothing should be.
pub fn able(c: &Compiled, test: &str) -> bool {
    let missing = lab::preflight(c);
    if missing.is_empty() {
        return true;
    }
    let list: Vec<String> = missing.iter().map(Missing::to_string).collect();
    println!("SKIPPED: {test}: {}", list.join("; "));
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "{test}: {}", list.join("; "));
    false
}

/// Options for a lab of this test and process alone. What test processes left that were killed is taken away first.
pub fn options(test: &str) -> LabOptions {
    let records = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(records).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(pid) = name.strip_prefix("lab.") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            // Another process may be doing the same: what is gone already is as good.
            for project in std::fs::read_to_string(entry.path()).unwrap_or_default().lines() {
                let _ = lab::down(&LabOptions { project: project.to_owned() });
            }
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let project = format!("test {test} {}", std::process::id());
    let own = records.join(format!("lab.{}", std::process::id()));
    let mut record = std::fs::OpenOptions::new().create(true).append(true).open(own).unwrap();
    writeln!(record, "{project}").unwrap();
    LabOptions { project }
}

/// What the probes of a project show in a lab whose nodes run this; `None` where there can be no lab.
pub fn probed(p: &Project, test: &str, fleet: Fleet) -> Option<ProbeReport> {
    let c = &p.compiled;
    if !able(c, test) {
        return None;
    }
    let options = options(test);
    let artifacts = tempfile::tempdir().unwrap();
    fleet.build(p, &[], artifacts.path());
    let lab = lab::up(c, artifacts.path(), &options).unwrap();
    let report = lab::probe(c, &lab, &ProbeOptions::default());
    lab::down(&options).unwrap();
    Some(report.unwrap())
}

/// Namespaces on the machine that belong to a lab.
pub fn namespaces(options: &LabOptions) -> Vec<String> {
    let prefix = format!("{}-", lab::prefix(options));
    let listing = run("ip", &["netns", "list"]);
    let names = listing.lines().filter_map(|l| l.split_whitespace().next());
    names.filter(|n| n.starts_with(&prefix)).map(str::to_owned).collect()
}

pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes one script per node as that node's `apply.sh`.
pub fn scripts(directory: &Path, nodes: &[(&str, String)]) {
    for (node, text) in nodes {
        let nft = directory.join(node).join("nft");
        std::fs::create_dir_all(&nft).unwrap();
        std::fs::write(nft.join("apply.sh"), text).unwrap();
    }
}
