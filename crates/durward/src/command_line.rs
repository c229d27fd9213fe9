//! The command line: its arguments, and which function runs each command.

use crate::terminal_output::{PipeSafeStdout, map_write_error, print_error};
use crate::{
    approval_commands, caller_commands, catalog_commands, config, demo, journal_commands, login,
    policy_commands, preflight, serve, session_commands,
};
use clap::{Args, Parser, Subcommand};
use durward_core::env_vars;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "durward", version, about = "The door-ward between AI agents and what they act on")]
struct CommandLineArgs {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Args)]
pub struct ConfigFileArgs {
    /// The configuration file
    #[arg(long, env = env_vars::DURWARD_CONFIG, default_value = "durward.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Run the gateway
    Serve {
        #[command(flatten)]
        file: ConfigFileArgs,
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
        sign_in: caller_commands::CallerSignInArgs,
        /// The command and its arguments, after `--`
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print a gateway credential for `credential_process` of the AWS configuration file
    Credentials {
        #[command(flatten)]
        sign_in: caller_commands::CallerSignInArgs,
    },
    /// Sign in at your identity provider, for the commands of people
    Login(login::LoginArgs),
    /// Forget a sign-in
    Logout(login::LogoutArgs),
    /// See what waits for a person, and answer it
    #[command(subcommand)]
    Approvals(approval_commands::ApprovalCommand),
    /// Check, test and explain policies
    #[command(subcommand)]
    Policy(PolicyCommand),
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
enum PolicyCommand {
    /// Validate every *.cedar file of a directory against the schema
    Check { dir: PathBuf },
    /// Run the cases of tests.toml beside the policies
    Test { dir: PathBuf },
    /// Say what policy answers one question, and why
    Explain {
        dir: PathBuf,
        #[command(flatten)]
        query: Box<policy_commands::ExplainArgs>,
    },
}

#[derive(Args)]
pub struct JournalDirArgs {
    /// The journal's directory; without it, the one of the configuration
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFileArgs,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Go over every record; names the first bad one
    Verify {
        #[command(flatten)]
        journal: JournalDirArgs,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the configuration file and what it names, and say what would keep the gateway from starting
    Check {
        #[command(flatten)]
        file: ConfigFileArgs,
    },
}

impl JournalDirArgs {
    /// Gives the journal's directory to a command. That there is no journal is not for the command to say: exit code 2.
    pub fn run_with_journal(&self, command: impl FnOnce(&Path) -> io::Result<u8>) -> Result<u8, String> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => config::load_config(&self.file.config)?.data_dir.unwrap_or_default().join("journal"),
        };
        if let Err(why) = journal_commands::require_journal(&dir) {
            print_error(&why);
            return Ok(journal_commands::EXIT_NO_JOURNAL);
        }
        map_write_error(command(&dir))
    }
}

/// Runs the command that the process arguments name, and returns its exit code.
pub fn run() -> ExitCode {
    let cli = CommandLineArgs::parse();
    // What the demo prints is for people: it logs to a file.
    if !matches!(cli.command, CliCommand::Demo { .. }) {
        start_logging(std::io::stderr, std::io::IsTerminal::is_terminal(&std::io::stderr()));
    }
    match run_cli_command(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            print_error(&message);
            ExitCode::from(1)
        }
    }
}

fn run_cli_command(command: CliCommand) -> Result<u8, String> {
    let mut out = PipeSafeStdout;
    match command {
        CliCommand::Serve { file } => block_on(serve::run_until_signal(&file.config)).map(|()| 0),
        CliCommand::Demo { once } => {
            let dir = demo::create_demo_directory()?;
            start_logging(std::sync::Mutex::new(demo::open_log_file(&dir)?), false);
            block_on(demo::run_demo(&dir, once))
                .map_err(|why| format!("{why}\n  hint: its files, with its log, are in {}", dir.display()))
        }
        CliCommand::Run { sign_in, command } => caller_commands::run_signed_in_command(&sign_in, &command),
        CliCommand::Credentials { sign_in } => {
            let text = block_on(caller_commands::fetch_gateway_credential(&sign_in))?;
            map_write_error(writeln!(out, "{text}").map(|()| 0))
        }
        CliCommand::Login(arguments) => block_on(login::sign_in_user(&arguments)),
        CliCommand::Logout(arguments) => block_on(login::sign_out_user(&arguments)),
        CliCommand::Approvals(command) => block_on(approval_commands::run_approval_command(&command)),
        CliCommand::Policy(PolicyCommand::Check { dir }) => {
            map_write_error(policy_commands::check_policies(&dir, &mut out))
        }
        CliCommand::Policy(PolicyCommand::Test { dir }) => {
            map_write_error(policy_commands::test_policies(&dir, &mut out))
        }
        CliCommand::Policy(PolicyCommand::Explain { dir, query: question }) => {
            map_write_error(policy_commands::explain_decision(&dir, &question, &mut out))
        }
        CliCommand::Catalog(command) => {
            map_write_error(catalog_commands::run_catalog_command(&command, &mut out))
        }
        CliCommand::Journal(JournalCommand::Verify { journal }) => {
            journal.run_with_journal(|dir| journal_commands::print_verification(dir, &mut out))
        }
        CliCommand::Sessions(command) => session_commands::run_session_command(command),
        CliCommand::Config(ConfigCommand::Check { file }) => {
            map_write_error(check_config(&file.config, &mut out))
        }
    }
}

/// Says what `durward serve` would say of the configuration before it listens. 0: it would start.
fn check_config(file: &Path, out: &mut impl Write) -> io::Result<u8> {
    let warnings = match preflight::open_configuration_file(file) {
        Ok((_config, ready)) => ready.warnings,
        Err(why) => {
            print_error(&why);
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

pub fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
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
    let level =
        std::env::var(env_vars::DURWARD_LOG).ok().and_then(|text| text.parse::<tracing::Level>().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(writer)
        .with_ansi(colours)
        .with_target(false)
        // It would panic to say that nobody reads the log any more.
        .log_internal_errors(false)
        .init();
}
