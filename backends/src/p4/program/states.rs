//! The parser's states.

use super::parse::{Reader, number};
use super::{Expr, HeaderId, Next, Refused, State};

impl Reader {
    pub(super) fn parser(&mut self) -> Result<(), Refused> {
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
        // INVARIANT: states lead onwards alone, so that every frame is read to an end.
        let target = |from: usize, state: &str| -> Result<Option<usize>, Refused> {
            if state == "accept" {
                return Ok(None);
            }
            let found = names.iter().skip(from + 1).position(|n| n == state);
            let found = found.map(|at| Some(from + 1 + at));
            found.ok_or_else(|| self.refuse(&format!("no state `{state}` after the one that leads there")))
        };
        let mut states = Vec::new();
        for (from, (extracts, next)) in raw.into_iter().enumerate() {
            let next = match next {
                RawNext::To(state) => target(from, &state)?.map_or(Next::Accept, Next::State),
                RawNext::Select(on, cases) => {
                    let mut out = Vec::new();
                    for (keys, state) in cases {
                        out.push((keys, target(from, &state)?));
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
}

enum RawNext {
    To(String),
    Select(Vec<Expr>, Vec<(Vec<Option<u128>>, String)>),
}
