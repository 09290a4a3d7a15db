//! Declarations and statements.

use super::lex::{Token, tokens};
use super::{Expr, Header, HeaderId, Next, Program, Refused, Slot, State, Statement};
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
const BLOCKS: [&str; 6] = [
    "PartywallParser",
    "PartywallVerify",
    "PartywallIngress",
    "PartywallEgress",
    "PartywallUpdate",
    "PartywallDeparser",
];

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
    done: Vec<String>,
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

    fn global(&mut self, name: &str, width: u8) -> Result<Slot, Refused> {
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

    fn annotation(&mut self) -> Result<u32, Refused> {
        self.keyword("id")?;
        self.want("(")?;
        let id = u32::try_from(self.integer()?).map_err(|_| self.refuse("too large a number"))?;
        self.want(")")?;
        Ok(id)
    }

    fn docs(&mut self) -> Vec<String> {
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
                    for (inner, ty) in inner {
                        let FieldType::Bits(width) = ty else {
                            return Err(self.refuse("a header in a header"));
                        };
                        slots.push(self.global(&format!("{name}.{inner}"), width)?);
                    }
                    let bits: u32 =
                        slots.iter().filter_map(|s| self.program.slots.get(*s)).map(|w| u32::from(*w)).sum();
                    if !bits.is_multiple_of(8) {
                        return Err(self.refuse(&format!("header `{of}` is no whole number of bytes")));
                    }
                    self.program.headers.push(Header { name, fields: slots });
                }
            }
        }
        Ok(())
    }

    /// The parameters of a block of the pipeline: their names are those that the whole text uses.
    fn pipeline_params(&mut self) -> Result<(), Refused> {
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

    fn parser(&mut self) -> Result<(), Refused> {
        let name = self.word()?;
        self.pipeline_params()?;
        self.want("{")?;
        let mut names: Vec<String> = Vec::new();
        let mut raw: Vec<(Vec<HeaderId>, RawNext)> = Vec::new();
        while !self.eat("}") {
            self.docs();
            self.keyword("state")?;
            names.push(self.word()?);
            self.want("{")?;
            let mut extracts = Vec::new();
            while !self.word_is("transition") {
                self.keyword("packet")?;
                self.want(".")?;
                self.keyword("extract")?;
                self.want("(")?;
                let header = self.path()?;
                extracts.push(self.header(&header)?);
                self.want(")")?;
                self.want(";")?;
            }
            self.step();
            let next = self.transition()?;
            self.want("}")?;
            raw.push((extracts, next));
        }
        if names.first().map(String::as_str) != Some("start") {
            return Err(self.refuse("the first state is `start`"));
        }
        let target = |state: &str| -> Result<Option<usize>, Refused> {
            if state == "accept" {
                return Ok(None);
            }
            let found = names.iter().position(|n| n == state);
            found.map(Some).ok_or_else(|| self.refuse(&format!("no state `{state}`")))
        };
        let mut states = Vec::new();
        for (extracts, next) in raw {
            let next = match next {
                RawNext::To(state) => target(&state)?.map_or(Next::Accept, Next::State),
                RawNext::Select(on, cases) => {
                    let mut out = Vec::new();
                    for (keys, state) in cases {
                        out.push((keys, target(&state)?));
                    }
                    Next::Select { on, cases: out }
                }
            };
            states.push(State { extracts, next });
        }
        self.program.states = states;
        self.done.push(name);
        Ok(())
    }

    fn transition(&mut self) -> Result<RawNext, Refused> {
        let word = self.word()?;
        if word != "select" {
            self.want(";")?;
            return Ok(RawNext::To(word));
        }
        self.want("(")?;
        let mut on = Vec::new();
        let mut widths = Vec::new();
        while !self.eat(")") {
            let path = self.path()?;
            let (slot, width) = self.slot(&path)?;
            on.push(Expr::Slot(slot));
            widths.push(width);
            if !self.at(")") {
                self.want(",")?;
            }
        }
        self.want("{")?;
        let mut cases = Vec::new();
        while !self.eat("}") {
            let keys = if self.word_is("default") {
                self.step();
                vec![None; widths.len()]
            } else {
                let tuple = self.eat("(");
                let mut keys = Vec::new();
                for (at, width) in widths.iter().enumerate() {
                    if at > 0 {
                        self.want(",")?;
                    }
                    let value = self.bits(*width)?;
                    keys.push(Some(number(&value).ok_or_else(|| self.refuse("a number is wanted here"))?));
                }
                if tuple {
                    self.want(")")?;
                }
                keys
            };
            self.want(":")?;
            cases.push((keys, self.word()?));
            self.want(";")?;
        }
        Ok(RawNext::Select(on, cases))
    }

    fn control(&mut self) -> Result<(), Refused> {
        let name = self.word()?;
        self.scope.clear();
        if !BLOCKS.contains(&name.as_str()) {
            return Err(self.refuse(&format!("no control is called `{name}` here")));
        }
        self.pipeline_params()?;
        if name == "PartywallDeparser" {
            self.done.push(name);
            return self.deparser();
        }
        let body = self.control_body(name == super::CONTROL)?;
        match name.as_str() {
            "PartywallVerify" => self.program.verify = body,
            "PartywallEgress" => self.program.egress = body,
            "PartywallUpdate" => self.program.update = body,
            _ => self.program.ingress = body,
        }
        self.done.push(name);
        Ok(())
    }

    /// `{ declarations apply { … } }`; tables, actions and counters only where they are asked for.
    fn control_body(&mut self, main: bool) -> Result<Vec<Statement>, Refused> {
        self.want("{")?;
        loop {
            let doc = self.docs();
            let id = if self.eat("@") { Some(self.annotation()?) } else { None };
            match (self.word()?.as_str(), id) {
                ("apply", None) => {
                    let body = self.block()?;
                    self.want("}")?;
                    return Ok(body);
                }
                ("action", Some(id)) if main => self.action(id)?,
                ("table", Some(id)) if main => self.table(id, doc)?,
                ("counter", Some(id)) if main => self.counter(id, false)?,
                ("direct_counter", Some(id)) if main => self.counter(id, true)?,
                (other, _) => return Err(self.refuse(&format!("no `{other}` in this control"))),
            }
        }
    }

    pub fn block(&mut self) -> Result<Vec<Statement>, Refused> {
        self.want("{")?;
        let mut out = Vec::new();
        while !self.eat("}") {
            out.push(self.statement()?);
        }
        Ok(out)
    }

    fn statement(&mut self) -> Result<Statement, Refused> {
        if self.word_is("if") {
            self.step();
            self.want("(")?;
            let when = self.boolean()?;
            self.want(")")?;
            let then = self.block()?;
            if !self.word_is("else") {
                return Ok(Statement::If(when, then, Vec::new()));
            }
            self.step();
            let otherwise = if self.word_is("if") { vec![self.statement()?] } else { self.block()? };
            return Ok(Statement::If(when, then, otherwise));
        }
        let path = self.path()?;
        if self.eat("=") {
            let (slot, width) = self.slot(&path)?;
            let value = self.bits(width)?;
            self.want(";")?;
            return Ok(Statement::Assign(slot, value));
        }
        self.want("(")?;
        let out = self.call(&path)?;
        self.want(")")?;
        self.want(";")?;
        Ok(out)
    }

    /// What stands before `(`; reads up to `)`.
    fn call(&mut self, path: &str) -> Result<Statement, Refused> {
        if let Some(header) = path.strip_suffix(".setValid") {
            return Ok(Statement::SetValid(self.header(header)?, true));
        }
        if let Some(header) = path.strip_suffix(".setInvalid") {
            return Ok(Statement::SetValid(self.header(header)?, false));
        }
        if let Some(name) = path.strip_suffix(".apply") {
            if let Some((at, _)) = self.program.table(name) {
                return Ok(Statement::Apply(at));
            }
            return Err(self.refuse(&format!("no table `{name}`")));
        }
        if let Some(name) = path.strip_suffix(".count") {
            let found = self.program.counters.iter().position(|c| c.name == name);
            let Some(at) = found else { return Err(self.refuse(&format!("no counter `{name}`"))) };
            let direct = self.program.counters.get(at).is_some_and(|c| c.size.is_none());
            return Ok(Statement::Count(at, if direct { None } else { Some(self.bits(32)?) }));
        }
        match path {
            "mark_to_drop" => {
                self.keyword("standard_metadata")?;
                Ok(Statement::Drop)
            }
            "verify_checksum" => self.checksum(false),
            "update_checksum" => self.checksum(true),
            _ => match self.program.action(path) {
                Some((at, action)) if action.params.is_empty() => Ok(Statement::Act(at)),
                _ => Err(self.refuse(&format!("nothing to call: `{path}`"))),
            },
        }
    }

    fn checksum(&mut self, write: bool) -> Result<Statement, Refused> {
        let when = self.boolean()?;
        self.want(",")?;
        self.want("{")?;
        let mut over = Vec::new();
        while !self.eat("}") {
            let path = self.path()?;
            let (slot, width) = self.slot(&path)?;
            over.push((Expr::Slot(slot), width));
            if !self.at("}") {
                self.want(",")?;
            }
        }
        self.want(",")?;
        let path = self.path()?;
        let (field, width) = self.slot(&path)?;
        self.want(",")?;
        self.keyword("HashAlgorithm")?;
        self.want(".")?;
        self.keyword("csum16")?;
        let bits: u32 = over.iter().map(|(_, w)| u32::from(*w)).sum();
        if width != 16 || !bits.is_multiple_of(16) {
            return Err(self.refuse("a checksum of 16 bits over whole words"));
        }
        Ok(Statement::Checksum { when, over, field, write })
    }

    fn deparser(&mut self) -> Result<(), Refused> {
        self.want("{")?;
        self.keyword("apply")?;
        self.want("{")?;
        while !self.eat("}") {
            self.keyword("packet")?;
            self.want(".")?;
            self.keyword("emit")?;
            self.want("(")?;
            let header = self.path()?;
            let id = self.header(&header)?;
            self.program.deparser.push(id);
            self.want(")")?;
            self.want(";")?;
        }
        self.want("}")
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

enum RawNext {
    To(String),
    Select(Vec<Expr>, Vec<(Vec<Option<u128>>, String)>),
}
