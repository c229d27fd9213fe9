//! What is wrong with a policy directory, told so that a person can fix it: file, line, column, policy, excerpt, remedy.

use std::{fmt, path::PathBuf};

/// The source line a problem is in, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub text: String,
    /// First marked character, counted from 0.
    pub from: usize,
    /// Marked characters, at least 1.
    pub length: usize,
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line and column from 1; none: the file or directory as a whole.
    pub place: Option<(usize, usize)>,
    pub policy: Option<String>,
    pub message: String,
    pub help: Option<String>,
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// A problem with a file or directory as a whole.
    pub(crate) fn whole(
        file: impl Into<PathBuf>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            place: None,
            policy: None,
            message: message.into(),
            help: Some(help.into()).filter(|text: &String| !text.is_empty()),
            excerpt: None,
        }
    }

    /// A problem at bytes `offset..offset + length` of `text`.
    pub(crate) fn at(file: impl Into<PathBuf>, text: &str, offset: usize, length: usize) -> Self {
        let offset = floor(text, offset.min(text.len()));
        let end = floor(text, (offset + length).min(text.len()));
        let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        let line = text[..offset].matches('\n').count() + 1;
        let from = text[line_start..offset].chars().count();
        let marked = text[offset..end.min(line_end).max(offset)].chars().count().max(1);
        Self {
            file: file.into(),
            place: Some((line, from + 1)),
            policy: None,
            message: String::new(),
            help: None,
            excerpt: Some(Excerpt {
                text: text[line_start..line_end].trim_end().to_owned(),
                from,
                length: marked,
            }),
        }
    }

    pub(crate) fn policy(mut self, id: impl Into<String>) -> Self {
        self.policy = Some(id.into());
        self
    }

    pub(crate) fn says(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        if !help.is_empty() {
            self.help = Some(help);
        }
        self
    }
}

/// The nearest character boundary at or before `offset`.
fn floor(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": ")?;
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        write!(f, "{}", self.message)?;
        if let (Some(excerpt), Some((line, _))) = (&self.excerpt, self.place) {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            // Tabs keep their width under the caret because they are repeated there.
            let indent: String = excerpt
                .text
                .chars()
                .take(excerpt.from)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n {gutter} |\n {number} | {}", excerpt.text)?;
            write!(f, "\n {gutter} | {indent}{}", "^".repeat(excerpt.length))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   help: {help}")?;
        }
        Ok(())
    }
}

/// Why a policy directory was not put in force: every problem found, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    problems: Vec<Problem>,
}

impl LoadError {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        Self { problems }
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for LoadError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_the_place_under_the_source_line() {
        let text = "permit (principal,\n\taction == \"é\", resource);\n";
        let offset = text.find("\"é\"").unwrap_or_default();
        let problem = Problem::at("a.cedar", text, offset, "\"é\"".len()).policy("a.1").says("no").help("do");
        assert_eq!(
            problem.to_string(),
            "a.cedar:2:12: policy `a.1`: no\n   |\n 2 | \taction == \"é\", resource);\n   | \t          ^^^\n   help: do"
        );
    }

    #[test]
    fn survives_offsets_outside_the_text() {
        assert_eq!(Problem::at("a", "é", 1, 9).place, Some((1, 1)));
        assert_eq!(Problem::at("a", "x", 40, 9).place, Some((1, 2)));
        assert_eq!(Problem::at("a", "", 0, 0).place, Some((1, 1)));
    }
}
