//! Tokens.

use super::Refused;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// Value, and the width where one was written.
    Number(u128, Option<u8>),
    Punct(&'static str),
    /// `/// …`
    Doc(String),
    /// `#include <…>`
    Include(String),
    End,
}

const PUNCT: [&str; 33] = [
    "++", "==", "!=", "<=", ">=", "&&", "||", "<<", ">>", "(", ")", "{", "}", "[", "]", "<", ">", ";", ":",
    ",", ".", "=", "+", "-", "&", "|", "^", "~", "!", "@", "?", "*", "/",
];

/// Tokens with their lines.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Refused> {
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let refuse = |message: String| Refused { line: number, message };
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            if let Some(doc) = rest.strip_prefix("///") {
                out.push((Token::Doc(doc.trim().to_owned()), number));
                break;
            }
            if rest.starts_with("//") {
                break;
            }
            if let Some(file) = rest.strip_prefix("#include") {
                out.push((Token::Include(file.trim().to_owned()), number));
                break;
            }
            let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (head, tail) = rest.split_at(word);
            if head.starts_with(|c: char| c.is_ascii_digit()) {
                let value = number_of(head).ok_or_else(|| refuse(format!("`{head}` is no number")))?;
                out.push((value, number));
                rest = tail.trim_start();
            } else if !head.is_empty() {
                out.push((Token::Word(head.to_owned()), number));
                rest = tail.trim_start();
            } else if let Some(punct) = PUNCT.into_iter().find(|p| rest.starts_with(p)) {
                out.push((Token::Punct(punct), number));
                rest = rest.get(punct.len()..).unwrap_or_default().trim_start();
            } else {
                let found: String = rest.chars().take(1).collect();
                return Err(refuse(format!("`{found}` begins no token")));
            }
        }
    }
    let last = text.lines().count().max(1);
    out.push((Token::End, last));
    Ok(out)
}

/// `10`, `0x1f`, `8w10`, `32w0xff`
fn number_of(text: &str) -> Option<Token> {
    let plain = |t: &str| -> Option<u128> {
        match t.strip_prefix("0x") {
            Some(hex) => u128::from_str_radix(hex, 16).ok(),
            None => t.parse().ok(),
        }
    };
    if let Some(value) = plain(text) {
        return Some(Token::Number(value, None));
    }
    let (width, value) = text.split_once('w')?;
    let width: u8 = width.parse().ok().filter(|w| (1..=128).contains(w))?;
    let value = plain(value).filter(|v| width == 128 || v >> width == 0)?;
    Some(Token::Number(value, Some(width)))
}
