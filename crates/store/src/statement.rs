//! One statement of SQL with its values, for either engine. The SQL is what both understand: `$1`, TEXT, 64-bit integers, bytes.

use crate::{StoreError, Transaction, postgres::bounded, transaction::Engine};
use sqlx::{
    Database, Decode, Encode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, query::Query,
    sqlite::SqliteRow,
};

/// A value for a `$n`.
#[derive(Debug)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

/// 1 or 0: there is no type for it that both engines have.
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Option<&String>> for Value {
    fn from(value: Option<&String>) -> Self {
        Self::Text(value.cloned())
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(value.clone())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

#[derive(Debug)]
pub(crate) struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

pub(crate) fn statement(sql: &'static str) -> Statement {
    Statement { sql, values: Vec::new() }
}

impl Statement {
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns how many rows were changed.
    pub(crate) async fn execute(self, transaction: &mut Transaction) -> Result<u64, StoreError> {
        let done = match transaction.engine() {
            Engine::Sqlite(at) => {
                query::<Sqlite>(self).execute(&mut **at).await.map(|done| done.rows_affected())
            }
            Engine::Postgres(at) => {
                bounded(query::<Postgres>(self).execute(&mut **at)).await.map(|done| done.rows_affected())
            }
        };
        transaction.note(done)
    }

    pub(crate) async fn all(self, transaction: &mut Transaction) -> Result<Vec<Row>, StoreError> {
        let rows = match transaction.engine() {
            Engine::Sqlite(at) => {
                let rows = query::<Sqlite>(self).fetch_all(&mut **at).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            Engine::Postgres(at) => {
                let rows = bounded(query::<Postgres>(self).fetch_all(&mut **at)).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        transaction.note(rows)
    }

    pub(crate) async fn optional(self, transaction: &mut Transaction) -> Result<Option<Row>, StoreError> {
        let row = match transaction.engine() {
            Engine::Sqlite(at) => {
                query::<Sqlite>(self).fetch_optional(&mut **at).await.map(|row| row.map(Row::Sqlite))
            }
            Engine::Postgres(at) => bounded(query::<Postgres>(self).fetch_optional(&mut **at))
                .await
                .map(|row| row.map(Row::Postgres)),
        };
        transaction.note(row)
    }

    /// The first column of the one row.
    pub(crate) async fn scalar<T: Column>(self, transaction: &mut Transaction) -> Result<T, StoreError> {
        let row = self.optional(transaction).await?;
        row.ok_or_else(|| StoreError::Damaged("a row that is always there is missing".to_owned()))?.get(0)
    }
}

fn query<'q, DB: Database>(statement: Statement) -> Query<'q, DB, DB::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<String>: Encode<'q, DB> + Type<DB>,
    Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    statement.values.into_iter().fold(sqlx::query(statement.sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    })
}

/// What a column of both engines can be read as.
pub(crate) trait Column:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// What was bound as a `bool`.
    pub(crate) fn is(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.get::<i64>(column)? != 0)
    }
}
