//! One SQL statement with its values, for either engine. The SQL keeps to what both understand: `$1`, text, 64-bit integers and
//! bytes.

use crate::{StoreError, StoreTransaction, postgres::with_database_timeout, transaction::EngineTransaction};
use sqlx::{
    Database, Decode, Encode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, query::Query,
    sqlite::SqliteRow,
};

/// A value for a `$n`.
#[derive(Debug)]
pub(crate) enum SqlValue {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for SqlValue {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

/// A boolean is 1 or 0: there is no boolean type that both engines have.
impl From<bool> for SqlValue {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<&String> for SqlValue {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<&Option<String>> for SqlValue {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Option<&String>> for SqlValue {
    fn from(value: Option<&String>) -> Self {
        Self::Text(value.cloned())
    }
}

impl From<&Vec<u8>> for SqlValue {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(value.clone())
    }
}

impl From<Option<&str>> for SqlValue {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<&[u8]> for SqlValue {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

#[derive(Debug)]
pub(crate) struct SqlStatement {
    sql: &'static str,
    values: Vec<SqlValue>,
}

pub(crate) fn sql_statement(sql: &'static str) -> SqlStatement {
    SqlStatement { sql, values: Vec::new() }
}

impl SqlStatement {
    pub(crate) fn bind(mut self, value: impl Into<SqlValue>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs the statement and returns how many rows it changed.
    pub(crate) async fn execute(self, transaction: &mut StoreTransaction) -> Result<u64, StoreError> {
        let done = match transaction.engine_transaction() {
            EngineTransaction::Sqlite(at) => {
                build_query::<Sqlite>(self).execute(&mut **at).await.map(|done| done.rows_affected())
            }
            EngineTransaction::Postgres(at) => {
                with_database_timeout(build_query::<Postgres>(self).execute(&mut **at))
                    .await
                    .map(|done| done.rows_affected())
            }
        };
        transaction.track_failure(done)
    }

    pub(crate) async fn fetch_all(
        self,
        transaction: &mut StoreTransaction,
    ) -> Result<Vec<SqlRow>, StoreError> {
        let rows = match transaction.engine_transaction() {
            EngineTransaction::Sqlite(at) => {
                let rows = build_query::<Sqlite>(self).fetch_all(&mut **at).await;
                rows.map(|rows| rows.into_iter().map(SqlRow::Sqlite).collect())
            }
            EngineTransaction::Postgres(at) => {
                let rows = with_database_timeout(build_query::<Postgres>(self).fetch_all(&mut **at)).await;
                rows.map(|rows| rows.into_iter().map(SqlRow::Postgres).collect())
            }
        };
        transaction.track_failure(rows)
    }

    pub(crate) async fn fetch_optional(
        self,
        transaction: &mut StoreTransaction,
    ) -> Result<Option<SqlRow>, StoreError> {
        let row = match transaction.engine_transaction() {
            EngineTransaction::Sqlite(at) => {
                build_query::<Sqlite>(self).fetch_optional(&mut **at).await.map(|row| row.map(SqlRow::Sqlite))
            }
            EngineTransaction::Postgres(at) => {
                with_database_timeout(build_query::<Postgres>(self).fetch_optional(&mut **at))
                    .await
                    .map(|row| row.map(SqlRow::Postgres))
            }
        };
        transaction.track_failure(row)
    }

    /// Fetches the first column of the one row.
    pub(crate) async fn fetch_scalar<T: ColumnValue>(
        self,
        transaction: &mut StoreTransaction,
    ) -> Result<T, StoreError> {
        let row = self.fetch_optional(transaction).await?;
        // No row is no zero: a missing row of `meta` would reset the change number or the clock.
        row.ok_or_else(|| StoreError::Corrupt("a row that must exist is missing".to_owned()))?.get(0)
    }
}

fn build_query<'q, DB: Database>(statement: SqlStatement) -> Query<'q, DB, DB::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<String>: Encode<'q, DB> + Type<DB>,
    Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    statement.values.into_iter().fold(sqlx::query(statement.sql), |query, value| match value {
        SqlValue::Int(value) => query.bind(value),
        SqlValue::Text(value) => query.bind(value),
        SqlValue::Bytes(value) => query.bind(value),
    })
}

/// A type that a column of either engine can be read as.
pub(crate) trait ColumnValue:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> ColumnValue for T where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

#[derive(Debug)]
pub(crate) enum SqlRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl SqlRow {
    pub(crate) fn get<T: ColumnValue>(&self, column: usize) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// A column that was bound as a `bool`.
    pub(crate) fn get_bool(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.get::<i64>(column)? != 0)
    }
}
