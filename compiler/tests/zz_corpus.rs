mod support;
use lang::span::FileId;
use partywall_compiler::{SourceFile, compile, lints};

#[test]
fn corpus() {
    for dir in ["err", "ok"] {
        let mut paths: Vec<_> = std::fs::read_dir(format!("../tests/language/{dir}"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|e| e != "pw") {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let parsed = lang::parse(FileId(0), &text);
            let files = [SourceFile { id: FileId(0), path: "main.pw", text: &text, tree: &parsed.file }];
            let mut all = parsed.diagnostics.clone();
            all.extend(compile(&files, support::TODAY).diagnostics);
            let all = lints::apply(all, &parsed.file.suppressions, &Default::default(), |_| true);
            let line = |o: u32| text[..o as usize].matches('\n').count() + 1;
            let mut got: Vec<(usize, String)> =
                all.iter().map(|d| (line(d.span.start), d.code.to_string())).collect();
            let mut want = vec![];
            for (n, l) in (1..).zip(text.lines()) {
                if let Some((_, c)) = l.split_once("//~") {
                    let (c, n) = match c.strip_prefix('^') {
                        Some(c) => (c, n - 1),
                        None => (c, n),
                    };
                    want.extend(
                        c.split(|c: char| !c.is_ascii_alphanumeric())
                            .filter(|w| w.starts_with("PW"))
                            .map(|c| (n, c.to_owned())),
                    );
                }
            }
            got.sort();
            want.sort();
            let extra: Vec<_> = all
                .iter()
                .filter(|d| !want.contains(&(line(d.span.start), d.code.to_string())))
                .map(|d| format!("{}:{} {}", line(d.span.start), d.code, d.message))
                .collect();
            let missing: Vec<_> = want.iter().filter(|w| !got.contains(w)).collect();
            if !extra.is_empty() || !missing.is_empty() {
                println!("== {}\n  extra {extra:#?}\n  missing {missing:?}", path.display());
            }
            for d in &all {
                println!(
                    "   [{}] {}:{} {}\n        label: {}\n        help: {}",
                    path.file_stem().unwrap().to_string_lossy(),
                    line(d.span.start),
                    d.code,
                    d.message,
                    d.label,
                    d.help.as_deref().unwrap_or("-")
                );
            }
        }
    }
}
