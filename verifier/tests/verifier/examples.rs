//! The examples are clean.

use crate::support;
use std::path::Path;

fn collect(dir: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "pw") {
            out.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    out.sort();
}

#[test]
fn nothing_is_found_in_the_clean_examples() {
    for example in ["01-quickstart", "02-datacenter"] {
        let mut files = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example), &mut files);
        let (compiled, diagnostics) = support::compile_files(&files);
        assert!(compiled.model.tainted.is_empty(), "{diagnostics:#?}");
        let verdicts = support::verify(&compiled);
        assert_eq!(support::lines(&verdicts), Vec::<String>::new(), "{example}");
    }
}
