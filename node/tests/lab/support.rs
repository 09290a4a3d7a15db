//! Projects and machines for the lab's tests.

use compiler::{Compiled, SourceFile, compile};
use lang::ast::Date;
use lang::span::FileId;
use partywall_node::lab::{self, LabOptions, Missing};
use std::path::Path;
use std::process::Command;

/// Compiles files given as (path, text); the test fails if a syntax error is among them.
pub fn project(files: &[(String, String)]) -> Compiled {
    let parsed: Vec<_> = (0u32..)
        .zip(files)
        .map(|(n, (path, text))| {
            let parsed = lang::parse(FileId(n), text);
            assert!(parsed.diagnostics.is_empty(), "{path}: {:?}", parsed.diagnostics);
            parsed
        })
        .collect();
    let sources: Vec<SourceFile<'_>> = (0u32..)
        .zip(files.iter().zip(&parsed))
        .map(|(n, ((path, text), parsed))| SourceFile { id: FileId(n), path, text, tree: &parsed.file })
        .collect();
    compile(&sources, Date { year: 2026, month: 11, day: 21 }).compiled
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

/// Options for a lab of this test alone.
pub fn options(test: &str) -> LabOptions {
    LabOptions { project: format!("test {test} {}", std::process::id()) }
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
