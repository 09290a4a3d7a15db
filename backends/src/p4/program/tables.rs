//! Actions, counters and tables of the ingress control.

use super::parse::{Reader, number};
use super::{Action, Counter, Key, MatchKind, Param, Refused, Table};

impl Reader {
    /// `action NAME(bit<W> PARAM, …) { … }`
    pub(super) fn action(&mut self, id: u32) -> Result<(), Refused> {
        let name = self.word()?;
        self.want("(")?;
        let mut params = Vec::new();
        while !self.eat(")") {
            let width = self.bit_type()?;
            let param = self.word()?;
            let slot = self.declare(&param, width)?;
            params.push(Param { name: param, width, slot });
            if !self.at(")") {
                self.want(",")?;
            }
        }
        let body = self.block()?;
        for param in &params {
            self.scope.remove(&param.name);
        }
        if self.program.action(&name).is_some() {
            return Err(self.refuse(&format!("a second action `{name}`")));
        }
        self.program.actions.push(Action { name, id, params, body });
        Ok(())
    }

    /// `counter(SIZE, CounterType.packets_and_bytes) NAME;` or `direct_counter(…) NAME;`
    pub(super) fn counter(&mut self, id: u32, direct: bool) -> Result<(), Refused> {
        self.want("(")?;
        let size = if direct {
            None
        } else {
            let size = self.integer()?;
            self.want(",")?;
            Some(u64::try_from(size).map_err(|_| self.refuse("too large"))?)
        };
        self.keyword("CounterType")?;
        self.want(".")?;
        self.keyword("packets_and_bytes")?;
        self.want(")")?;
        let name = self.word()?;
        self.want(";")?;
        self.program.counters.push(Counter { name, id, size });
        Ok(())
    }

    pub(super) fn table(&mut self, id: u32, doc: Vec<String>) -> Result<(), Refused> {
        let name = self.word()?;
        let mut table = Table {
            name,
            id,
            keys: Vec::new(),
            actions: Vec::new(),
            default_action: (0, Vec::new()),
            const_default: false,
            size: 0,
            direct_counter: None,
            doc,
        };
        let mut defaulted = false;
        self.want("{")?;
        while !self.eat("}") {
            match self.word()?.as_str() {
                "key" => self.keys(&mut table)?,
                "actions" => self.action_list(&mut table)?,
                "const" => {
                    self.keyword("default_action")?;
                    table.const_default = true;
                    table.default_action = self.default_action(&table)?;
                    defaulted = true;
                }
                "default_action" => {
                    table.default_action = self.default_action(&table)?;
                    defaulted = true;
                }
                "counters" => {
                    self.want("=")?;
                    let counter = self.word()?;
                    let found =
                        self.program.counters.iter().position(|c| c.name == counter && c.size.is_none());
                    table.direct_counter = Some(found.ok_or_else(|| self.refuse("no such direct counter"))?);
                    self.want(";")?;
                }
                "size" => {
                    self.want("=")?;
                    table.size = u64::try_from(self.integer()?).map_err(|_| self.refuse("too large"))?;
                    self.want(";")?;
                }
                other => return Err(self.refuse(&format!("tables have no `{other}` here"))),
            }
        }
        if !defaulted {
            return Err(self.refuse("a table without a default action"));
        }
        if table.keys.iter().filter(|k| k.kind == MatchKind::Lpm).count() > 1 {
            return Err(self.refuse("two longest prefixes in one key"));
        }
        self.program.tables.push(table);
        Ok(())
    }

    fn keys(&mut self, table: &mut Table) -> Result<(), Refused> {
        self.want("=")?;
        self.want("{")?;
        while !self.eat("}") {
            let name = self.path()?;
            let (slot, width) = self.slot(&name)?;
            self.want(":")?;
            let kind = match self.word()?.as_str() {
                "exact" => MatchKind::Exact,
                "lpm" => MatchKind::Lpm,
                "range" => MatchKind::Range,
                other => return Err(self.refuse(&format!("no match kind `{other}` here"))),
            };
            self.want(";")?;
            table.keys.push(Key { name, slot, width, kind });
        }
        Ok(())
    }

    fn action_list(&mut self, table: &mut Table) -> Result<(), Refused> {
        self.want("=")?;
        self.want("{")?;
        while !self.eat("}") {
            let default_only = self.eat("@");
            if default_only {
                self.keyword("defaultonly")?;
            }
            let name = self.word()?;
            let Some((action, _)) = self.program.action(&name) else {
                return Err(self.refuse(&format!("no action `{name}`")));
            };
            self.want(";")?;
            table.actions.push((action, default_only));
        }
        Ok(())
    }

    /// `= ACTION(ARGUMENT, …);`, of those in the table's list.
    fn default_action(&mut self, table: &Table) -> Result<(usize, Vec<u128>), Refused> {
        self.want("=")?;
        let name = self.word()?;
        let known = self.program.action(&name).map(|(at, a)| (at, a.params.clone()));
        let Some((action, params)) = known.filter(|(at, _)| table.actions.iter().any(|(a, _)| a == at))
        else {
            return Err(self.refuse(&format!("`{name}` is not in the table's list")));
        };
        self.want("(")?;
        let mut values = Vec::new();
        for (at, param) in params.iter().enumerate() {
            if at > 0 {
                self.want(",")?;
            }
            let value = self.bits(param.width)?;
            values.push(number(&value).ok_or_else(|| self.refuse("a number is wanted here"))?);
        }
        self.want(")")?;
        self.want(";")?;
        Ok((action, values))
    }
}
