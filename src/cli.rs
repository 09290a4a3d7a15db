//! Arguments, and the way from them to a subcommand.

use crate::commands;
use crate::exit::{Exit, Failure};
use crate::{logging, output};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use lang::ast::Date;
use lang::codes::Code;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Policy as code for multi-tenant overlay networks: checks it, decides packets, emits what nodes run.
///
/// Exit status: 0 done, nothing at error level; 1 done, with findings at error level or a difference; 2 could not do it.
#[derive(Debug, Parser)]
#[command(name = "partywall", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Colours; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Say on standard error what is done (-vv: in detail)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How logs are written
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Global {
    /// Whether results on standard output are coloured.
    #[must_use]
    pub fn color_stdout(&self) -> bool {
        self.color(std::io::stdout().is_terminal())
    }

    /// Whether diagnostics on standard error are coloured.
    #[must_use]
    pub fn color_stderr(&self) -> bool {
        self.color(std::io::stderr().is_terminal())
    }

    fn color(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// How a project is judged.
#[derive(Debug, Clone, Args)]
pub struct Judging {
    /// The day on which rules are judged expired, YYYY-MM-DD [default: today, UTC]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub today: Option<Date>,
    /// Threads [default: one per core]; the output does not depend on it
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// How far proofs go.
#[derive(Debug, Clone, Args)]
pub struct Proving {
    /// Steps of the solver for one question, a number that means the same on every machine; a question that needs more
    /// is undecided (PW0901)
    #[arg(long, value_name = "N", default_value_t = verifier::Options::DEFAULT_BUDGET)]
    pub solver_budget: u32,
    /// Let Z3 confirm every verdict on conflicts and dead rules, not only that dead rules are dead; a contradiction is
    /// an internal error
    #[arg(long)]
    pub certify: bool,
}

/// What findings weigh.
#[derive(Debug, Clone, Default, Args)]
pub struct Levels {
    /// Make findings of this code errors
    #[arg(long, value_name = "CODE", value_parser = code)]
    pub deny: Vec<Code>,
    /// Leave findings of this code out
    #[arg(long, value_name = "CODE", value_parser = code)]
    pub allow: Vec<Code>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(commands::check::CheckArgs),
    Merge(commands::merge::MergeArgs),
    Fmt(commands::fmt::FmtArgs),
    Explain(commands::explain::ExplainArgs),
    Eval(commands::eval::EvalArgs),
    Trace(commands::trace::TraceArgs),
    Query(commands::query::QueryArgs),
    Diff(commands::diff::DiffArgs),
    Build(commands::build::BuildArgs),
    Apply(commands::apply::ApplyArgs),
    Rollback(commands::rollback::RollbackArgs),
    Status(commands::status::StatusArgs),
    Audit(commands::audit::AuditArgs),
    Doctor(commands::doctor::DoctorArgs),
    Lab(commands::lab::LabArgs),
    Init(commands::init::InitArgs),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
}

/// Runs the command line; never fails otherwise than by its status.
#[must_use]
pub fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wanted = !error.use_stderr();
            return match error.print() {
                Ok(()) if wanted => Exit::Clean,
                Err(e) if wanted && e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Clean,
                _ => Exit::Failed,
            };
        }
    };
    logging::init(cli.global.verbose, cli.global.log_format);
    let outcome = match &cli.command {
        Command::Check(args) => commands::check::run(&cli.global, args),
        Command::Merge(args) => commands::merge::run(&cli.global, args),
        Command::Fmt(args) => commands::fmt::run(&cli.global, args),
        Command::Explain(args) => commands::explain::run(args),
        Command::Eval(args) => commands::eval::run(&cli.global, args),
        Command::Trace(args) => commands::trace::run(&cli.global, args),
        Command::Query(args) => commands::query::run(&cli.global, args),
        Command::Diff(args) => commands::diff::run(&cli.global, args),
        Command::Build(args) => commands::build::run(&cli.global, args),
        Command::Apply(args) => commands::apply::run(args),
        Command::Rollback(args) => commands::rollback::run(args),
        Command::Status(args) => commands::status::run(args),
        Command::Audit(args) => commands::audit::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Lab(args) => commands::lab::run(&cli.global, args),
        Command::Init(args) => commands::init::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Man(args) => commands::man::run(args),
    };
    outcome.unwrap_or_else(|failure| {
        output::tell(&failure.to_string());
        Exit::Failed
    })
}

/// The definition of the command line, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The default project: this folder.
pub const HERE: &str = ".";

impl Judging {
    /// The day that counts.
    #[must_use]
    pub fn today(&self) -> Date {
        self.today.unwrap_or_else(|| {
            let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
            civil(now.date())
        })
    }

    /// Runs `work` on the threads asked for.
    ///
    /// # Errors
    /// The system refuses the threads.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let threads = self.jobs.map_or(0, NonZeroUsize::get);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map(|pool| pool.install(work))
            .map_err(|e| Failure::new(format!("cannot start {threads} threads: {e}")))
    }
}

fn civil(date: jiff::civil::Date) -> Date {
    Date {
        year: u16::try_from(date.year()).unwrap_or_default(),
        month: u8::try_from(date.month()).unwrap_or_default(),
        day: u8::try_from(date.day()).unwrap_or_default(),
    }
}

fn date(text: &str) -> Result<Date, String> {
    jiff::civil::Date::strptime("%Y-%m-%d", text)
        .map(civil)
        .map_err(|_| "a date is written YYYY-MM-DD".to_owned())
}

/// A code as users write it; the nearest one is offered for one that does not exist.
pub(crate) fn code(text: &str) -> Result<Code, String> {
    let upper = text.to_ascii_uppercase();
    Code::parse(&upper).ok_or_else(|| {
        match lang::suggest(&upper, Code::ALL.iter().map(|code| code.as_str())) {
            Some(near) => format!("there is no such code; did you mean {near}?"),
            None => "there is no such code; codes look like PW0401".to_owned(),
        }
    })
}

/// Where a node's generations are.
#[derive(Debug, Clone, Args)]
pub struct Kept {
    /// The folder of this node's generations
    #[arg(long, value_name = "DIR", default_value = node::state::State::DEFAULT)]
    pub state: PathBuf,
}

/// How a node's commands answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    Human,
    Json,
}

/// A project's path as an argument.
#[derive(Debug, Clone, Args)]
pub struct ProjectPath {
    /// A project's folder, or a single .pw file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}
