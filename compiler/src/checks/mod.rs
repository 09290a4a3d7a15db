//! Structural checks: what is wrong with a project whatever its rules decide. One file per theme; each reports one
//! finding per cause and marks the owners whose flows can no longer be judged.

mod expiry;
mod gateways;
mod identity;
pub mod owners;
mod rules;
mod spaces;
mod via;

use crate::algebra::{Prefix, format_addr};
use crate::compiled::Compiled;
use crate::ids::{OwnerId, SegmentId};
use crate::model::Model;
use crate::report::Report;
use lang::ast::Date;

/// Every check of the model and of the spaces composed from it.
pub fn check(compiled: &Compiled, today: Date, report: &mut Report) {
    let model = &compiled.model;
    identity::check(model, report);
    gateways::check(compiled, report);
    spaces::check(compiled, report);
    rules::check(compiled, report);
    via::check(compiled, report);
    expiry::check(model, today, report);
}

/// ``tenant `shop` ``, ``external `hq` ``
fn owner(model: &Model, id: OwnerId) -> String {
    let owner = &model.owners[id];
    let kind = if owner.is_tenant() { "tenant" } else { "external" };
    format!("{kind} `{}`", owner.name)
}

/// `shop.front`
fn segment(model: &Model, id: SegmentId) -> String {
    let segment = &model.segments[id];
    format!("{}.{}", model.owners[segment.tenant].name, segment.name)
}

/// A prefix for messages: that of one address as the address.
fn shown(prefix: Prefix) -> String {
    if prefix.len() == prefix.family.bits() {
        format_addr(prefix.family, prefix.lo()).to_string()
    } else {
        prefix.to_string()
    }
}

/// Names in backticks with commas and "and"; after the first few only their number.
fn names(all: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = all.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match (shown.split_last(), all.len().saturating_sub(SHOWN)) {
        (None, _) => String::new(),
        (Some((last, [])), 0) => last.clone(),
        (Some((last, before)), 0) => format!("{} and {last}", before.join(", ")),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
