//! The fingerprint by which GitHub code scanning follows a result, as its own upload action computes it (`hash` in
//! github/codeql-action, `src/fingerprints.ts`): a report that brings another value gets a warning for each result.

use std::collections::BTreeMap;

/// How many characters from the line's beginning on count.
const BLOCK: usize = 100;

/// The base of the polynomial.
const BASE: u64 = 37;

/// Stands for the end of the file.
const END: u16 = 65_535;

/// The fingerprint of each line, the first line's first: the hash of the 100 UTF-16 units from its first one on,
/// without blanks and over the following lines, and how often it has occurred so far.
pub(super) fn line_hashes(text: &str) -> Vec<String> {
    let (units, starts) = units(text);
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    starts
        .into_iter()
        .map(|start| {
            let block = units.iter().skip(start).copied().chain(std::iter::repeat(0)).take(BLOCK);
            let hash = block.fold(0_u64, |hash, unit| hash.wrapping_mul(BASE).wrapping_add(u64::from(unit)));
            let count = seen.entry(hash).or_default();
            *count += 1;
            format!("{hash:x}:{count}")
        })
        .collect()
}

/// What counts of the text, every line end as `\n`, and where in it each line begins.
fn units(text: &str) -> (Vec<u16>, Vec<usize>) {
    let (mut units, mut starts) = (Vec::with_capacity(text.len()), Vec::new());
    let (mut at_start, mut after_return) = (true, false);
    for unit in text.encode_utf16().chain(std::iter::once(END)) {
        let unit = match char::from_u32(u32::from(unit)) {
            Some(' ' | '\t') => {
                after_return = false;
                continue;
            }
            Some('\n') if after_return => {
                after_return = false;
                continue;
            }
            Some('\r') => {
                after_return = true;
                u16::from(b'\n')
            }
            _ => {
                after_return = false;
                unit
            }
        };
        if at_start {
            starts.push(units.len());
        }
        at_start = unit == u16::from(b'\n');
        units.push(unit);
    }
    (units, starts)
}
