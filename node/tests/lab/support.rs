//! Projects and machines for the lab's tests.

use compiler::{Compiled, SourceFile, compile};
use lang::ast::Date;
use lang::diag::{Diagnostic, Severity};
use lang::source::Sources;
use partywall_node::lab::{self, LabOptions, Missing};
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

/// Builds the artifacts of a project into a directory: nft's, or what `PARTYWALL_TARGET` names (`ebpf`; `mixed`: every other node).
pub fn build(project: &Project, directory: &Path) {
    let wanted = std::env::var("PARTYWALL_TARGET").unwrap_or_else(|_| "nft".into());
    let targets = match wanted.as_str() {
        "nft" => vec![backends::Target::Nft],
        "ebpf" => vec![backends::Target::Ebpf],
        "mixed" => vec![backends::Target::Nft, backends::Target::Ebpf],
        other => panic!("PARTYWALL_TARGET={other}"),
    };
    let request = backends::Request { targets: targets.into_iter().collect(), ..Default::default() };
    let mut bundle = backends::build(&project.compiled, &project.sources, &request).unwrap();
    if wanted == "mixed" {
        let odd: Vec<String> = bundle.manifest.nodes.keys().skip(1).step_by(2).cloned().collect();
        bundle.files.retain(|file| !odd.iter().any(|node| file.path.starts_with(&format!("{node}/nft/"))));
    }
    for artifact in bundle.files {
        let path = directory.join(&artifact.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, artifact.bytes).unwrap();
    }
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
