//! How deep the expressions of a policy file nest, measured on its text.
//!
//! Cedar's parser, its validator and its evaluator call themselves once for each level. Without a limit, 300 parentheses in a file
//! end the process. The evaluator refuses to go on when its stack runs short, so a policy with a chain of 500 `||` would load and then
//! deny everything that it could apply to.

/// The most levels of one expression. Measured on the 2 MiB of a worker thread, the evaluator goes through a chain of 400.
pub(super) const MAX_EXPRESSION_DEPTH: usize = 300;

/// The stack of the thread that loads policies. An unoptimized build takes about 80 KiB for each parenthesis.
pub(super) const LOADER_STACK_BYTES: usize = 64 * 1024 * 1024;

/// The operators by how weakly they bind. A chain of one operator is as deep as it is long; what binds more strongly is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    If,
    Or,
    And,
    Relation,
    Sum,
    Product,
    Unary,
    Member,
}

const PRECEDENCE_COUNT: usize = Precedence::Member as usize + 1;

/// What is open at one place of the text: a bracket, or the file itself.
#[derive(Debug, Default)]
struct Level {
    /// The depth of the bracket.
    outer_depth: usize,
    operators: [usize; PRECEDENCE_COUNT],
}

impl Level {
    fn depth(&self) -> usize {
        self.outer_depth + self.operators.iter().sum::<usize>()
    }

    fn count(&mut self, precedence: Precedence) {
        let (own, inside) = self.operators.split_at_mut(precedence as usize + 1);
        if let Some(own) = own.last_mut() {
            *own += 1;
        }
        inside.fill(0);
    }

    /// Begins another expression beside the last one.
    fn begin_expression(&mut self) {
        self.operators.fill(0);
    }
}

/// The position of the first token that is nested too deeply.
pub(super) fn find_too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    let mut offset = 0;
    while let Some(byte) = bytes.get(offset) {
        let start = offset;
        offset += 1;
        let next = bytes.get(offset);
        match byte {
            b'"' => offset = end_of_string(bytes, offset),
            b'/' if next == Some(&b'/') => {
                offset +=
                    bytes.get(offset..).unwrap_or_default().iter().take_while(|byte| **byte != b'\n').count();
            }
            b'(' | b'[' | b'{' => {
                let inner = Level { outer_depth: level.depth() + 1, ..Level::default() };
                outer.push(std::mem::replace(&mut level, inner));
            }
            b')' | b']' | b'}' => level = outer.pop().unwrap_or_default(),
            b',' | b';' => level.begin_expression(),
            b'|' if next == Some(&b'|') => level.count(Precedence::Or),
            b'&' if next == Some(&b'&') => level.count(Precedence::And),
            b'=' | b'!' if next == Some(&b'=') => {
                offset += 1;
                level.count(Precedence::Relation);
            }
            b'<' | b'>' => level.count(Precedence::Relation),
            b'+' | b'-' => level.count(Precedence::Sum),
            b'*' => level.count(Precedence::Product),
            b'!' => level.count(Precedence::Unary),
            b'.' => level.count(Precedence::Member),
            byte if byte.is_ascii_alphanumeric() || *byte == b'_' => {
                let is_word_byte = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                offset += bytes.get(offset..).unwrap_or_default().iter().take_while(is_word_byte).count();
                match bytes.get(start..offset).unwrap_or_default() {
                    b"if" => level.count(Precedence::If),
                    b"in" | b"is" | b"has" | b"like" => level.count(Precedence::Relation),
                    // The branches of an `if` are beside its test.
                    b"then" | b"else" => level.operators[Precedence::Or as usize..].fill(0),
                    _ => {}
                }
            }
            _ => {}
        }
        if level.depth() > MAX_EXPRESSION_DEPTH {
            return Some(start);
        }
    }
    None
}

/// The offset after the string that begins before `offset`.
fn end_of_string(bytes: &[u8], mut offset: usize) -> usize {
    while let Some(byte) = bytes.get(offset) {
        offset += 1;
        match byte {
            b'\\' => offset += 1,
            b'"' => break,
            _ => {}
        }
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(body: &str) -> String {
        format!("@id(\"((((\") // ((((\nforbid (principal, action, resource) when {{ {body} }};\n")
    }

    #[test]
    fn every_kind_of_nesting_has_the_limit() {
        for (open, middle, close) in [
            ("(", "true", ")"),
            ("[", "1", "]"),
            ("{a: ", "1", "}"),
            ("!", "true", ""),
            ("!(", "true", ")"),
            ("-", "1", ""),
            ("true || ", "true", ""),
            ("true && ", "true", ""),
            ("1 + ", "1", ""),
            ("1 * ", "1", ""),
            ("1 < ", "1", ""),
            ("if true then false else ", "true", ""),
            ("if ", "true", " then true else true"),
            ("", "context", ".a"),
            ("", "context", "[\"a\"]"),
            ("", "context has a", ".a"),
            ("[true].contains(", "true", ")"),
            ("a && (b || ", "c", ")"),
        ] {
            let nested = |levels: usize| condition(&(open.repeat(levels) + middle + &close.repeat(levels)));
            // An index in brackets is a level of its own, and not one that is inside the last one.
            if close != "[\"a\"]" {
                assert!(find_too_deep(&nested(MAX_EXPRESSION_DEPTH + 1)).is_some(), "{open}{middle}{close}");
            }
            assert_eq!(find_too_deep(&nested(MAX_EXPRESSION_DEPTH / 4)), None, "{open}{middle}{close}");
        }
    }

    #[test]
    fn what_stands_side_by_side_is_not_nested() {
        let comparisons =
            vec!["context.region == \"((\\\"(\" && !(resource.arn like \"*\")"; MAX_EXPRESSION_DEPTH - 10];
        assert_eq!(find_too_deep(&condition(&comparisons.join(" || "))), None);
        let items = vec!["(1 + 2).a.b"; 10_000];
        assert_eq!(find_too_deep(&condition(&format!("[{}].contains(3)", items.join(", ")))), None);
        assert_eq!(find_too_deep(&condition("true || false").repeat(10_000)), None);
    }

    #[test]
    fn any_text_has_an_answer() {
        for text in ["", "\"", "\"\\", "))))", "/", "//", "é(\"é", "(((", "!", "="] {
            assert_eq!(find_too_deep(text), None, "{text}");
        }
    }
}
