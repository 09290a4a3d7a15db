//! Expressions, typed as they are read.

use super::lex::Token;
use super::parse::Reader;
use super::{Expr, Op, Refused};

/// What an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bits(u8),
    /// A number without a width: takes that of what it meets.
    Open,
    Bool,
}

pub(super) struct Typed {
    pub expr: Expr,
    pub ty: Type,
}

impl Reader {
    pub(super) fn expr(&mut self) -> Result<Typed, Refused> {
        self.binary(0)
    }

    /// An expression of this width.
    pub(super) fn bits(&mut self, width: u8) -> Result<Expr, Refused> {
        self.begin_expression();
        let found = self.expr()?;
        self.widen(found, width)
    }

    pub(super) fn boolean(&mut self) -> Result<Expr, Refused> {
        self.begin_expression();
        let found = self.expr()?;
        match found.ty {
            Type::Bool => Ok(found.expr),
            _ => Err(self.refuse("a condition is wanted here")),
        }
    }

    fn widen(&self, found: Typed, width: u8) -> Result<Expr, Refused> {
        match found.ty {
            Type::Bits(has) if has == width => Ok(found.expr),
            Type::Open => match found.expr {
                Expr::Const(value) if width == 128 || value >> width == 0 => Ok(found.expr),
                _ => Err(self.refuse(&format!("does not fit {width} bits"))),
            },
            other => Err(self.refuse(&format!("{other:?} where {width} bits are wanted"))),
        }
    }

    /// By precedence, as in P4_16: `||`, `&&`, `== !=`, `< >`, `|`, `^`, `&`, `+ - ++`.
    fn binary(&mut self, level: usize) -> Result<Typed, Refused> {
        const LEVELS: [&[&str]; 8] =
            [&["||"], &["&&"], &["==", "!="], &["<", ">"], &["|"], &["^"], &["&"], &["++", "+", "-"]];
        let Some(mine) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(word) = mine.iter().find(|p| self.at(p)).copied() {
            self.step();
            self.operator()?;
            let right = self.binary(level + 1)?;
            left = self.join(word, left, right)?;
        }
        Ok(left)
    }

    fn join(&self, word: &str, left: Typed, right: Typed) -> Result<Typed, Refused> {
        let both = |l: Typed, r: Typed, op: Op, width: u8, ty: Type| Typed {
            expr: Expr::Binary(op, Box::new(l.expr), Box::new(r.expr), width),
            ty,
        };
        let op = match word {
            "||" | "&&" => {
                if left.ty != Type::Bool || right.ty != Type::Bool {
                    return Err(self.refuse(&format!("`{word}` is for conditions")));
                }
                let op = if word == "||" { Op::Either } else { Op::Both };
                return Ok(both(left, right, op, 1, Type::Bool));
            }
            "++" => {
                let (Type::Bits(a), Type::Bits(b)) = (left.ty, right.ty) else {
                    return Err(self.refuse("`++` wants two widths"));
                };
                let width =
                    a.checked_add(b).filter(|w| *w <= 128).ok_or_else(|| self.refuse("over 128 bits"))?;
                let expr = Expr::Concat(Box::new(left.expr), Box::new(right.expr), b);
                return Ok(Typed { expr, ty: Type::Bits(width) });
            }
            "==" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            ">" => Op::Gt,
            "|" => Op::Or,
            "^" => Op::Xor,
            "&" => Op::And,
            "+" => Op::Add,
            _ => Op::Sub,
        };
        let width = match (left.ty, right.ty) {
            (Type::Bits(a), Type::Bits(b)) if a == b => a,
            (Type::Bits(a), Type::Open) | (Type::Open, Type::Bits(a)) => a,
            (a, b) => return Err(self.refuse(&format!("{a:?} {word} {b:?}"))),
        };
        let ty = if matches!(op, Op::Eq | Op::Ne | Op::Lt | Op::Gt) { Type::Bool } else { Type::Bits(width) };
        let l = Typed { expr: self.widen(left, width)?, ty };
        let r = Typed { expr: self.widen(right, width)?, ty };
        Ok(both(l, r, op, width, ty))
    }

    fn unary(&mut self) -> Result<Typed, Refused> {
        if self.eat("!") {
            self.operator()?;
            let inner = self.unary()?;
            return match inner.ty {
                Type::Bool => Ok(Typed { expr: Expr::Not(Box::new(inner.expr)), ty: Type::Bool }),
                _ => Err(self.refuse("`!` is for conditions")),
            };
        }
        if self.eat("~") {
            self.operator()?;
            let inner = self.unary()?;
            return match inner.ty {
                Type::Bits(w) => Ok(Typed { expr: Expr::Complement(Box::new(inner.expr), w), ty: inner.ty }),
                _ => Err(self.refuse("`~` wants a width")),
            };
        }
        let inner = self.primary()?;
        self.sliced(inner)
    }

    fn sliced(&mut self, inner: Typed) -> Result<Typed, Refused> {
        if !self.eat("[") {
            return Ok(inner);
        }
        let (hi, lo) = (self.small()?, {
            self.want(":")?;
            self.small()?
        });
        self.want("]")?;
        match inner.ty {
            Type::Bits(w) if lo <= hi && hi < w => {
                Ok(Typed { expr: Expr::Slice(Box::new(inner.expr), hi, lo), ty: Type::Bits(hi - lo + 1) })
            }
            _ => Err(self.refuse("no such bits")),
        }
    }

    fn primary(&mut self) -> Result<Typed, Refused> {
        if self.eat("(") {
            self.operator()?;
            // A cast, or an expression in parentheses.
            if self.word_is("bit") {
                let width = self.bit_type()?;
                self.want(")")?;
                let inner = self.unary()?;
                return match inner.ty {
                    Type::Bits(_) => {
                        Ok(Typed { expr: Expr::Cast(Box::new(inner.expr), width), ty: Type::Bits(width) })
                    }
                    _ => Err(self.refuse("a cast wants a width")),
                };
            }
            let inner = self.expr()?;
            self.want(")")?;
            return Ok(inner);
        }
        if let Token::Number(value, width) = self.peek().clone() {
            self.step();
            return Ok(Typed { expr: Expr::Const(value), ty: width.map_or(Type::Open, Type::Bits) });
        }
        let path = self.path()?;
        if let Some(header) = path.strip_suffix(".isValid") {
            let id = self.header(header)?;
            self.want("(")?;
            self.want(")")?;
            return Ok(Typed { expr: Expr::Valid(id), ty: Type::Bool });
        }
        if let Some((width, value)) = self.program.constants.get(&path) {
            return Ok(Typed { expr: Expr::Const(*value), ty: Type::Bits(*width) });
        }
        let (slot, width) = self.slot(&path)?;
        Ok(Typed { expr: Expr::Slot(slot), ty: Type::Bits(width) })
    }
}
