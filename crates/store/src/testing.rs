//! Stores for tests: SQLite files, or PostgreSQL databases if `DURWARD_TEST_POSTGRES` names the socket directory of a server. So
//! the same tests run against both engines.

use crate::{DATABASE_TIMEOUT, PostgresServer, Store, StoreError};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use std::{path::Path, process::Command};

/// Opens the store that a test names by a path.
pub async fn open_test_store(path: &Path) -> Result<Store, StoreError> {
    match test_server(path) {
        None => Store::open(path).await,
        Some(server) => Store::connect(&server).await,
    }
}

/// Returns true if the tests run against PostgreSQL.
pub fn is_postgres() -> bool {
    std::env::var_os("DURWARD_TEST_POSTGRES").is_some()
}

/// The SQL for the engine under test, where the two engines differ.
pub fn choose_by_engine<T>(sqlite: T, postgres: T) -> T {
    if is_postgres() { postgres } else { sqlite }
}

/// Changes a store from outside, while it is open elsewhere.
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

/// The bytes of a store, as a thief of the file or of a database dump would read them.
pub fn read_raw_bytes(path: &Path) -> Vec<u8> {
    match test_server(path) {
        None => std::fs::read(path.with_extension("db-wal")).expect("a file"),
        Some(server) => {
            let dump = ["-h", &server.host, "-U", &server.user, &server.database];
            Command::new("pg_dump").args(dump).output().expect("pg_dump").stdout
        }
    }
}

/// The database that stands for a path. It is created if it is not there.
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
    // Fails if the database exists already. If it could not be created, connecting to it fails.
    let _created = Command::new("createdb").args(["-h", &host, "-U", "postgres", &database]).output();
    Some(server)
}
