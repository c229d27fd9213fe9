//! The state of several gateways: a database of PostgreSQL, 12 or later.
//!
//! Writers exclude each other by one advisory lock, as the file's do by its lock: what one has read stays so until it commits.
//! That is safe at every isolation level, and the state is written a few times for an ask, not for every request.

use crate::{DATABASE_TIMEOUT, MAX_READ_CONNECTIONS, StoreError};
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

/// Where the database is, and as whom to use it.
#[derive(Clone)]
pub struct PostgresServer {
    /// A name or address; or, with a slash, the directory of its Unix socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    /// PEM file of the authority that signed its certificate; none: a public one.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl PostgresServer {
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        let patience = DATABASE_TIMEOUT.as_millis().to_string();
        let options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .database(&self.database)
            .username(&self.user)
            .application_name("durward")
            .options([
                // What was committed is on disk, also where the server is set to be quicker than that.
                ("synchronous_commit", "on"),
                ("lock_timeout", &patience),
                ("statement_timeout", &patience),
                // A gateway that hangs does not keep the others out.
                ("idle_in_transaction_session_timeout", &patience),
                ("client_encoding", "UTF8"),
            ])
            .disable_statement_logging();
        let options = match &self.password {
            Some(password) => options.password(password.expose()),
            None => options,
        };
        // A password and what agents do are not for a network to read.
        let is_socket = self.host.starts_with('/');
        let is_loopback = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_here = is_socket || is_loopback || self.host == "localhost";
        let options = if is_socket { options.socket(&self.host) } else { options.host(&self.host) };
        match &self.ca_file {
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

/// Connections that are replaced when they do not answer: those of a server that vanished would be waited for until TCP gives up.
#[derive(Debug)]
struct ReconnectingPool {
    options: PgConnectOptions,
    max_connections: u32,
    /// With its number.
    numbered_pool: RwLock<(u64, PgPool)>,
}

impl ReconnectingPool {
    fn new(options: &PgConnectOptions, most: u32) -> Self {
        Self {
            options: options.clone(),
            max_connections: most,
            numbered_pool: RwLock::new((0, Self::build_pool(options, most))),
        }
    }

    fn build_pool(options: &PgConnectOptions, most: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(DATABASE_TIMEOUT)
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
            let mut now = self.numbered_pool.write().unwrap_or_else(PoisonError::into_inner);
            // Another may have replaced it meanwhile.
            if now.0 == number {
                *now = (number + 1, Self::build_pool(&self.options, self.max_connections));
            }
        }
        Ok(begun?)
    }
}

/// Waits for the server no longer than it waits for itself. What waits is large, and apart from what waits for it.
pub(crate) async fn with_database_timeout<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer"));
    tokio::time::timeout(DATABASE_TIMEOUT + Duration::from_secs(2), Box::pin(answer))
        .await
        .unwrap_or_else(|_elapsed| Err(silent()))
}

pub(crate) async fn open_pools(server: &PostgresServer) -> Result<PostgresPools, StoreError> {
    let options = server.connect_options();
    // A pool would try again until it is out of patience, and not say why.
    with_database_timeout(async { options.connect().await?.close().await }).await?;
    // As with the file: writes of this process queue here.
    let pools = PostgresPools {
        writer: ReconnectingPool::new(&options, 1),
        readers: ReconnectingPool::new(&options, MAX_READ_CONNECTIONS),
    };
    pools.apply_migrations().await?;
    Ok(pools)
}

/// The tables, by version; as those of the file.
const MIGRATIONS: [&str; 1] = [include_str!("schema/postgres/1.sql")];

impl PostgresPools {
    pub(crate) async fn begin_read(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        self.readers.begin_transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub(crate) async fn begin_write(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        let mut transaction =
            self.writer.begin_transaction("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        // The statements after it see what the last holder committed. The number is `durward` in ASCII.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(28276632160662116)");
        with_database_timeout(lock.execute(&mut *transaction)).await?;
        Ok(transaction)
    }

    pub(crate) async fn close(&self) {
        self.readers.current_pool().1.close().await;
        self.writer.current_pool().1.close().await;
    }

    async fn apply_migrations(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass('durward_schema') IS NOT NULL")
            .fetch_one(&mut *transaction)
            .await?;
        if !is_there {
            sqlx::raw_sql("CREATE TABLE durward_schema (version BIGINT NOT NULL)")
                .execute(&mut *transaction)
                .await?;
        }
        let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM durward_schema")
            .fetch_one(&mut *transaction)
            .await?;
        let applied = usize::try_from(found).ok().filter(|applied| *applied <= MIGRATIONS.len());
        let known = MIGRATIONS.len() as i64;
        let Some(applied) = applied else {
            return Err(StoreError::NewerVersion { found, known });
        };
        for version in MIGRATIONS.iter().skip(applied) {
            sqlx::raw_sql(*version).execute(&mut *transaction).await?;
        }
        if applied < MIGRATIONS.len() {
            sqlx::query("INSERT INTO durward_schema (version) VALUES ($1)")
                .bind(known)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{StoreError, testing, transaction::EngineTransaction};

    #[tokio::test]
    async fn what_is_committed_is_on_disk_whatever_the_server_is_set_to() {
        if !testing::is_postgres() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        testing::open_test_store(&path).await.unwrap();
        testing::tamper_with_store(&path, "ALTER ROLE postgres SET synchronous_commit = off").await;
        let store = testing::open_test_store(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let EngineTransaction::Postgres(at) = write.engine_transaction() else {
            unreachable!("it is a database")
        };
        let set: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut **at).await.unwrap();
        assert_eq!(set, "on");
    }

    #[tokio::test]
    async fn tables_of_a_newer_version_are_refused() {
        if !testing::is_postgres() {
            return;
        }
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
        // What cannot be compressed, and is longer than an entry of a B-tree may be.
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 33) as u8 % 90)
        };
        let long: String = (0..20_000).map(|_| letter()).collect();
        let mut write = store.begin_write().await.unwrap();
        write.record_first_seen(&long, &long, 1).await.unwrap();
        assert!(write.was_seen(&long, &long).await.unwrap());
        write.commit().await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_sees_what_the_writer_before_it_committed_whole() {
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
        assert!(seen, "two wrote at once");
    }
}
