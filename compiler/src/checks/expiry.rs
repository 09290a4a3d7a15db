//! PW0406: rules whose last day is near or past.

use crate::model::Model;
use crate::report::Report;
use lang::ast::Date;
use lang::codes::Code;
use lang::diag::{Diagnostic, Severity};

/// A warning from this many days before.
const NOTICE_DAYS: i32 = 30;

/// The date is the last day on which a rule counts; one that has expired still decides until it is removed.
pub fn check(model: &Model, today: Date, report: &mut Report) {
    for rule in model.rules.values() {
        let Some(expires) = rule.expires else { continue };
        let Some(left) = days_between(today, expires) else { continue };
        let text = format!("{:04}-{:02}-{:02}", expires.year, expires.month, expires.day);
        let finding = if left < 0 {
            Diagnostic::new(
                Code::PW0406,
                rule.expires_span,
                format!("rule `{}` expired on {text}", rule.name),
            )
            .severity(Severity::Error)
            .label(format!("{} ago", days(-left)))
            .help("it still decides: remove it, or give it a new date")
        } else if left <= NOTICE_DAYS {
            let when = if left == 0 { "today".into() } else { format!("in {}", days(left)) };
            Diagnostic::new(Code::PW0406, rule.expires_span, format!("rule `{}` expires {when}", rule.name))
                .severity(Severity::Warning)
                .label(format!("{text} is the last day it counts"))
                .help("settle what replaces it, or give it a new date")
        } else {
            continue;
        };
        report.push(finding.rule(rule.name.clone()));
    }
}

fn days(count: i32) -> String {
    if count == 1 { "1 day".into() } else { format!("{count} days") }
}

/// Days from `from` to `to`; `None` if one of them is no calendar date.
fn days_between(from: Date, to: Date) -> Option<i32> {
    let civil = |date: Date| {
        let part = |value: u8| i8::try_from(value).ok();
        jiff::civil::Date::new(i16::try_from(date.year).ok()?, part(date.month)?, part(date.day)?).ok()
    };
    let (from, to) = (civil(from)?, civil(to)?);
    to.since(from).ok().map(|span| span.get_days())
}
