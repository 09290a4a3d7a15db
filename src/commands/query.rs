//! `query PATH 'SET -> SET [: SERVICE]'`: which flows are allowed, exactly.

use crate::analysis::{self, Analysis, QUERY_FILE, QUERY_PATH};
use crate::boxes::{BoxLine, Owner, Tool, csv_field};
use crate::cli::{Global, Judging, ProjectPath};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Out};
use clap::{Args, ValueEnum};
use compiler::model::TestKind;
use lang::diag::Diagnostic;
use lang::source::Sources;
use serde::Serialize;
use verifier::flows::{Flows, Work};
use verifier::query::AllowedFlows;

/// Print the exact flows that are allowed, as disjoint boxes of real addresses
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    project: ProjectPath,
    /// 'shop.front -> payments : tcp/443', in the words of a test
    #[arg(value_name = "FLOWS")]
    flows: String,
    /// How the boxes are printed
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    judging: Judging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line each
    Human,
    /// One document, for tools
    Json,
    /// A table, for spreadsheets
    Csv,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'static str,
    tool: Tool,
    project: &'a str,
    query: &'a str,
    flows: Vec<BoxLine<'a>>,
}

pub fn run(global: &Global, args: &QueryArgs) -> Outcome {
    let query = lang::parse_query(&args.flows).map_err(|diagnostics| {
        let mut sources = Sources::new();
        sources.add(QUERY_PATH, args.flows.as_str());
        refused(global, &sources, &diagnostics)
    })?;
    let analysis = analysis::meaning_with_query(&args.project.path, &args.judging, &args.flows, query)?;
    let (asked, project): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
        analysis.findings.iter().partition(|finding| finding.span.file == QUERY_FILE);
    if project.is_empty() && !asked.is_empty() {
        let asked: Vec<Diagnostic> = asked.into_iter().cloned().collect();
        return Err(refused(global, &analysis.sources, &asked));
    }
    if analysis.refuse("tell what is allowed", global) {
        return Ok(Exit::Findings);
    }
    let allowed = args.judging.run(|| allowed(&analysis))??;
    let owner = |id| {
        let owner = &analysis.compiled.model.owners[id];
        Owner { name: &owner.name, tenant: owner.is_tenant() }
    };
    let boxes: Vec<BoxLine<'_>> = allowed
        .iter()
        .flat_map(|flows| {
            let via = flows.via.map(|gateway| analysis.compiled.model.gateways[gateway].name.as_str());
            let line = move |row| BoxLine::new(owner(flows.src), owner(flows.dst), flows.family, row, via);
            flows.rows.iter().map(line)
        })
        .collect();
    let mut out = Out::new();
    match args.format {
        Format::Human if boxes.is_empty() => out.text("no flow of these is allowed\n")?,
        Format::Human => {
            for line in &boxes {
                out.text(&line.text())?;
                out.text("\n")?;
            }
        }
        Format::Csv => csv(&mut out, &boxes)?,
        Format::Json => {
            let document = Document {
                format_version: "1.0",
                tool: Tool::this(),
                project: analysis.project(),
                query: &args.flows,
                flows: boxes,
            };
            let text = serde_json::to_string_pretty(&document)
                .map_err(|e| Failure::new(format!("cannot write the flows: {e}")))?;
            out.text(&text)?;
            out.text("\n")?;
        }
    }
    out.flush()?;
    Ok(Exit::Clean)
}

fn refused(global: &Global, sources: &Sources, findings: &[Diagnostic]) -> Failure {
    output::show(&lang::render::human(sources, findings, global.color_stderr()));
    Failure::new("the query cannot be read; write it as 'shop.front -> payments : tcp/443'")
}

fn allowed(analysis: &Analysis) -> Result<Vec<AllowedFlows>, Failure> {
    let tests = &analysis.compiled.model.tests;
    let clause = tests.iter().find(|test| test.span.file == QUERY_FILE).and_then(|test| test.clauses.first());
    let Some(TestKind::Flows { src, dst, service, .. }) = clause.map(|clause| &clause.kind) else {
        return Err(Failure::new(
            "the query has no meaning, and nothing says why; this is a bug in partywall",
        ));
    };
    let flows = Flows::new(&analysis.compiled, Work(verifier::Options::DEFAULT_WORK));
    verifier::query::query(&flows, src, dst, service).map_err(|e| Failure::new(e.to_string()))
}

fn csv(out: &mut Out, boxes: &[BoxLine<'_>]) -> Result<(), Failure> {
    out.text("source_kind,source,source_addresses,destination_kind,destination,destination_addresses,family,service,via\r\n")?;
    for line in boxes {
        let kind = |tenant: Option<&str>| if tenant.is_some() { "tenant" } else { "external" };
        let (from, to) = (line.from.addresses.join(" "), line.to.addresses.join(" "));
        let fields = [
            kind(line.from.tenant),
            line.from.name(),
            &from,
            kind(line.to.tenant),
            line.to.name(),
            &to,
            line.family,
            &line.service,
            line.via.unwrap_or_default(),
        ];
        out.text(&fields.map(csv_field).join(","))?;
        out.text("\r\n")?;
    }
    Ok(())
}
