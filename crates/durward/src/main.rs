//! The door-ward between AI agents and what they act on: the command line.

mod admin_api;
#[cfg(test)]
mod approval_attacks;
mod approval_commands;
mod approvals;
#[cfg(test)]
mod attacks;
mod catalog_commands;
mod client;
mod config;
mod console;
mod demo;
mod journal_commands;
mod login;
#[cfg(test)]
mod mcp_attacks;
mod notifications;
mod output;
mod policy_commands;
mod ready;
mod revocations;
mod serve;
mod session_commands;
mod tls;
#[cfg(test)]
mod upstream_tls;

use clap::{Args, Parser, Subcommand};
use durward_core::env;
use output::{Stdout, complain, written};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A request makes some hundred small allocations that live as long as it: glibc's allocator took 14 % of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "durward", version, about = "The door-ward between AI agents and what they act on")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, env = env::CONFIG, default_value = "durward.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Serve {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Walk through the product with a stand-in AWS, an issuer and sample callers, then stay up
    Demo {
        /// Exit after the walk-through; non-zero if any step went wrong
        #[arg(long)]
        once: bool,
    },
    /// Run CMD with its AWS traffic through the gateway
    Run {
        #[command(flatten)]
        sign_in: client::SignIn,
        /// The command and its arguments, after `--`
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print a gateway credential for `credential_process` of the AWS configuration file
    Credentials {
        #[command(flatten)]
        sign_in: client::SignIn,
    },
    /// Sign in at your identity provider, for the commands of people
    Login(login::Login),
    /// Forget a sign-in
    Logout(login::Logout),
    /// See what waits for a person, and answer it
    #[command(subcommand)]
    Approvals(approval_commands::ApprovalCommand),
    /// Check, test and explain policies
    #[command(subcommand)]
    Policy(Policy),
    /// Look up what Durward knows of AWS: IAM actions, operations, resources, parameters
    #[command(subcommand)]
    Catalog(catalog_commands::CatalogCommand),
    /// Verify the journal
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Look at sessions in the journal, and revoke them
    #[command(subcommand)]
    Sessions(session_commands::SessionCommand),
    /// Check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum Policy {
    /// Validate every *.cedar file of a directory against the schema
    Check { dir: PathBuf },
    /// Run the cases of tests.toml beside the policies
    Test { dir: PathBuf },
    /// Say what policy answers one question, and why
    Explain {
        dir: PathBuf,
        #[command(flatten)]
        question: Box<policy_commands::ExplainArgs>,
    },
}

#[derive(Args)]
struct JournalDir {
    /// The journal's directory; without it, the one of the configuration
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Go over every record; names the first bad one
    Verify {
        #[command(flatten)]
        journal: JournalDir,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the configuration file and what it names, and say what would keep the gateway from starting
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl JournalDir {
    /// Gives the journal's directory to a command. That there is no journal is not for the command to say: exit code 2.
    fn look(&self, command: impl FnOnce(&Path) -> io::Result<u8>) -> Result<u8, String> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => config::load(&self.file.config)?.data_dir.unwrap_or_default().join("journal"),
        };
        if let Err(why) = journal_commands::find(&dir) {
            complain(&why);
            return Ok(journal_commands::ABSENT);
        }
        written(command(&dir))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the demo prints is for people: it logs to a file.
    if !matches!(cli.command, Command::Demo { .. }) {
        start_logging(std::io::stderr, std::io::IsTerminal::is_terminal(&std::io::stderr()));
    }
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            complain(&message);
            ExitCode::from(1)
        }
    }
}

fn run(command: Command) -> Result<u8, String> {
    let mut out = Stdout;
    match command {
        Command::Serve { file } => block_on(serve::serve(&file.config)).map(|()| 0),
        Command::Demo { once } => {
            let dir = demo::directory()?;
            start_logging(std::sync::Mutex::new(demo::log_file(&dir)?), false);
            block_on(demo::demo(&dir, once))
                .map_err(|why| format!("{why}\n  hint: its files, with its log, are in {}", dir.display()))
        }
        Command::Run { sign_in, command } => client::run(&sign_in, &command),
        Command::Credentials { sign_in } => {
            let text = block_on(client::credentials(&sign_in))?;
            written(writeln!(out, "{text}").map(|()| 0))
        }
        Command::Login(arguments) => block_on(login::login(&arguments)),
        Command::Logout(arguments) => block_on(login::logout(&arguments)),
        Command::Approvals(command) => block_on(approval_commands::run(&command)),
        Command::Policy(Policy::Check { dir }) => written(policy_commands::check(&dir, &mut out)),
        Command::Policy(Policy::Test { dir }) => written(policy_commands::test(&dir, &mut out)),
        Command::Policy(Policy::Explain { dir, question }) => {
            written(policy_commands::explain(&dir, &question, &mut out))
        }
        Command::Catalog(command) => written(catalog_commands::run(&command, &mut out)),
        Command::Journal(JournalCommand::Verify { journal }) => {
            journal.look(|dir| journal_commands::verify(dir, &mut out))
        }
        Command::Sessions(command) => session_commands::run(command),
        Command::Config(ConfigCommand::Check { file }) => written(check_config(&file.config, &mut out)),
    }
}

/// Says what `durward serve` would say of the configuration before it listens. 0: it would start.
fn check_config(file: &Path, out: &mut impl Write) -> io::Result<u8> {
    let warnings = match ready::load(file) {
        Ok((_config, ready)) => ready.warnings,
        Err(why) => {
            complain(&why);
            return Ok(1);
        }
    };
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let also = match warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        several => format!(", {several} warnings"),
    };
    writeln!(out, "{}: no problem found{also}", file.display())?;
    Ok(0)
}

fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?
        .block_on(work)
}

fn start_logging<W>(writer: W, colours: bool)
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let level = std::env::var(env::LOG).ok().and_then(|text| text.parse::<tracing::Level>().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(writer)
        .with_ansi(colours)
        .with_target(false)
        // It would panic to say that nobody reads the log any more.
        .log_internal_errors(false)
        .init();
}

/// Reads a file, naming it in the error.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
