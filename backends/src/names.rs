//! Names in artifacts: what nft takes, and what it cannot hold shortened with a digest.

/// Longest identifier that is emitted; nft takes 128 bytes.
const MAX: usize = 100;

/// `prefix` and `written` as an identifier of nft. Characters beyond letters, digits, `_`, `-` and `.` become `_`, and what
/// changed or is too long ends in a digest of the name as written, so that two names never meet.
#[must_use]
pub fn identifier(prefix: &str, written: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let clean: String = written.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    let full = format!("{prefix}{clean}");
    if clean == written && full.len() <= MAX {
        return full;
    }
    let kept: String = full.chars().take(MAX - 9).collect();
    format!("{kept}-{}", digest8(written))
}

/// Eight hexadecimal digits of a digest.
#[must_use]
pub fn digest8(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn plain_names_stay() {
        assert_eq!(identifier("rule_", "shop-app.checkout"), "rule_shop-app.checkout");
    }

    #[test]
    fn others_end_in_a_digest_and_stay_apart() {
        let (a, b) = (identifier("rule_", "a#1"), identifier("rule_", "a_1"));
        assert!(a.starts_with("rule_a_1-"), "{a}");
        assert_eq!(b, "rule_a_1");
        let long = "x".repeat(300);
        assert_eq!(identifier("rule_", &long).len(), 100);
        assert_ne!(identifier("rule_", &long), identifier("rule_", &format!("{long}y")));
    }
}
