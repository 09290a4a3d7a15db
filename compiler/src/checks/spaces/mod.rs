//! Address spaces: every prefix of an owner's space means one thing and is reached on one path.

mod conflicts;
mod entry;
mod external;
mod free;
mod loops;
mod overlap;
mod shares;

use crate::compiled::Compiled;
use crate::report::Report;

/// PW0301, PW0302, PW0303, PW0304, PW0305
pub fn check(compiled: &Compiled, report: &mut Report) {
    let model = &compiled.model;
    let looping = loops::check(compiled, report);
    let mut spaces = entry::spaces(model);
    let shares = shares::by_gateway(model, report);
    overlap::check(model, &mut spaces, &looping, report);
    let mut reported = conflicts::Reported::default();
    conflicts::check(model, &spaces, &shares, &mut reported, report);
    external::check(compiled, &mut reported, report);
}
