//! The whole way from syntax trees to the compiled form.

use crate::compiled::Compiled;
use crate::lists::Lists;
use crate::lower::{SourceFile, lower};
use lang::ast::Date;
use lang::diag::Diagnostic;

/// The compiled form and everything that was found on the way. The form is total: what is in error is left out, and the
/// owners concerned are named in [`crate::model::Model::tainted`].
#[derive(Debug)]
pub struct Compilation {
    pub compiled: Compiled,
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles the files of a project, sorted by path and by id; `today` (UTC) decides which rules have expired.
#[must_use]
pub fn compile(files: &[SourceFile<'_>], today: Date) -> Compilation {
    let (model, mut report) = lower(files);
    let spaces = crate::spaces::spaces(&model);
    let (channels, channels_of) = crate::channels::channels(&model, &spaces);
    let views = crate::lower::views(&model);
    let lists = Lists::new(&model);
    let mut compiled = Compiled { model, spaces, channels, channels_of, views, lists };
    crate::checks::check(&compiled, today, &mut report);
    compiled.model.tainted = report.tainted.iter().copied().collect();
    Compilation { compiled, diagnostics: report.diagnostics }
}
