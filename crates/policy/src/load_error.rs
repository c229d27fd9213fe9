//! The problems of a policy directory, with all that a person needs to fix them: file, line, column, policy, excerpt, remedy.

use std::{fmt, path::PathBuf};

/// The source line of a problem, and the marked part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceExcerpt {
    pub text: String,
    /// The first marked character, counted from 0.
    pub marked_start: usize,
    /// The number of marked characters, at least 1.
    pub marked_length: usize,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    pub file: PathBuf,
    /// Line and column, counted from 1. `None`: the file or directory as a whole.
    pub position: Option<(usize, usize)>,
    pub policy_id: Option<String>,
    pub message: String,
    pub help: Option<String>,
    pub excerpt: Option<SourceExcerpt>,
}

impl PolicyProblem {
    /// A problem with a file or directory as a whole.
    pub(crate) fn of_file(
        file: impl Into<PathBuf>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            position: None,
            policy_id: None,
            message: message.into(),
            help: Some(help.into()).filter(|text: &String| !text.is_empty()),
            excerpt: None,
        }
    }

    /// A problem at bytes `offset..offset + length` of `text`.
    pub(crate) fn at_offset(file: impl Into<PathBuf>, text: &str, offset: usize, length: usize) -> Self {
        let offset = text.floor_char_boundary(offset);
        let end = text.floor_char_boundary(offset + length);
        let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        let line = text[..offset].matches('\n').count() + 1;
        let from = text[line_start..offset].chars().count();
        let marked = text[offset..end.min(line_end).max(offset)].chars().count().max(1);
        Self {
            file: file.into(),
            position: Some((line, from + 1)),
            policy_id: None,
            message: String::new(),
            help: None,
            excerpt: Some(SourceExcerpt {
                text: text[line_start..line_end].trim_end().to_owned(),
                marked_start: from,
                marked_length: marked,
            }),
        }
    }

    pub(crate) fn with_policy_id(mut self, id: impl Into<String>) -> Self {
        self.policy_id = Some(id.into());
        self
    }

    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        if !help.is_empty() {
            self.help = Some(help);
        }
        self
    }
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": ")?;
        if let Some(policy) = &self.policy_id {
            write!(f, "policy `{policy}`: ")?;
        }
        write!(f, "{}", self.message)?;
        if let (Some(excerpt), Some((line, _))) = (&self.excerpt, self.position) {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            // A tab is repeated under the source line, so that the caret stays below the marked text.
            let indent: String = excerpt
                .text
                .chars()
                .take(excerpt.marked_start)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n {gutter} |\n {number} | {}", excerpt.text)?;
            write!(f, "\n {gutter} | {indent}{}", "^".repeat(excerpt.marked_length))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   help: {help}")?;
        }
        Ok(())
    }
}

/// Why a policy directory was not loaded: every problem, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLoadError {
    problems: Vec<PolicyProblem>,
}

impl PolicyLoadError {
    pub(crate) fn new(mut problems: Vec<PolicyProblem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
        Self { problems }
    }

    pub(crate) fn into_problems(self) -> Vec<PolicyProblem> {
        self.problems
    }

    pub fn problems(&self) -> &[PolicyProblem] {
        &self.problems
    }
}

impl From<PolicyProblem> for PolicyLoadError {
    fn from(problem: PolicyProblem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for PolicyLoadError {
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

impl std::error::Error for PolicyLoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_the_position_under_the_source_line() {
        let text = "permit (principal,\n\taction == \"é\", resource);\n";
        let offset = text.find("\"é\"").unwrap_or_default();
        let problem = PolicyProblem::at_offset("a.cedar", text, offset, "\"é\"".len())
            .with_policy_id("a.1")
            .with_message("no")
            .with_help("do");
        assert_eq!(
            problem.to_string(),
            "a.cedar:2:12: policy `a.1`: no\n   |\n 2 | \taction == \"é\", resource);\n   | \t          ^^^\n   help: do"
        );
    }

    #[test]
    fn survives_offsets_outside_the_text() {
        assert_eq!(PolicyProblem::at_offset("a", "é", 1, 9).position, Some((1, 1)));
        assert_eq!(PolicyProblem::at_offset("a", "x", 40, 9).position, Some((1, 2)));
        assert_eq!(PolicyProblem::at_offset("a", "", 0, 0).position, Some((1, 1)));
    }
}
