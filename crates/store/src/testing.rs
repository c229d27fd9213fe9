//! States for tests: files, or, where `DURWARD_TEST_POSTGRES` names the socket directory of a server, databases of it. So the same
//! tests hold for both.

use crate::{PATIENCE, Server, Store, StoreError};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use std::{path::Path, process::Command};

/// The state that a test knows by a path.
pub async fn open(path: &Path) -> Result<Store, StoreError> {
    match server(path) {
        None => Store::open(path).await,
        Some(server) => Store::connect(&server).await,
    }
}

/// Whether states are databases.
pub fn is_postgres() -> bool {
    std::env::var_os("DURWARD_TEST_POSTGRES").is_some()
}

/// What the engine understands, where the two differ.
pub fn either<T>(sqlite: T, postgres: T) -> T {
    if is_postgres() { postgres } else { sqlite }
}

/// Changes a state behind the back of whoever has it open.
pub async fn tamper(path: &Path, sql: &'static str) {
    match server(path) {
        None => {
            let options = SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
            sqlx::raw_sql(sql)
                .execute(&mut options.connect().await.expect("a file"))
                .await
                .expect("good SQL");
        }
        Some(server) => {
            let mut connection = server.options().connect().await.expect("a database");
            sqlx::raw_sql(sql).execute(&mut connection).await.expect("good SQL");
        }
    }
}

/// What whoever gets hold of the state can read.
pub fn bytes(path: &Path) -> Vec<u8> {
    match server(path) {
        None => std::fs::read(path.with_extension("db-wal")).expect("a file"),
        Some(server) => {
            let dump = ["-h", &server.host, "-U", &server.user, &server.database];
            Command::new("pg_dump").args(dump).output().expect("pg_dump").stdout
        }
    }
}

/// The database for a path, made if it is not there.
fn server(path: &Path) -> Option<Server> {
    let host = std::env::var("DURWARD_TEST_POSTGRES").ok()?;
    let database: String =
        path.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let server = Server {
        host: host.clone(),
        port: 5432,
        database: database.clone(),
        user: "postgres".to_owned(),
        password: None,
        ca: None,
    };
    // It fails where the database is there already; one that could not be made cannot be connected to.
    let _made = Command::new("createdb").args(["-h", &host, "-U", "postgres", &database]).output();
    Some(server)
}
