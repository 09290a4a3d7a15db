//! Logs of the run, on standard error.

use crate::cli::LogFormat;
use tracing::level_filters::LevelFilter;

/// Sets up logging: warnings, with `-v` what is done and how long it takes, with `-vv` details.
pub fn init(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // A second initialisation cannot happen: this is called once, first.
    let _ = match format {
        LogFormat::Text => builder.without_time().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
