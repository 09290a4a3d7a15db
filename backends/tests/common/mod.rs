//! Projects from folders and from text.

use compiler::{Compiled, SourceFile, compile};
use lang::ast::Date;
use lang::source::Sources;
use std::path::{Path, PathBuf};

pub struct Project {
    pub sources: Sources,
    pub compiled: Compiled,
}

pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn collect(dir: &Path, root: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, root, out);
        } else if path.extension().is_some_and(|e| e == "pw") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            out.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The sources in a folder, by path.
pub fn files(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort();
    files
}

/// A project in a folder; it must be free of errors.
pub fn folder(root: &Path) -> Project {
    project(&files(root))
}

/// A project of these files; it must be free of errors.
pub fn project(files: &[(String, String)]) -> Project {
    attempt(files).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A project of these files, or its errors.
pub fn attempt(files: &[(String, String)]) -> Result<Project, Vec<String>> {
    let mut sources = Sources::new();
    for (path, text) in files {
        sources.add(path.clone(), text.clone());
    }
    let parsed: Vec<_> = sources.iter().map(|(id, source)| lang::parse(id, source.text())).collect();
    for p in &parsed {
        assert!(!p.has_errors(), "{:?}", p.diagnostics);
    }
    let trees = SourceFile::all(&sources, &parsed);
    let today = Date { year: 2026, month: 11, day: 21 };
    let compilation = compile(&trees, today);
    let errors: Vec<_> = compilation
        .diagnostics
        .iter()
        .filter(|d| d.severity == lang::diag::Severity::Error)
        .map(|d| format!("{} {}", d.code, d.message))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Project { sources, compiled: compilation.compiled })
}

/// A project of one file.
pub fn text(text: &str) -> Project {
    project(&[("main.pw".to_owned(), text.to_owned())])
}
