//! Names for findings that outlive edits elsewhere: what reports are compared by.

use std::collections::BTreeMap;

use super::ci;
use crate::diag::Diagnostic;
use crate::source::Sources;

/// A name for each finding, 32 hexadecimal digits, no two the same.
///
/// It depends on the code, the file, the rules concerned, the text at the finding's place (without layout) and the
/// message without its numbers; not on lines and columns, so that it stays while other lines come and go, and not on
/// days left or offsets. Findings that agree in all of that are told apart by their order.
///
/// `prefix` stands before every path, as in [`super::CiOptions`].
#[must_use]
pub fn fingerprints(sources: &Sources, diagnostics: &[Diagnostic], prefix: &str) -> Vec<String> {
    let mut seen: BTreeMap<Identity, u64> = BTreeMap::new();
    diagnostics
        .iter()
        .map(|diagnostic| {
            let identity = identity(sources, diagnostic, prefix);
            let count = seen.entry(identity).or_default();
            let mut hasher = blake3::Hasher::new();
            hasher.update(&identity).update(&count.to_be_bytes());
            *count += 1;
            hasher.finalize().to_hex().chars().take(32).collect()
        })
        .collect()
}

type Identity = [u8; blake3::OUT_LEN];

fn identity(sources: &Sources, diagnostic: &Diagnostic, prefix: &str) -> Identity {
    let span = ci::known(sources, diagnostic.span);
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        // The length keeps parts apart, whatever they hold.
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    };
    part(diagnostic.code.as_str());
    part(prefix);
    part(sources.path(span.file));
    part(&diagnostic.rules.len().to_string());
    for rule in &diagnostic.rules {
        part(&steady(rule, true));
    }
    part(&sources.slice(span).split_whitespace().collect::<Vec<_>>().join(" "));
    part(&steady(&diagnostic.message, false));
    *hasher.finalize().as_bytes()
}

/// The text without what counts: numbers outside of quoted names, and the ordinals of unlabelled rules (`app#3`) in
/// them.
fn steady(text: &str, quoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut number) = (quoted, false);
    for c in text.chars() {
        let digit = c.is_ascii_digit();
        if digit && (number || !quoted || out.ends_with('#')) {
            if !number {
                out.push('0');
            }
            number = true;
            continue;
        }
        number = false;
        if c == '`' {
            quoted = !quoted;
        }
        out.push(c);
    }
    out
}
