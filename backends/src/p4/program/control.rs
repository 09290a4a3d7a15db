//! Controls and their statements.

use super::parse::{BLOCKS, Reader};
use super::{Expr, Refused, Statement};

impl Reader {
    pub(super) fn control(&mut self) -> Result<(), Refused> {
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
            let then = self.inside(Self::block)?;
            if !self.word_is("else") {
                return Ok(Statement::If(when, then, Vec::new()));
            }
            self.step();
            let otherwise = self.inside(|reader| {
                if reader.word_is("if") { Ok(vec![reader.statement()?]) } else { reader.block() }
            })?;
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
}
