//! States for tests: files, or, where `DURWARD_TEST_POSTGRES` names the socket directory of a server, databases of it. So the same
//! tests hold for both.

use crate::{DATABASE_TIMEOUT, PostgresServer, Store, StoreError};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use std::{path::Path, process::Command};

/// The state that a test knows by a path.
pub async fn open_test_store(path: &Path) -> Result<Store, StoreError> {
    match test_server(path) {
        None => Store::open(path).await,
        Some(server) => Store::connect(&server).await,
    }
}

/// Whether states are databases.
pub fn is_postgres() -> bool {
    std::env::var_os("DURWARD_TEST_POSTGRES").is_some()
}

/// What the engine understands, where the two differ.
pub fn choose_by_engine<T>(sqlite: T, postgres: T) -> T {
    if is_postgres() { postgres } else { sqlite }
}

/// Changes a state behind the back of whoever has it open.
pub async fn tamper_with_store(path: &Path, sql: &'static str) {
    match test_server(path) {
        None => {
            let options = SqliteConnectOptions::new().filename(path).busy_timeout(DATABASE_TIMEOUT);
            sqlx::raw_sql(sql)
                .execute(&mut options.connect().await.expect("a file"))
                .await
                .expect("good SQL");
        }
        Some(server) => {
            let mut connection = server.connect_options().connect().await.expect("a database");
            sqlx::raw_sql(sql).execute(&mut connection).await.expect("good SQL");
        }
    }
}

/// What whoever gets hold of the state can read.
pub fn read_raw_bytes(path: &Path) -> Vec<u8> {
    match test_server(path) {
        None => std::fs::read(path.with_extension("db-wal")).expect("a file"),
        Some(server) => {
            let dump = ["-h", &server.host, "-U", &server.user, &server.database];
            Command::new("pg_dump").args(dump).output().expect("pg_dump").stdout
        }
    }
}

/// The database for a path, made if it is not there.
fn test_server(path: &Path) -> Option<PostgresServer> {
    let host = std::env::var("DURWARD_TEST_POSTGRES").ok()?;
    let database: String =
        path.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let server = PostgresServer {
        host: host.clone(),
        port: 5432,
        database: database.clone(),
        user: "postgres".to_owned(),
        password: None,
        ca_file: None,
    };
    // It fails where the database is there already; one that could not be made cannot be connected to.
    let _made = Command::new("createdb").args(["-h", &host, "-U", "postgres", &database]).output();
    Some(server)
}
