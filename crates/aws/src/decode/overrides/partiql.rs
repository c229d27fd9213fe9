//! PartiQL statements of DynamoDB, read just far enough to know the action and the table.
//!
//! Promise: a statement with more than one possible reading is refused: comments, second tables, sub-queries, functions over
//! tables.

use crate::refusals::{malformed_request, quote_for_message};
use durward_core::{AccessLevel, Refusal};

/// One statement.
pub(super) struct PartiqlStatement {
    pub action: &'static str,
    pub access_level: AccessLevel,
    pub table: String,
    pub index: Option<String>,
}

#[derive(Debug, PartialEq)]
enum PartiqlToken {
    /// A bare word, as written.
    Word(String),
    /// A name in double quotes, unescaped.
    Quoted(String),
    /// Text in single quotes.
    Text,
    Symbol(char),
}

/// Reads one statement.
pub(super) fn parse_statement(statement: &str) -> Result<PartiqlStatement, Refusal> {
    let mut tokens = tokenize_statement(statement)?;
    if tokens.last() == Some(&PartiqlToken::Symbol(';')) {
        tokens.pop();
    }
    if tokens.contains(&PartiqlToken::Symbol(';')) {
        return Err(ambiguous_statement("holds more than one statement"));
    }
    let verb = bare_word(tokens.first()).ok_or_else(|| ambiguous_statement("does not begin with a word"))?;
    let (action, level, from) = match verb.as_str() {
        "SELECT" => {
            let from = tokens
                .iter()
                .position(|token| bare_word(Some(token)).as_deref() == Some("FROM"))
                .ok_or_else(|| ambiguous_statement("selects from no table"))?;
            ("dynamodb:PartiQLSelect", AccessLevel::Read, from + 1)
        }
        "INSERT" => ("dynamodb:PartiQLInsert", AccessLevel::Write, expect_second_word(&tokens, "INTO")?),
        "DELETE" => ("dynamodb:PartiQLDelete", AccessLevel::Write, expect_second_word(&tokens, "FROM")?),
        "UPDATE" => ("dynamodb:PartiQLUpdate", AccessLevel::Write, 1),
        other => {
            return Err(malformed_request(format!(
                "the statement begins with `{}`, which is not supported",
                quote_for_message(other)
            )));
        }
    };
    // One verb and one FROM: then nothing else in the statement can name a table.
    let count = |wanted: &str| {
        tokens.iter().filter(|token| bare_word(Some(token)).as_deref() == Some(wanted)).count()
    };
    let froms = usize::from(matches!(verb.as_str(), "SELECT" | "DELETE"));
    let verbs: usize = ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().map(|verb| count(verb)).sum();
    if count("FROM") != froms || verbs != 1 || count("INTO") != usize::from(verb == "INSERT") {
        return Err(ambiguous_statement("names more than one table or holds a sub-query"));
    }
    // Each of these can bring another table into a statement. DynamoDB knows `EXISTS`, in transactions; the rest is refused in
    // case it learns them.
    for forbidden in ["JOIN", "UNION", "INTERSECT", "EXCEPT", "EXISTS", "UNPIVOT", "WITH", "LET"] {
        if count(forbidden) > 0 {
            return Err(ambiguous_statement("uses an unsupported clause"));
        }
    }
    let table = table_or_index_name(tokens.get(from)).ok_or_else(|| ambiguous_statement("names no table"))?;
    let mut next = from + 1;
    let mut index = None;
    if tokens.get(next) == Some(&PartiqlToken::Symbol('.')) {
        index = Some(
            table_or_index_name(tokens.get(next + 1))
                .ok_or_else(|| ambiguous_statement("names no index after the dot"))?,
        );
        next += 2;
    }
    let follows = bare_word(tokens.get(next));
    let ends = tokens.len() == next;
    let fits = match (verb.as_str(), follows.as_deref()) {
        ("SELECT", Some("WHERE" | "ORDER")) | ("DELETE", Some("WHERE")) => true,
        ("SELECT" | "DELETE", None) => ends,
        ("INSERT", Some("VALUE")) => true,
        ("UPDATE", Some("SET" | "REMOVE")) => true,
        _ => false,
    };
    if !fits || (index.is_some() && verb != "SELECT") {
        return Err(ambiguous_statement("continues after its table in an unsupported way"));
    }
    Ok(PartiqlStatement { action, access_level: level, table, index })
}

fn ambiguous_statement(what: &str) -> Refusal {
    malformed_request(format!(
        "the partiql statement {what}; send a plain select, insert, update or delete of one table"
    ))
}

fn expect_second_word(tokens: &[PartiqlToken], wanted: &str) -> Result<usize, Refusal> {
    if bare_word(tokens.get(1)).as_deref() == Some(wanted) {
        Ok(2)
    } else {
        Err(ambiguous_statement("is not complete"))
    }
}

/// A bare word in upper case.
fn bare_word(token: Option<&PartiqlToken>) -> Option<String> {
    match token {
        Some(PartiqlToken::Word(text)) => Some(text.to_ascii_uppercase()),
        _ => None,
    }
}

fn table_or_index_name(token: Option<&PartiqlToken>) -> Option<String> {
    match token {
        Some(PartiqlToken::Quoted(text) | PartiqlToken::Word(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn tokenize_statement(statement: &str) -> Result<Vec<PartiqlToken>, Refusal> {
    let mut out = Vec::new();
    let mut chars = statement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            _ if c.is_ascii_whitespace() => {}
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        // A doubled quote is one quote inside the text (PartiQL specification), not the end of it.
                        Some(inner) if inner == c => {
                            if chars.peek() != Some(&c) {
                                break;
                            }
                            chars.next();
                            text.push(c);
                        }
                        Some(inner) => text.push(inner),
                        None => return Err(ambiguous_statement("has a quote that does not end")),
                    }
                }
                out.push(if c == '"' { PartiqlToken::Quoted(text) } else { PartiqlToken::Text });
            }
            // A comment can hide a table from a reader that skips it otherwise than DynamoDB does.
            '-' if chars.peek() == Some(&'-') => return Err(ambiguous_statement("holds a comment")),
            '/' if chars.peek() == Some(&'*') => return Err(ambiguous_statement("holds a comment")),
            '`' | '\\' => return Err(ambiguous_statement("holds an unsupported literal")),
            _ if c.is_ascii_alphanumeric() || c == '_' => {
                let mut text = String::from(c);
                while let Some(next) =
                    chars.peek().filter(|next| next.is_ascii_alphanumeric() || **next == '_')
                {
                    text.push(*next);
                    chars.next();
                }
                out.push(PartiqlToken::Word(text));
            }
            _ if c.is_ascii_graphic() => out.push(PartiqlToken::Symbol(c)),
            _ => return Err(ambiguous_statement("holds a character outside quotes that is not plain ascii")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_action_and_the_table() {
        for (text, action, table, index) in [
            ("SELECT * FROM \"Music\" WHERE Artist = 'a; DROP FROM x'", "Select", "Music", None),
            ("select a, b from Music.\"by-year\" where x = ?", "Select", "Music", Some("by-year")),
            ("SELECT * FROM Music;", "Select", "Music", None),
            ("INSERT INTO \"Music\" VALUE {'a': 'SELECT'}", "Insert", "Music", None),
            ("UPDATE \"Music\" SET a = 1 WHERE k = 'it''s'", "Update", "Music", None),
            ("DELETE FROM \"Music\" WHERE k = 1", "Delete", "Music", None),
        ] {
            let read = parse_statement(text).unwrap();
            assert_eq!(read.action, format!("dynamodb:PartiQL{action}"), "{text}");
            assert_eq!((read.table.as_str(), read.index.as_deref()), (table, index), "{text}");
        }
    }

    #[test]
    fn refuses_statements_with_a_second_reading() {
        for text in [
            "",
            "DROP TABLE x",
            "SELECT * FROM a, b",
            "SELECT * FROM a JOIN b ON 1=1",
            "SELECT (SELECT * FROM b) FROM a",
            "SELECT * FROM a -- FROM b",
            "SELECT * FROM a /* x */ WHERE y = 1",
            "SELECT * FROM a; DELETE FROM b",
            "EXISTS(SELECT * FROM a WHERE k = 1)",
            "SELECT * FROM \"a",
            "SELECT * FROM a AS b",
            "UPDATE a b SET x = 1",
            "INSERT INTO a VALUES (1)",
            "SELECT * FROM a WHERE x = `ion`",
            "SELECT * FROM a\u{a0}WHERE x = 1",
            "DELETE FROM a.b WHERE x = 1",
        ] {
            assert!(parse_statement(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,120}") {
            let _outcome = parse_statement(&text);
        }
    }
}
