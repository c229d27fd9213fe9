//! How many tests a runner ran, from the lines with which it ends.

/// How many tests a step ran, by its runner's own count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TestCount {
    pub passed: u32,
    pub failed: u32,
}

impl TestCount {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Reads the closing line of cargo test, pytest, node's runner, Maven Surefire, or our own Go summary.
pub fn parse_summary_line(line: &str) -> Option<TestCount> {
    let line = strip_ansi_colours(line);
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        return Some(TestCount {
            passed: number_before(rest, "passed")?,
            failed: number_before(rest, "failed")?,
        });
    }
    let maven = ["[INFO] ", "[WARNING] ", "[ERROR] "].into_iter().find_map(|level| line.strip_prefix(level));
    if let Some(rest) = maven.and_then(|line| line.strip_prefix("Tests run: "))
        && !line.contains("Time elapsed")
    {
        let after = |word: &str| rest.split(word).nth(1).and_then(leading_number);
        let failed = after("Failures: ")? + after("Errors: ")?;
        return Some(TestCount { passed: leading_number(rest)? - failed - after("Skipped: ")?, failed });
    }
    if let Some(rest) = line.strip_prefix("ℹ pass ").or_else(|| line.strip_prefix("# pass ")) {
        return Some(TestCount { passed: leading_number(rest)?, failed: 0 });
    }
    if let Some(rest) = line.strip_prefix("ℹ fail ").or_else(|| line.strip_prefix("# fail ")) {
        return Some(TestCount { passed: 0, failed: leading_number(rest)? });
    }
    // go test -v: one line for each test; subtests are indented and belong to theirs
    if line.starts_with("--- PASS: ") {
        return Some(TestCount { passed: 1, failed: 0 });
    }
    if line.starts_with("--- FAIL: ") {
        return Some(TestCount { passed: 0, failed: 1 });
    }
    let bare = line.trim_matches(|c| c == '=' || c == ' ');
    // pytest: `5 passed in 3.03s`, and after a minute `5 passed in 97.30s (0:01:37)`.
    let timed = bare.split_once(" in ").and_then(|(_counts, time)| time.split_whitespace().next());
    if timed.is_some_and(|time| time.ends_with('s')) && (bare.contains(" passed") || bare.contains(" failed"))
    {
        let errors = number_before(bare, "error").or_else(|| number_before(bare, "errors")).unwrap_or(0);
        let failed = number_before(bare, "failed").unwrap_or(0) + errors;
        return Some(TestCount { passed: number_before(bare, "passed").unwrap_or(0), failed });
    }
    None
}

fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The number right before the word.
fn number_before(text: &str, word: &str) -> Option<u32> {
    let words: Vec<&str> = text.split_whitespace().map(|part| part.trim_matches([',', ';', '.'])).collect();
    words.windows(2).find(|pair| pair.get(1) == Some(&word)).and_then(|pair| pair.first()?.parse().ok())
}

/// The line without terminal colours.
pub fn strip_ansi_colours(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            for skipped in characters.by_ref() {
                if skipped.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_of_each_runner() {
        let read = |line| parse_summary_line(line).map(|count| (count.passed, count.failed));
        assert_eq!(
            read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"),
            Some((3, 2))
        );
        assert_eq!(read("2 failed, 64 passed, 3 skipped in 7.13s"), Some((64, 2)));
        assert_eq!(read("= 1 failed, 2 passed, 3 errors in 0.50s ="), Some((2, 4)));
        assert_eq!(read("139 passed, 50 skipped in 97.30s (0:01:37)"), Some((139, 0)));
        assert_eq!(read("\u{1b}[32m5 passed in 3.03s\u{1b}[0m"), Some((5, 0)));
        assert_eq!(read("\u{1b}[34mℹ pass 12\u{1b}[39m"), Some((12, 0)));
        assert_eq!(read("# fail 1"), Some((0, 1)));
        assert_eq!(read("[INFO] Tests run: 9, Failures: 0, Errors: 0, Skipped: 1"), Some((8, 0)));
        assert_eq!(read("[WARNING] Tests run: 29, Failures: 0, Errors: 0, Skipped: 13"), Some((16, 0)));
        assert_eq!(read("[ERROR] Tests run: 9, Failures: 2, Errors: 1, Skipped: 0"), Some((6, 3)));
        assert_eq!(read("--- PASS: TestSignsIn (0.02s)"), Some((1, 0)));
        assert_eq!(read("--- FAIL: TestSignsIn (0.02s)"), Some((0, 1)));
    }

    #[test]
    fn other_lines_are_not_closing_lines() {
        for line in [
            "[INFO] Tests run: 1, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.082 s -- in durward.ProbeTest",
            "5.07s call     test_messaging.py::test_topic_fans_out_to_a_queue",
            "test_x passed",
            "",
        ] {
            assert_eq!(parse_summary_line(line), None, "{line}");
        }
    }
}
