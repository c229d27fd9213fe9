//! The command line: its arguments, and the function that runs each command.
//!
//! Exit codes: 0 done, 1 refused or not found, 2 usage. `journal` and `sessions` also exit with 2 if there is no journal, so that
//! a script can tell that from a corrupt one.

use crate::command_error::CommandError;
use crate::command_reference::render_command_reference;
use crate::config::{ConfigError, ConfigFileArgs};
use crate::demo::DemoError;
use crate::journal_commands::JournalDirArgs;
use crate::session_commands::SessionCommandError;
use crate::start_error::StartError;
use crate::terminal_output::{PipeSafeStdout, print_error, print_line};
use crate::{
    approval_commands, caller_commands, catalog_commands, config, demo, journal_commands, login,
    policy_commands, preflight, serve, session_commands,
};
use clap::{CommandFactory as _, Parser, Subcommand};
use durward_core::env_vars;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Parser)]
#[command(name = "durward", version, about = "A gateway between AI agents and AWS APIs or MCP servers")]
struct CommandLineArgs {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Run the gateway
    Serve {
        #[command(flatten)]
        file: ConfigFileArgs,
    },
    /// Walk through the product with a fake AWS, a fake issuer and sample callers, then stay up
    Demo {
        /// Exit after the walk-through; the exit code is not 0 if a step failed
        #[arg(long)]
        once: bool,
    },
    /// Run a command with its AWS traffic through the gateway
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
    /// Sign in with your identity provider
    Login(login::LoginArgs),
    /// Sign out and delete the stored tokens
    Logout(login::LogoutArgs),
    /// List, approve and deny approval requests
    #[command(subcommand)]
    Approvals(approval_commands::ApprovalCommand),
    /// Check, test and explain policies, and print their schema
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look up AWS operations and IAM actions
    #[command(subcommand)]
    Catalog(catalog_commands::CatalogCommand),
    /// Verify the journal
    #[command(subcommand)]
    Journal(JournalCommand),
    /// List, show, replay and revoke sessions
    #[command(subcommand)]
    Sessions(session_commands::SessionCommand),
    /// Check the configuration, and describe it to editors
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the reference of all commands, in Markdown
    #[command(hide = true)]
    CommandReference,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Validate every *.cedar file of a directory against the schema
    Check {
        /// Directory with the policies
        dir: PathBuf,
        #[command(flatten)]
        config: config::OptionalConfigArgs,
    },
    /// Run the cases of tests.toml beside the policies
    Test {
        /// Directory with the policies
        dir: PathBuf,
    },
    /// Evaluate one request and explain the decision
    Explain {
        /// Directory with the policies
        dir: PathBuf,
        #[command(flatten)]
        request: Box<policy_commands::ExplainArgs>,
    },
    /// Print the schema in Cedar's schema syntax, for the Cedar extensions of editors
    Schema {
        /// Directory with the policies: the schema has every action of the services that they name, and the tool arguments that
        /// they read
        dir: Option<PathBuf>,
        /// IAM service prefix whose actions the schema has too (s3); may be repeated
        #[arg(long = "service", value_name = "PREFIX")]
        services: Vec<String>,
    },
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Verify the hash chain; report the first corrupt record
    Verify {
        #[command(flatten)]
        journal: JournalDirArgs,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Validate the configuration and the files it references
    Check {
        #[command(flatten)]
        file: ConfigFileArgs,
    },
    /// Print the JSON Schema of the configuration, for editors and other tools
    Schema,
}

/// Why a command ended without a result.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Session(#[from] SessionCommandError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{error}\n  hint: the demo's files, with its log, are in {}", dir.display())]
    Demo { error: DemoError, dir: PathBuf },
    #[error(transparent)]
    DemoSetUp(DemoError),
    #[error("the asynchronous runtime cannot be started: {0}")]
    Runtime(io::Error),
}

/// Runs the command that the process arguments name, and returns its exit code.
pub fn run() -> ExitCode {
    let command = CommandLineArgs::parse().command;
    // The demo's standard error is for its user, so the demo logs to a file.
    if !matches!(command, CliCommand::Demo { .. }) {
        start_logging(io::stderr, io::stderr().is_terminal());
    }
    match block_on(run_command(command)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn block_on(work: impl Future<Output = Result<u8, CliError>>) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(work)
}

async fn run_command(command: CliCommand) -> Result<u8, CliError> {
    let mut out = PipeSafeStdout;
    let written = |result: io::Result<u8>| result.map_err(|error| CommandError::Output(error).into());
    match command {
        CliCommand::Serve { file } => {
            serve::run_until_signal(&file.config).await?;
            Ok(0)
        }
        CliCommand::Demo { once } => run_demo(once).await,
        CliCommand::Run { sign_in, command } => {
            Ok(caller_commands::run_signed_in_command(&sign_in, &command)?)
        }
        CliCommand::Credentials { sign_in } => {
            print_line(&caller_commands::fetch_gateway_credential(&sign_in).await?)?;
            Ok(0)
        }
        CliCommand::Login(args) => Ok(login::sign_in_user(&args).await?),
        CliCommand::Logout(args) => Ok(login::sign_out_user(&args).await?),
        CliCommand::Approvals(command) => Ok(approval_commands::run_approval_command(&command).await?),
        CliCommand::Policy(PolicyCommand::Check { dir, config }) => {
            written(policy_commands::check_policies(&dir, &config, &mut out))
        }
        CliCommand::Policy(PolicyCommand::Schema { dir, services }) => {
            written(policy_commands::print_schema(dir.as_deref(), &services, &mut out))
        }
        CliCommand::Policy(PolicyCommand::Test { dir }) => {
            written(policy_commands::test_policies(&dir, &mut out))
        }
        CliCommand::Policy(PolicyCommand::Explain { dir, request }) => {
            written(policy_commands::explain_decision(&dir, &request, &mut out))
        }
        CliCommand::Catalog(command) => written(catalog_commands::run_catalog_command(&command, &mut out)),
        CliCommand::Journal(JournalCommand::Verify { journal }) => match journal.find_journal()? {
            Some(dir) => written(journal_commands::print_verification(&dir, &mut out)),
            None => Ok(journal_commands::EXIT_NO_JOURNAL),
        },
        CliCommand::Sessions(command) => Ok(session_commands::run_session_command(command).await?),
        CliCommand::Config(ConfigCommand::Check { file }) => check_config(&file.config),
        CliCommand::Config(ConfigCommand::Schema) => {
            print_line(&config::render_config_schema())?;
            Ok(0)
        }
        CliCommand::CommandReference => {
            print_line(render_command_reference(CommandLineArgs::command()).trim_end())?;
            Ok(0)
        }
    }
}

async fn run_demo(once: bool) -> Result<u8, CliError> {
    let dir = demo::create_demo_directory().map_err(CliError::DemoSetUp)?;
    start_logging(Mutex::new(demo::open_log_file(&dir).map_err(CliError::DemoSetUp)?), false);
    demo::run_demo(&dir, once).await.map_err(|error| CliError::Demo { error, dir })
}

/// Prints what `durward serve` would report before it listens. The exit code is 0 if it would start.
fn check_config(file: &Path) -> Result<u8, CliError> {
    let (_config, opened) = preflight::open_configuration_file(file)?;
    for warning in &opened.warnings {
        print_line(&format!("warning: {warning}"))?;
    }
    let warnings = match opened.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    print_line(&format!("{}: no problem found{warnings}", file.display()))?;
    Ok(0)
}

fn start_logging<W>(writer: W, has_colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level =
        std::env::var(env_vars::DURWARD_LOG).ok().and_then(|text| text.parse::<tracing::Level>().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .with_writer(writer)
        .with_ansi(has_colours)
        .with_target(false)
        // By default the library reports a failed write on standard error, and panics if that is closed.
        .log_internal_errors(false)
        .init();
}
