//! Declarations and what all parts of a text are read with.

use super::lex::{Token, tokens};
use super::{Expr, Header, HeaderId, Program, Refused, Slot};
use std::collections::BTreeMap;

/// Fields of v1model's `standard_metadata_t` that a program may use, with their widths.
const STANDARD: [(&str, u8); 5] = [
    ("ingress_port", 9),
    ("egress_spec", 9),
    ("parser_error", 8),
    ("checksum_error", 1),
    ("packet_length", 32),
];

/// What the text's blocks are called, in the order in which `V1Switch` takes them.
pub(super) const BLOCKS: [&str; 6] = [
    "PartywallParser",
    "PartywallVerify",
    "PartywallIngress",
    "PartywallEgress",
    "PartywallUpdate",
    "PartywallDeparser",
];

/// How many operators and parentheses an expression may have: it is read, and run, one inside the other.
const LONGEST: usize = 128;
/// How deep statements may lie in one another; an `else if` lies in what it follows.
const DEEPEST: usize = 64;

pub(super) struct Reader {
    tokens: Vec<(Token, usize)>,
    at: usize,
    pub program: Program,
    /// Local names where we are.
    pub scope: BTreeMap<String, Slot>,
    /// Header and struct types.
    types: BTreeMap<String, Vec<(String, FieldType)>>,
    header_types: Vec<String>,
    doc: Vec<String>,
    includes: Vec<String>,
    pub done: Vec<String>,
    /// Operators and parentheses of the expression where we are.
    operators: usize,
    /// Statements around the one where we are.
    around: usize,
}

#[derive(Clone)]
enum FieldType {
    Bits(u8),
    Named(String),
}

/// Reads a program.
///
/// # Errors
/// The first thing in the text that is beyond the part of P4_16 that is understood here, or wrong.
pub fn parse(text: &str) -> Result<Program, Refused> {
    let mut reader = Reader {
        tokens: tokens(text)?,
        at: 0,
        program: Program::default(),
        scope: BTreeMap::new(),
        types: BTreeMap::new(),
        header_types: Vec::new(),
        doc: Vec::new(),
        includes: Vec::new(),
        done: Vec::new(),
        operators: 0,
        around: 0,
    };
    for (name, width) in STANDARD {
        reader.global(&format!("standard_metadata.{name}"), width)?;
    }
    reader.program.constants.insert("error.NoError".into(), (8, 0));
    while *reader.peek() != Token::End {
        reader.declaration()?;
    }
    if reader.includes != ["<core.p4>", "<v1model.p4>"] {
        return Err(reader.refuse("includes core.p4 and v1model.p4, in this order, and nothing else"));
    }
    if reader.done.last().map(String::as_str) != Some("main") {
        return Err(reader.refuse("the text ends without `main`"));
    }
    Ok(reader.program)
}

/// A number that an expression is.
pub(super) fn number(expr: &Expr) -> Option<u128> {
    match expr {
        Expr::Const(value) => Some(*value),
        _ => None,
    }
}

impl Reader {
    pub fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    pub fn step(&mut self) {
        self.at += 1;
    }

    pub fn refuse(&self, message: &str) -> Refused {
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        let line = self.tokens.get(at).map_or(0, |(_, line)| *line);
        Refused { line, message: message.to_owned() }
    }

    pub fn at(&self, punct: &str) -> bool {
        matches!(self.peek(), Token::Punct(p) if *p == punct)
    }

    pub fn eat(&mut self, punct: &str) -> bool {
        let found = self.at(punct);
        if found {
            self.step();
        }
        found
    }

    pub fn want(&mut self, punct: &str) -> Result<(), Refused> {
        if self.eat(punct) { Ok(()) } else { Err(self.refuse(&format!("`{punct}` is wanted here"))) }
    }

    pub fn word_is(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w == word)
    }

    pub fn keyword(&mut self, word: &str) -> Result<(), Refused> {
        if self.word()? == word { Ok(()) } else { Err(self.refuse(&format!("`{word}` is wanted here"))) }
    }

    pub fn word(&mut self) -> Result<String, Refused> {
        match self.peek().clone() {
            Token::Word(word) => {
                self.step();
                Ok(word)
            }
            _ => Err(self.refuse("a name is wanted here")),
        }
    }

    /// An expression that is no part of another begins.
    pub fn begin_expression(&mut self) {
        self.operators = 0;
    }

    /// One operator or parenthesis more.
    pub fn operator(&mut self) -> Result<(), Refused> {
        self.operators += 1;
        if self.operators > LONGEST { Err(self.refuse("too long an expression")) } else { Ok(()) }
    }

    /// What lies in a statement.
    pub fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Refused>) -> Result<T, Refused> {
        if self.around == DEEPEST {
            return Err(self.refuse("nested too deeply"));
        }
        self.around += 1;
        let found = read(self);
        self.around -= 1;
        found
    }

    /// `a.b.c`
    pub fn path(&mut self) -> Result<String, Refused> {
        let mut path = self.word()?;
        while self.eat(".") {
            path.push('.');
            path.push_str(&self.word()?);
        }
        Ok(path)
    }

    pub fn integer(&mut self) -> Result<u128, Refused> {
        match *self.peek() {
            Token::Number(value, _) => {
                self.step();
                Ok(value)
            }
            _ => Err(self.refuse("a number is wanted here")),
        }
    }

    pub fn small(&mut self) -> Result<u8, Refused> {
        u8::try_from(self.integer()?).map_err(|_| self.refuse("too large a number"))
    }

    /// `bit<W>`
    pub fn bit_type(&mut self) -> Result<u8, Refused> {
        self.keyword("bit")?;
        self.want("<")?;
        let width = self.small()?;
        self.want(">")?;
        if (1..=128).contains(&width) { Ok(width) } else { Err(self.refuse("1 to 128 bits")) }
    }

    fn new_slot(&mut self, width: u8) -> Slot {
        self.program.slots.push(width);
        self.program.slots.len() - 1
    }

    pub(super) fn global(&mut self, name: &str, width: u8) -> Result<Slot, Refused> {
        let slot = self.new_slot(width);
        match self.program.names.insert(name.to_owned(), slot) {
            None => Ok(slot),
            Some(_) => Err(self.refuse(&format!("a second `{name}`"))),
        }
    }

    /// A local name.
    pub fn declare(&mut self, name: &str, width: u8) -> Result<Slot, Refused> {
        let slot = self.new_slot(width);
        match self.scope.insert(name.to_owned(), slot) {
            None => Ok(slot),
            Some(_) => Err(self.refuse(&format!("a second `{name}`"))),
        }
    }

    /// A variable and its width.
    pub fn slot(&self, path: &str) -> Result<(Slot, u8), Refused> {
        let slot = self.scope.get(path).or_else(|| self.program.names.get(path)).copied();
        let width = slot.and_then(|slot| self.program.slots.get(slot).copied());
        slot.zip(width).ok_or_else(|| self.refuse(&format!("no `{path}` here")))
    }

    pub fn header(&self, name: &str) -> Result<HeaderId, Refused> {
        let found = self.program.headers.iter().position(|h| h.name == name);
        found.ok_or_else(|| self.refuse(&format!("no header `{name}`")))
    }

    pub(super) fn annotation(&mut self) -> Result<u32, Refused> {
        self.keyword("id")?;
        self.want("(")?;
        let id = u32::try_from(self.integer()?).map_err(|_| self.refuse("too large a number"))?;
        self.want(")")?;
        Ok(id)
    }

    pub(super) fn docs(&mut self) -> Vec<String> {
        while let Token::Doc(line) = self.peek().clone() {
            self.doc.push(line);
            self.step();
        }
        std::mem::take(&mut self.doc)
    }

    fn declaration(&mut self) -> Result<(), Refused> {
        self.docs();
        if let Token::Include(file) = self.peek().clone() {
            self.includes.push(file);
            self.step();
            return Ok(());
        }
        match self.word()?.as_str() {
            "const" => {
                let width = self.bit_type()?;
                let name = self.word()?;
                self.want("=")?;
                let value = self.bits(width)?;
                let value = number(&value).ok_or_else(|| self.refuse("a number is wanted here"))?;
                self.want(";")?;
                match self.program.constants.insert(name.clone(), (width, value)) {
                    None => Ok(()),
                    Some(_) => Err(self.refuse(&format!("a second `{name}`"))),
                }
            }
            "header" => self.fields(true),
            "struct" => self.fields(false),
            "parser" => self.parser(),
            "control" => self.control(),
            "V1Switch" => self.main(),
            other => Err(self.refuse(&format!("no declaration begins with `{other}` here"))),
        }
    }

    fn fields(&mut self, header: bool) -> Result<(), Refused> {
        let name = self.word()?;
        self.want("{")?;
        let mut fields = Vec::new();
        loop {
            self.docs();
            if self.eat("}") {
                break;
            }
            let ty = if self.word_is("bit") {
                FieldType::Bits(self.bit_type()?)
            } else {
                FieldType::Named(self.word()?)
            };
            fields.push((self.word()?, ty));
            self.want(";")?;
        }
        if header {
            self.header_types.push(name.clone());
        }
        match name.as_str() {
            "headers_t" => self.instances_of("hdr", &fields)?,
            "metadata_t" => self.instances_of("meta", &fields)?,
            _ if !header => return Err(self.refuse("structs are headers_t and metadata_t")),
            _ => {}
        }
        self.types.insert(name, fields);
        Ok(())
    }

    fn instances_of(&mut self, prefix: &str, fields: &[(String, FieldType)]) -> Result<(), Refused> {
        for (field, ty) in fields {
            let name = format!("{prefix}.{field}");
            match ty {
                FieldType::Bits(width) => {
                    self.global(&name, *width)?;
                }
                FieldType::Named(of) => {
                    if !self.header_types.contains(of) {
                        return Err(self.refuse(&format!("no header type `{of}`")));
                    }
                    let inner = self.types.get(of).cloned().unwrap_or_default();
                    let mut slots = Vec::new();
                    let mut at = 0u32;
                    for (inner, ty) in inner {
                        let FieldType::Bits(width) = ty else {
                            return Err(self.refuse("a header in a header"));
                        };
                        // INVARIANT: the bytes that hold some of a field are one number.
                        if at % 8 + u32::from(width) > 128 {
                            return Err(self.refuse("a field in more than 16 bytes"));
                        }
                        at += u32::from(width);
                        slots.push(self.global(&format!("{name}.{inner}"), width)?);
                    }
                    if !at.is_multiple_of(8) {
                        return Err(self.refuse(&format!("header `{of}` is no whole number of bytes")));
                    }
                    self.program.headers.push(Header { name, fields: slots });
                }
            }
        }
        Ok(())
    }

    /// The parameters of a block of the pipeline: their names are those that the whole text uses.
    pub(super) fn pipeline_params(&mut self) -> Result<(), Refused> {
        self.want("(")?;
        while !self.eat(")") {
            let first = self.word()?;
            let ty = if matches!(first.as_str(), "in" | "out" | "inout") { self.word()? } else { first };
            let name = self.word()?;
            let right = match ty.as_str() {
                "headers_t" => "hdr",
                "metadata_t" => "meta",
                "standard_metadata_t" => "standard_metadata",
                "packet_in" | "packet_out" => "packet",
                other => return Err(self.refuse(&format!("no parameter of type `{other}` here"))),
            };
            if name != right {
                return Err(self.refuse(&format!("`{ty}` is called `{right}` here")));
            }
            if !self.at(")") {
                self.want(",")?;
            }
        }
        Ok(())
    }

    fn main(&mut self) -> Result<(), Refused> {
        self.want("(")?;
        for (at, block) in BLOCKS.into_iter().enumerate() {
            if at > 0 {
                self.want(",")?;
            }
            self.keyword(block)?;
            self.want("(")?;
            self.want(")")?;
            if self.done.iter().filter(|d| *d == block).count() != 1 {
                return Err(self.refuse(&format!("`{block}` is wanted once")));
            }
        }
        self.want(")")?;
        self.keyword("main")?;
        self.want(";")?;
        self.done.push("main".into());
        Ok(())
    }
}
