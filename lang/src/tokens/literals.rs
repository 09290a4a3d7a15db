//! Numbers, addresses, prefixes, dates and MACs: the values of what has their form.

use std::net::IpAddr;

use super::{Token, shorten};
use crate::ast::Date;
use crate::codes::Code;

/// Why something is no literal.
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) label: &'static str,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(code: Code, message: String) -> Self {
        let label = if code == Code::PW0006 { "out of range" } else { "not a literal" };
        Self { code, message, label, help: None }
    }

    pub(super) fn help(mut self, help: Option<&str>) -> Self {
        self.help = help.map(str::to_owned);
        self
    }
}

/// What a malformed literal was probably meant to be.
pub(super) fn guess_literal(text: &str) -> Option<&'static str> {
    let address = text.split('/').next().unwrap_or_default();
    let dotted = address.contains('.') && address.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let last = address.rsplit('.').next().unwrap_or_default();
    let pairs = text.split('-').filter(|pair| pair.len() == 2).count();
    if dotted && last.len() == 4
        || pairs < 6 && text.contains('-') && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    {
        Some("a date is written `2026-12-31`, a range with `..`")
    } else if pairs == 6 {
        Some("a MAC is written `02:00:00:00:00:01`")
    } else if dotted {
        Some("an IPv4 address has four numbers of at most 255, a prefix a length after `/`")
    } else if text.contains("::") && text.contains('.') {
        Some("an IPv4 address cannot stand inside an IPv6 address; write it in hexadecimal groups")
    } else if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        Some("a name begins with a letter or `_`; after a number put a space")
    } else {
        None
    }
}

pub(super) fn read_int(text: &str) -> Result<Token<'static>, Fault> {
    let bad = |help| {
        Err(Fault::new(Code::PW0002, format!("`{}` is no number of the language", shorten(text)))
            .help(Some(help)))
    };
    if text.split('_').any(str::is_empty) {
        return bad("`_` stands between digits only, one at a time");
    }
    if text.len() > 1 && text.starts_with('0') {
        return bad("a number has no leading zeros");
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.parse().map(Token::Int).map_err(|_| {
        Fault::new(
            Code::PW0006,
            format!("`{}` is larger than any number that can stand anywhere", shorten(text)),
        )
    })
}

pub(super) fn read_v4(text: &str) -> Result<Token<'static>, Fault> {
    let (address, length) = split_length(text);
    for part in address.split('.') {
        if part.len() > 1 && part.starts_with('0') {
            let message =
                format!("`{}` is no address: `{}` has a leading zero", shorten(text), shorten(part));
            return Err(Fault::new(Code::PW0002, message)
                .help(Some("some programs read such numbers as octal; write them without the zero")));
        }
        if part.parse::<u8>().is_err() {
            let message = format!("`{}` is no address: {} is more than 255", shorten(text), shorten(part));
            return Err(Fault::new(Code::PW0006, message));
        }
    }
    match address.parse() {
        Ok(address) => with_length(text, IpAddr::V4(address), length, 32),
        Err(_) => Err(Fault::new(Code::PW0002, format!("`{}` is no address", shorten(text)))),
    }
}

fn split_length(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    }
}

fn with_length(text: &str, address: IpAddr, length: Option<&str>, max: u8) -> Result<Token<'static>, Fault> {
    let Some(length) = length else { return Ok(Token::Address(address)) };
    if length.len() > 1 && length.starts_with('0') {
        let message = format!("`{}` is no prefix: its length has a leading zero", shorten(text));
        return Err(Fault::new(Code::PW0002, message));
    }
    match length.parse::<u8>() {
        Ok(bits) if bits <= max => Ok(Token::Prefix(address, bits)),
        _ => {
            let family = if max == 32 { "an IPv4" } else { "an IPv6" };
            let message = format!("the length /{} of {family} prefix is more than {max}", shorten(length));
            Err(Fault::new(Code::PW0006, message))
        }
    }
}

pub(super) fn read_date(text: &str) -> Result<Token<'static>, Fault> {
    let mut parts = text.split('-');
    let mut number = || parts.next().and_then(|p| p.parse::<u16>().ok()).unwrap_or_default();
    let (year, month, day) = (number(), number(), number());
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Err(Fault::new(Code::PW0006, format!("`{text}` is no date: there is no month {month}"))),
    };
    match (u8::try_from(month), u8::try_from(day)) {
        (Ok(month), Ok(day)) if (1..=days).contains(&day) => Ok(Token::Date(Date { year, month, day })),
        _ => Err(Fault::new(Code::PW0006, format!("`{text}` is no date: that month has {days} days"))),
    }
}

pub(super) fn read_groups(text: &str) -> Result<Token<'static>, Fault> {
    let (address, length) = split_length(text);
    let groups: Vec<&str> = address.split(':').take(9).collect();
    if length.is_none() && groups.len() == 6 && groups.iter().all(|g| g.len() == 2) {
        let mut mac = [0; 6];
        for (byte, group) in mac.iter_mut().zip(&groups) {
            *byte = u8::from_str_radix(group, 16).unwrap_or_default();
        }
        return Ok(Token::Mac(mac));
    }
    match address.parse() {
        Ok(address) => with_length(text, IpAddr::V6(address), length, 128),
        Err(_) => {
            Err(Fault::new(Code::PW0002, format!("`{}` is neither an IPv6 address nor a MAC", shorten(text)))
                .help(Some("an IPv6 address has eight groups, or one `::`; a MAC has six pairs of digits")))
        }
    }
}
