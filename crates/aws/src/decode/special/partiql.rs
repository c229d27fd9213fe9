//! PartiQL statements of DynamoDB, read just far enough to say what they do to which table, and refused wherever more than
//! one reading is possible: comments, second tables, sub-queries, functions over tables.

use super::super::text::{malformed, quote};
use durward_core::{AccessLevel, Refusal};

/// What one statement does.
pub(super) struct Statement {
    pub action: &'static str,
    pub level: AccessLevel,
    pub table: String,
    pub index: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Token {
    /// A bare word, as written.
    Word(String),
    /// A name in double quotes, unescaped.
    Quoted(String),
    /// Text in single quotes.
    Text,
    Mark(char),
}

/// Reads one statement.
pub(super) fn parse(statement: &str) -> Result<Statement, Refusal> {
    let mut tokens = tokens(statement)?;
    if tokens.last() == Some(&Token::Mark(';')) {
        tokens.pop();
    }
    if tokens.contains(&Token::Mark(';')) {
        return Err(ambiguous("holds more than one statement"));
    }
    let verb = word(tokens.first()).ok_or_else(|| ambiguous("does not begin with a word"))?;
    let (action, level, from) = match verb.as_str() {
        "SELECT" => {
            let from = tokens
                .iter()
                .position(|token| word(Some(token)).as_deref() == Some("FROM"))
                .ok_or_else(|| ambiguous("selects from no table"))?;
            ("dynamodb:PartiQLSelect", AccessLevel::Read, from + 1)
        }
        "INSERT" => ("dynamodb:PartiQLInsert", AccessLevel::Write, second(&tokens, "INTO")?),
        "DELETE" => ("dynamodb:PartiQLDelete", AccessLevel::Write, second(&tokens, "FROM")?),
        "UPDATE" => ("dynamodb:PartiQLUpdate", AccessLevel::Write, 1),
        other => {
            return Err(malformed(format!(
                "the statement begins with `{}`, which is not read",
                quote(other)
            )));
        }
    };
    // One verb and one FROM, so that nothing else can name a table.
    let count =
        |wanted: &str| tokens.iter().filter(|token| word(Some(token)).as_deref() == Some(wanted)).count();
    let froms = usize::from(matches!(verb.as_str(), "SELECT" | "DELETE"));
    let others: usize = ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().map(|verb| count(verb)).sum();
    if count("FROM") != froms || others != 1 || count("INTO") != usize::from(verb == "INSERT") {
        return Err(ambiguous("names more than one table or holds a sub-query"));
    }
    for forbidden in ["JOIN", "UNION", "INTERSECT", "EXCEPT", "EXISTS", "UNPIVOT", "WITH", "LET"] {
        if count(forbidden) > 0 {
            return Err(ambiguous("uses a clause that is not read"));
        }
    }
    let table = name(tokens.get(from)).ok_or_else(|| ambiguous("names no table"))?;
    let mut next = from + 1;
    let mut index = None;
    if tokens.get(next) == Some(&Token::Mark('.')) {
        index = Some(name(tokens.get(next + 1)).ok_or_else(|| ambiguous("names no index after the dot"))?);
        next += 2;
    }
    let follows = word(tokens.get(next));
    let ends = tokens.len() == next;
    let fits = match (verb.as_str(), follows.as_deref()) {
        ("SELECT", Some("WHERE" | "ORDER")) | ("DELETE", Some("WHERE")) => true,
        ("SELECT" | "DELETE", None) => ends,
        ("INSERT", Some("VALUE")) => true,
        ("UPDATE", Some("SET" | "REMOVE")) => true,
        _ => false,
    };
    if !fits || (index.is_some() && verb != "SELECT") {
        return Err(ambiguous("goes on after its table in a way that is not read"));
    }
    Ok(Statement { action, level, table, index })
}

fn ambiguous(what: &str) -> Refusal {
    malformed(format!(
        "the partiql statement {what}; send a plain select, insert, update or delete of one table"
    ))
}

fn second(tokens: &[Token], wanted: &str) -> Result<usize, Refusal> {
    if word(tokens.get(1)).as_deref() == Some(wanted) { Ok(2) } else { Err(ambiguous("is not complete")) }
}

/// A bare word in upper case.
fn word(token: Option<&Token>) -> Option<String> {
    match token {
        Some(Token::Word(text)) => Some(text.to_ascii_uppercase()),
        _ => None,
    }
}

fn name(token: Option<&Token>) -> Option<String> {
    match token {
        Some(Token::Quoted(text) | Token::Word(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn tokens(statement: &str) -> Result<Vec<Token>, Refusal> {
    let mut out = Vec::new();
    let mut chars = statement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            _ if c.is_ascii_whitespace() => {}
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        Some(inner) if inner == c => {
                            if chars.peek() != Some(&c) {
                                break;
                            }
                            chars.next();
                            text.push(c);
                        }
                        Some(inner) => text.push(inner),
                        None => return Err(ambiguous("has a quote that does not end")),
                    }
                }
                out.push(if c == '"' { Token::Quoted(text) } else { Token::Text });
            }
            '-' if chars.peek() == Some(&'-') => return Err(ambiguous("holds a comment")),
            '/' if chars.peek() == Some(&'*') => return Err(ambiguous("holds a comment")),
            '`' | '\\' => return Err(ambiguous("holds a literal that is not read")),
            _ if c.is_ascii_alphanumeric() || c == '_' => {
                let mut text = String::from(c);
                while let Some(next) =
                    chars.peek().filter(|next| next.is_ascii_alphanumeric() || **next == '_')
                {
                    text.push(*next);
                    chars.next();
                }
                out.push(Token::Word(text));
            }
            _ if c.is_ascii_graphic() => out.push(Token::Mark(c)),
            _ => return Err(ambiguous("holds a character outside quotes that is not plain ascii")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_one_table_and_what_is_done_to_it() {
        for (text, action, table, index) in [
            ("SELECT * FROM \"Music\" WHERE Artist = 'a; DROP FROM x'", "Select", "Music", None),
            ("select a, b from Music.\"by-year\" where x = ?", "Select", "Music", Some("by-year")),
            ("SELECT * FROM Music;", "Select", "Music", None),
            ("INSERT INTO \"Music\" VALUE {'a': 'SELECT'}", "Insert", "Music", None),
            ("UPDATE \"Music\" SET a = 1 WHERE k = 'it''s'", "Update", "Music", None),
            ("DELETE FROM \"Music\" WHERE k = 1", "Delete", "Music", None),
        ] {
            let read = parse(text).unwrap();
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
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,120}") {
            let _outcome = parse(&text);
        }
    }
}
