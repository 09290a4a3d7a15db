//! The emitted files, read back: what runs is what was written, not what was meant.

use super::entries::{Entries, Entry, Match, fits, max, prefix_mask};
use super::print::BMV2_PRIORITY;
use super::program::{CONTROL, MatchKind, Program, parse};
use std::collections::BTreeMap;

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ReadError {
    pub file: &'static str,
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// A program with entries, as files have them.
#[derive(Debug, Clone)]
pub struct Running {
    pub program: Program,
    pub entries: Entries,
}

/// Reads a program and its entries for P4Runtime.
///
/// # Errors
/// What is wrong with one of the two, and where.
pub fn read(program: &str, entries: &str) -> Result<Running, ReadError> {
    let program = parse(program).map_err(|refused| ReadError {
        file: "partywall.p4",
        line: refused.line,
        message: refused.message,
    })?;
    let entries = protobuf(&program, entries)?;
    Ok(Running { program, entries })
}

/// Entries of a file of simple_switch_CLI's commands.
///
/// # Errors
/// The first line that is none of those that are emitted.
pub fn bmv2(program: &Program, text: &str) -> Result<Entries, ReadError> {
    let mut out = Entries::default();
    for (at, line) in text.lines().enumerate() {
        let error = |message: String| ReadError { file: "bmv2.txt", line: at + 1, message };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table_set_default", table, action, value]
                if unqualified(table) == "generation" && unqualified(action) == "set_generation" =>
            {
                out.generation = value.parse().map_err(|_| error(format!("`{value}` is no generation")))?;
            }
            ["table_add", table, action, rest @ ..] => {
                let entry =
                    command(program, unqualified(table), unqualified(action), rest).map_err(&error)?;
                add(program, &mut out, entry).map_err(&error)?;
            }
            _ => return Err(error("no command that is emitted".into())),
        }
    }
    Ok(out)
}

fn unqualified(name: &str) -> &str {
    name.strip_prefix(CONTROL).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}

fn add(program: &Program, out: &mut Entries, entry: Entry) -> Result<(), String> {
    fits(program, &entry)?;
    let place = (entry.table, entry.key, entry.priority);
    match out.by_key.insert(place, (entry.action, entry.params, String::new())) {
        None => Ok(()),
        Some(_) => Err("a second entry with this key".into()),
    }
}

fn command(program: &Program, table: &str, action: &str, rest: &[&str]) -> Result<Entry, String> {
    let arrow = rest.iter().position(|w| *w == "=>").ok_or("there is no `=>`")?;
    let (key, params) = (rest.get(..arrow).unwrap_or_default(), rest.get(arrow + 1..).unwrap_or_default());
    let (_, known) = program.table(table).ok_or_else(|| format!("there is no table `{table}`"))?;
    let mut matches = Vec::new();
    for (field, word) in known.keys.iter().zip(key) {
        matches.push(match field.kind {
            MatchKind::Exact => Match::Exact(number(word)?),
            MatchKind::Lpm => {
                let (value, bits) = word.split_once('/').ok_or_else(|| format!("`{word}` is no prefix"))?;
                Match::Lpm(number(value)?, bits.parse().map_err(|_| format!("`{word}` is no prefix"))?)
            }
            MatchKind::Range => {
                let (lo, hi) = word.split_once("->").ok_or_else(|| format!("`{word}` is no range"))?;
                Match::Range(number(lo)?, number(hi)?)
            }
        });
    }
    if key.len() != known.keys.len() {
        return Err(format!("{} fields in table `{table}`", key.len()));
    }
    let mut values = params.iter().map(|word| number(word)).collect::<Result<Vec<u128>, String>>()?;
    let mut priority = 0;
    if known.prioritised() {
        let last = values.pop().and_then(|p| u32::try_from(p).ok()).ok_or("there is no priority")?;
        priority = BMV2_PRIORITY.checked_sub(last).ok_or("a priority beyond those that are emitted")?;
    }
    Ok(Entry { table: table.to_owned(), key: matches, priority, action: action.to_owned(), params: values })
}

fn number(word: &str) -> Result<u128, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no number"))
}

/// A field of a text protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u128),
    Word(String),
    Bytes(Vec<u8>),
    Message(Vec<(String, Value)>),
}

/// Entries of a file of `p4.v1.WriteRequest`s, one after the other, each begun by a comment `# batch …`.
///
/// # Errors
/// The first thing that is no update as they are emitted, or not in the canonical form that P4Runtime asks for.
pub fn protobuf(program: &Program, text: &str) -> Result<Entries, ReadError> {
    let error = |line: usize, message: String| ReadError { file: "entries.txtpb", line, message };
    let mut scanner = Scanner { text: text.as_bytes(), at: 0, line: 1 };
    let mut out = Entries::default();
    let mut flipped = false;
    loop {
        scanner.blank();
        if scanner.at >= scanner.text.len() {
            break;
        }
        let line = scanner.line;
        let (name, value) = scanner.field(0).map_err(|message| error(scanner.line, message))?;
        match (name.as_str(), value) {
            ("device_id", Value::Number(_)) | ("election_id", Value::Message(_)) => {}
            ("updates", Value::Message(fields)) => {
                if flipped {
                    return Err(error(line, "an update after the generation is in force".into()));
                }
                match update(program, &fields).map_err(|message| error(line, message))? {
                    Update::Insert(entry) => add(program, &mut out, entry).map_err(|m| error(line, m))?,
                    Update::Flip(generation) => {
                        out.generation = generation;
                        flipped = true;
                    }
                }
            }
            (other, _) => return Err(error(line, format!("no field `{other}` of a WriteRequest here"))),
        }
    }
    if flipped { Ok(out) } else { Err(error(scanner.line, "no update puts a generation into force".into())) }
}

enum Update {
    Insert(Entry),
    Flip(u16),
}

/// The fields of a message by name; those that may repeat are asked for by [`all`].
fn one<'v>(fields: &'v [(String, Value)], name: &str) -> Result<&'v Value, String> {
    let mut found = fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v);
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(format!("there is no `{name}`")),
        _ => Err(format!("there are two of `{name}`")),
    }
}

fn message<'v>(fields: &'v [(String, Value)], name: &str) -> Result<&'v [(String, Value)], String> {
    match one(fields, name)? {
        Value::Message(inner) => Ok(inner),
        _ => Err(format!("`{name}` is no message")),
    }
}

fn integer(fields: &[(String, Value)], name: &str) -> Result<u128, String> {
    match one(fields, name)? {
        Value::Number(n) => Ok(*n),
        _ => Err(format!("`{name}` is no number")),
    }
}

/// A canonical byte string.
fn value(fields: &[(String, Value)], name: &str) -> Result<u128, String> {
    let Value::Bytes(bytes) = one(fields, name)? else { return Err(format!("`{name}` is no byte string")) };
    match bytes.as_slice() {
        [] => Err("an empty byte string".into()),
        [0, _, ..] => Err("a byte string that is not the shortest".into()),
        all if all.len() > 16 => Err("a byte string of more than 128 bits".into()),
        all => Ok(all.iter().fold(0, |n, b| n << 8 | u128::from(*b))),
    }
}

fn update(program: &Program, fields: &[(String, Value)]) -> Result<Update, String> {
    let kind = one(fields, "type")?;
    let entry = message(message(fields, "entity")?, "table_entry")?;
    let id = integer(entry, "table_id")?;
    let table = program.tables.iter().find(|t| u128::from(t.id) == id);
    let table = table.ok_or_else(|| format!("there is no table {id}"))?;
    let call = message(message(entry, "action")?, "action")?;
    let id = integer(call, "action_id")?;
    let action = program.actions.iter().find(|a| u128::from(a.id) == id);
    let action = action.ok_or_else(|| format!("there is no action {id}"))?;
    let mut params = Vec::new();
    for (at, (_, param)) in call.iter().filter(|(n, _)| n == "params").enumerate() {
        let Value::Message(param) = param else { return Err("`params` is no message".into()) };
        if integer(param, "param_id")? != at as u128 + 1 {
            return Err("parameters out of order".into());
        }
        params.push(value(param, "value")?);
    }
    if *kind == Value::Word("MODIFY".into()) {
        let default = one(entry, "is_default_action")? == &Value::Word("true".into());
        return match params.as_slice() {
            [generation] if default && table.name == "generation" => {
                u16::try_from(*generation).map(Update::Flip).map_err(|_| "no generation".into())
            }
            _ => Err("only the generation is modified".into()),
        };
    }
    if *kind != Value::Word("INSERT".into()) {
        return Err(format!("updates are INSERT or MODIFY, not {kind:?}"));
    }
    let mut by_field: BTreeMap<u128, &[(String, Value)]> = BTreeMap::new();
    for (_, found) in entry.iter().filter(|(n, _)| n == "match") {
        let Value::Message(found) = found else { return Err("`match` is no message".into()) };
        if by_field.insert(integer(found, "field_id")?, found).is_some() {
            return Err("a field is matched twice".into());
        }
    }
    let mut key = Vec::new();
    for (at, field) in table.keys.iter().enumerate() {
        let found = by_field.remove(&(at as u128 + 1));
        key.push(match (field.kind, found) {
            (MatchKind::Exact, Some(m)) => Match::Exact(value(message(m, "exact")?, "value")?),
            (MatchKind::Exact, None) => return Err(format!("`{}` is not matched", field.name)),
            (MatchKind::Lpm, None) => Match::Lpm(0, 0),
            (MatchKind::Lpm, Some(m)) => {
                let m = message(m, "lpm")?;
                let bits = integer(m, "prefix_len")?;
                let bits = u8::try_from(bits).ok().filter(|b| (1..=field.width).contains(b));
                let bits = bits.ok_or("a prefix length out of range")?;
                let base = value(m, "value")?;
                if base & !prefix_mask(field.width, bits) != 0 {
                    return Err("a prefix with host bits".into());
                }
                Match::Lpm(base, bits)
            }
            (MatchKind::Range, None) => Match::Range(0, max(field.width)),
            (MatchKind::Range, Some(m)) => {
                let m = message(m, "range")?;
                let (lo, hi) = (value(m, "low")?, value(m, "high")?);
                if lo == 0 && hi == max(field.width) {
                    return Err("a range that matches everything is left away".into());
                }
                Match::Range(lo, hi)
            }
        });
    }
    if let Some((id, _)) = by_field.first_key_value() {
        return Err(format!("table `{}` has no field {id}", table.name));
    }
    let priority = match entry.iter().any(|(n, _)| n == "priority") {
        true => u32::try_from(integer(entry, "priority")?).map_err(|_| "too large a priority")?,
        false => 0,
    };
    Ok(Update::Insert(Entry {
        table: table.name.clone(),
        key,
        priority,
        action: action.name.clone(),
        params,
    }))
}

/// Deepest nesting of messages; an update has six.
const DEEPEST: usize = 16;

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
    }

    fn step(&mut self) {
        if self.peek() == b'\n' {
            self.line += 1;
        }
        self.at += 1;
    }

    fn blank(&mut self) {
        loop {
            match self.peek() {
                b' ' | b'\n' | b'\t' | b'\r' => self.step(),
                b'#' => {
                    while self.at < self.text.len() && self.peek() != b'\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn word(&mut self) -> Result<String, String> {
        let from = self.at;
        while self.peek().is_ascii_alphanumeric() || self.peek() == b'_' {
            self.at += 1;
        }
        let word = self.text.get(from..self.at).and_then(|w| std::str::from_utf8(w).ok()).unwrap_or_default();
        if word.is_empty() { Err("a name or a value is wanted here".into()) } else { Ok(word.to_owned()) }
    }

    /// `name: value` or `name { … }`
    fn field(&mut self, depth: usize) -> Result<(String, Value), String> {
        if depth > DEEPEST {
            return Err("nested too deeply".into());
        }
        let name = self.word()?;
        self.blank();
        if self.peek() == b':' {
            self.step();
            self.blank();
            if self.peek() == b'"' {
                return Ok((name, Value::Bytes(self.string()?)));
            }
            let word = self.word()?;
            let digits = word.bytes().all(|b| b.is_ascii_digit());
            let value = if digits {
                Value::Number(word.parse().map_err(|_| "too large a number".to_owned())?)
            } else {
                Value::Word(word)
            };
            return Ok((name, value));
        }
        if self.peek() != b'{' {
            return Err(format!("`{name}` has no value"));
        }
        self.step();
        let mut fields = Vec::new();
        loop {
            self.blank();
            if self.peek() == b'}' {
                self.step();
                return Ok((name, Value::Message(fields)));
            }
            fields.push(self.field(depth + 1)?);
        }
    }

    /// Octal escapes only, as they are emitted.
    fn string(&mut self) -> Result<Vec<u8>, String> {
        self.step();
        let mut out = Vec::new();
        loop {
            match self.peek() {
                b'"' => {
                    self.step();
                    return Ok(out);
                }
                b'\\' => {
                    let digits =
                        self.text.get(self.at + 1..self.at + 4).and_then(|d| std::str::from_utf8(d).ok());
                    let byte = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
                    out.push(byte.ok_or("no escape of three octal digits")?);
                    self.at += 4;
                }
                _ => return Err("a byte string has escapes only".into()),
            }
        }
    }
}
