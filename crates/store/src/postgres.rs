//! The state of several gateways: a PostgreSQL database, version 12 or later.
//!
//! Writers exclude each other by one advisory lock, as the writers of a SQLite file do by its lock: the rows that a writer has
//! read stay as they are until it commits. That is safe at every isolation level. It is fast enough, because the state is
//! written a few times for each approval request and not for each exchange.

use crate::{DATABASE_TIMEOUT, MAX_READ_CONNECTIONS, SCHEMA_VERSION, StoreError};
use durward_core::Secret;
use sqlx::{
    ConnectOptions as _, Connection as _, PgPool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// The address of the database, and the user who connects to it.
#[derive(Clone)]
pub struct PostgresServer {
    /// A name or an address or, if it begins with a slash, the directory of the server's Unix socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    /// PEM file of the authority that signed the server's certificate. `None`: a public one.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl PostgresServer {
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        let timeout_ms = DATABASE_TIMEOUT.as_millis().to_string();
        let options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .database(&self.database)
            .username(&self.user)
            .application_name("durward")
            .options([
                // A vote that was acknowledged must be on disk, also if the server's default is `off`.
                ("synchronous_commit", "on"),
                ("lock_timeout", &timeout_ms),
                ("statement_timeout", &timeout_ms),
                // A gateway that hangs in a transaction must not lock the other replicas out.
                ("idle_in_transaction_session_timeout", &timeout_ms),
                ("client_encoding", "UTF8"),
            ])
            .disable_statement_logging();
        let options = match &self.password {
            Some(password) => options.password(password.expose()),
            None => options,
        };
        // The password and the details of approval requests must not cross a network in clear.
        let is_socket = self.host.starts_with('/');
        let is_loopback = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_here = is_socket || is_loopback || self.host == "localhost";
        let options = if is_socket { options.socket(&self.host) } else { options.host(&self.host) };
        match &self.ca_file {
            // `verify-full`: `require` accepts any certificate, and `verify-ca` one for another host (PostgreSQL documentation,
            // "SSL Mode Descriptions").
            Some(ca) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca),
            None if is_here => options.ssl_mode(PgSslMode::Disable),
            None => options.ssl_mode(PgSslMode::VerifyFull),
        }
    }
}

#[derive(Debug)]
pub(crate) struct PostgresPools {
    writer: ReconnectingPool,
    readers: ReconnectingPool,
}

/// A pool that is replaced when its server does not respond. The connections of a server that vanished would be waited for
/// until TCP gives up.
#[derive(Debug)]
struct ReconnectingPool {
    options: PgConnectOptions,
    max_connections: u32,
    /// The pool and its number, which grows with each replacement.
    numbered_pool: RwLock<(u64, PgPool)>,
}

impl ReconnectingPool {
    fn new(options: &PgConnectOptions, max_connections: u32) -> Self {
        Self {
            options: options.clone(),
            max_connections,
            numbered_pool: RwLock::new((0, Self::build_pool(options, max_connections))),
        }
    }

    fn build_pool(options: &PgConnectOptions, max_connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(DATABASE_TIMEOUT)
            // Lazy: a new pool must not wait for a server that does not respond while the lock on the pool is held.
            .connect_lazy_with(options.clone())
    }

    fn current_pool(&self) -> (u64, PgPool) {
        self.numbered_pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn begin_transaction(
        &self,
        sql: &'static str,
    ) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        let (number, pool) = self.current_pool();
        let begun = with_database_timeout(pool.begin_with(sql)).await;
        if matches!(begun, Err(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_))) {
            let mut current = self.numbered_pool.write().unwrap_or_else(PoisonError::into_inner);
            // Another task may have replaced it meanwhile.
            if current.0 == number {
                *current = (number + 1, Self::build_pool(&self.options, self.max_connections));
            }
        }
        Ok(begun?)
    }
}

/// Waits for a response of the server, a little longer than the server's own timeouts. The future is boxed: it is large, and every
/// function of the store would carry its size.
pub(crate) async fn with_database_timeout<T>(
    response: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    let timed_out =
        || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not respond"));
    tokio::time::timeout(DATABASE_TIMEOUT + Duration::from_secs(2), Box::pin(response))
        .await
        .unwrap_or_else(|_elapsed| Err(timed_out()))
}

pub(crate) async fn open_pools(server: &PostgresServer) -> Result<PostgresPools, StoreError> {
    let options = server.connect_options();
    // A pool would try again until its timeout, and report only that.
    with_database_timeout(async { options.connect().await?.close().await }).await?;
    // As with SQLite, the writes of this process queue at one connection.
    let pools = PostgresPools {
        writer: ReconnectingPool::new(&options, 1),
        readers: ReconnectingPool::new(&options, MAX_READ_CONNECTIONS),
    };
    pools.create_tables().await?;
    Ok(pools)
}

/// The tables, the same as those of SQLite.
pub(crate) const SCHEMA: &str = include_str!("schema/postgres.sql");

impl PostgresPools {
    pub(crate) async fn begin_read(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        // REPEATABLE READ takes one snapshot for all statements; at READ COMMITTED each would see another state (PostgreSQL
        // documentation, "Transaction Isolation").
        self.readers.begin_transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub(crate) async fn begin_write(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        let mut transaction =
            self.writer.begin_transaction("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        // At READ COMMITTED the statements after this one see the commit of the last holder. The number is `durward` in ASCII.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(28276632160662116)");
        with_database_timeout(lock.execute(&mut *transaction)).await?;
        Ok(transaction)
    }

    pub(crate) async fn close(&self) {
        self.readers.current_pool().1.close().await;
        self.writer.current_pool().1.close().await;
    }

    /// Creates the tables in an empty database, or checks that they have this version.
    async fn create_tables(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        // Under the writers' lock: of several replicas that start at once, one creates the tables and the others find them.
        let has_version_table: bool = sqlx::query_scalar("SELECT to_regclass('durward_schema') IS NOT NULL")
            .fetch_one(&mut *transaction)
            .await?;
        if has_version_table {
            let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM durward_schema")
                .fetch_one(&mut *transaction)
                .await?;
            return match found {
                SCHEMA_VERSION => Ok(()),
                _ => Err(StoreError::NewerVersion { found, known: SCHEMA_VERSION }),
            };
        }
        sqlx::raw_sql("CREATE TABLE durward_schema (version BIGINT NOT NULL)")
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO durward_schema (version) VALUES ($1)")
            .bind(SCHEMA_VERSION)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{StoreError, testing, transaction::EngineTransaction};
    use durward_core::ExchangeId;

    #[tokio::test]
    #[ignore = "needs PostgreSQL: run it by tests/peers/postgres.py"]
    async fn commits_are_synced_even_if_the_server_default_is_off() {
        assert!(testing::is_postgres(), "DURWARD_TEST_POSTGRES is not set");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        testing::open_test_store(&path).await.unwrap();
        testing::tamper_with_store(&path, "ALTER ROLE postgres SET synchronous_commit = off").await;
        let store = testing::open_test_store(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let EngineTransaction::Postgres(at) = write.engine_transaction() else {
            unreachable!("the store is PostgreSQL")
        };
        let set: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut **at).await.unwrap();
        assert_eq!(set, "on");
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL: run it by tests/peers/postgres.py"]
    async fn tables_of_a_newer_version_are_refused() {
        assert!(testing::is_postgres(), "DURWARD_TEST_POSTGRES is not set");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        testing::open_test_store(&path).await.unwrap();
        testing::tamper_with_store(&path, "INSERT INTO durward_schema VALUES (99)").await;
        let refused = testing::open_test_store(&path).await;
        assert!(matches!(refused, Err(StoreError::NewerVersion { found: 99, known: 1 })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_very_long_caller_and_action_list_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&directory.path().join("s.db")).await.unwrap();
        // Longer than an entry of a B-tree may be, and too random to be compressed below that.
        let long: String = (0..1_000).map(|_index| ExchangeId::new().to_string()).collect();
        let mut write = store.begin_write().await.unwrap();
        write.record_first_seen(&long, &long, 1).await.unwrap();
        assert!(write.was_seen(&long, &long).await.unwrap());
        write.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_writer_sees_the_whole_commit_of_the_writer_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let (one, other) =
            (testing::open_test_store(&path).await.unwrap(), testing::open_test_store(&path).await.unwrap());
        let mut first = one.begin_write().await.unwrap();
        let writes = async {
            for at in 0..100 {
                first.record_first_seen("a", &at.to_string(), 1).await.unwrap();
            }
            first.commit().await.unwrap();
        };
        let reads = async {
            let mut second = other.begin_write().await.unwrap();
            second.was_seen("a", "99").await.unwrap()
        };
        let (seen, ()) = tokio::join!(reads, writes);
        assert!(seen, "two writers at once");
    }
}
