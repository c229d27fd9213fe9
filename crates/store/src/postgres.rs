//! The state of several gateways: a database of PostgreSQL, 12 or later.
//!
//! Writers exclude each other by one advisory lock, as the file's do by its lock: what one has read stays so until it commits.
//! That is safe at every isolation level, and the state is written a few times for an ask, not for every request.

use crate::{PATIENCE, READERS, StoreError};
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
pub struct Server {
    /// A name or address; or, with a slash, the directory of its Unix socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    /// PEM file of the authority that signed its certificate; none: a public one.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl Server {
    pub(crate) fn options(&self) -> PgConnectOptions {
        let patience = PATIENCE.as_millis().to_string();
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
        match &self.ca {
            Some(ca) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca),
            None if is_here => options.ssl_mode(PgSslMode::Disable),
            None => options.ssl_mode(PgSslMode::VerifyFull),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pools {
    writer: Connections,
    readers: Connections,
}

/// Connections that are replaced when they do not answer: those of a server that vanished would be waited for until TCP gives up.
#[derive(Debug)]
struct Connections {
    options: PgConnectOptions,
    most: u32,
    /// With its number.
    pool: RwLock<(u64, PgPool)>,
}

impl Connections {
    fn new(options: &PgConnectOptions, most: u32) -> Self {
        Self { options: options.clone(), most, pool: RwLock::new((0, Self::pool(options, most))) }
    }

    fn pool(options: &PgConnectOptions, most: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone())
    }

    fn current(&self) -> (u64, PgPool) {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn begin(&self, sql: &'static str) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        let (number, pool) = self.current();
        let begun = bounded(pool.begin_with(sql)).await;
        if matches!(begun, Err(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_))) {
            let mut now = self.pool.write().unwrap_or_else(PoisonError::into_inner);
            // Another may have replaced it meanwhile.
            if now.0 == number {
                *now = (number + 1, Self::pool(&self.options, self.most));
            }
        }
        Ok(begun?)
    }
}

/// Waits for the server no longer than it waits for itself. What waits is large, and apart from what waits for it.
pub(crate) async fn bounded<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer"));
    tokio::time::timeout(PATIENCE + Duration::from_secs(2), Box::pin(answer))
        .await
        .unwrap_or_else(|_elapsed| Err(silent()))
}

pub(crate) async fn open(server: &Server) -> Result<Pools, StoreError> {
    let options = server.options();
    // A pool would try again until it is out of patience, and not say why.
    bounded(async { options.connect().await?.close().await }).await?;
    // As with the file: writes of this process queue here.
    let pools = Pools { writer: Connections::new(&options, 1), readers: Connections::new(&options, READERS) };
    pools.apply().await?;
    Ok(pools)
}

/// The tables, by version; as those of the file.
const VERSIONS: [&str; 1] = [include_str!("schema/postgres/1.sql")];

impl Pools {
    pub(crate) async fn read(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        self.readers.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub(crate) async fn write(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.writer.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        // The statements after it see what the last holder committed. The number is `durward` in ASCII.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(28276632160662116)");
        bounded(lock.execute(&mut *transaction)).await?;
        Ok(transaction)
    }

    pub(crate) async fn close(&self) {
        self.readers.current().1.close().await;
        self.writer.current().1.close().await;
    }

    async fn apply(&self) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
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
        let applied = usize::try_from(found).ok().filter(|applied| *applied <= VERSIONS.len());
        let known = VERSIONS.len() as i64;
        let Some(applied) = applied else {
            return Err(StoreError::Newer { found, known });
        };
        for version in VERSIONS.iter().skip(applied) {
            sqlx::raw_sql(*version).execute(&mut *transaction).await?;
        }
        if applied < VERSIONS.len() {
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
    use crate::{StoreError, testing, transaction::Engine};

    #[tokio::test]
    async fn what_is_committed_is_on_disk_whatever_the_server_is_set_to() {
        if !testing::is_postgres() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        testing::open(&path).await.unwrap();
        testing::tamper(&path, "ALTER ROLE postgres SET synchronous_commit = off").await;
        let store = testing::open(&path).await.unwrap();
        let mut write = store.write().await.unwrap();
        let Engine::Postgres(at) = write.engine() else { unreachable!("it is a database") };
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
        testing::open(&path).await.unwrap();
        testing::tamper(&path, "INSERT INTO durward_schema VALUES (99)").await;
        let refused = testing::open(&path).await;
        assert!(matches!(refused, Err(StoreError::Newer { found: 99, known: 1 })), "{refused:?}");
    }

    #[tokio::test]
    async fn an_ask_of_a_caller_in_very_many_groups_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(&directory.path().join("s.db")).await.unwrap();
        // What cannot be compressed, and is longer than an entry of a B-tree may be.
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 33) as u8 % 90)
        };
        let long: String = (0..20_000).map(|_| letter()).collect();
        let mut write = store.write().await.unwrap();
        write.note_seen(&long, &long, 1).await.unwrap();
        assert!(write.was_seen(&long, &long).await.unwrap());
        write.commit().await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_sees_what_the_writer_before_it_committed_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let (one, other) = (testing::open(&path).await.unwrap(), testing::open(&path).await.unwrap());
        let mut first = one.write().await.unwrap();
        let writes = async {
            for at in 0..100 {
                first.note_seen("a", &at.to_string(), 1).await.unwrap();
            }
            first.commit().await.unwrap();
        };
        let reads = async {
            let mut second = other.write().await.unwrap();
            second.was_seen("a", "99").await.unwrap()
        };
        let (seen, ()) = tokio::join!(reads, writes);
        assert!(seen, "two wrote at once");
    }
}
