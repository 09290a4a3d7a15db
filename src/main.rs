//! The `partywall` command.

fn main() -> std::process::ExitCode {
    partywall::cli::run().into()
}
