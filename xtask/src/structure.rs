//! `cargo xtask structure [DIRECTORY]`: measures how readable the source is, by figures that anyone can repeat.
//!
//! It prints, for each crate below `DIRECTORY/crates` (or for `DIRECTORY` itself where that is one crate): import circles
//! between its modules, type names that it defines more than once, `Result<_, String>` in signatures, and the share of test
//! lines; and over all of them the length of definition names, the share of one-word names and of inline comments.
//! Given a checkout of another project, it prints the same for that, so that figures stand side by side.
//!
//! Code under `#[cfg(test)]`, `tests/`, `benches/` and `examples/` counts as test code and in no other figure.

mod circles;
mod definitions;
mod source_files;

use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use definitions::Definitions;
use source_files::{CrateSource, SourceFile};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The figures of one crate.
struct CrateFigures {
    name: String,
    modules: usize,
    circles: Vec<Vec<String>>,
    repeated_types: Vec<String>,
    string_errors: usize,
    code_lines: usize,
    test_lines: usize,
    comment_lines: usize,
    names: Vec<String>,
}

/// Measures the source below `directory`, by default this repository, and prints the tables.
pub fn measure_and_print(directory: Option<PathBuf>) -> Result<(), XtaskError> {
    let directory = match directory {
        Some(directory) => directory,
        None => Repository::locate()?.root,
    };
    let crates = source_files::find_crates(&directory)?;
    if crates.is_empty() {
        return Err(XtaskError::NoCrate(directory));
    }
    let figures: Vec<CrateFigures> = crates.iter().map(measure_crate).collect();
    print_crates(&figures);
    print_totals(&figures);
    Ok(())
}

fn measure_crate(source: &CrateSource) -> CrateFigures {
    let product: Vec<&SourceFile> = source.files.iter().filter(|file| !file.is_test).collect();
    let mut definitions = Definitions::default();
    for file in &product {
        definitions.read(&file.syntax);
    }
    CrateFigures {
        name: source.name.clone(),
        modules: product.len(),
        circles: circles::find_circles(&product),
        repeated_types: repeated(&definitions.types),
        string_errors: definitions.string_errors,
        code_lines: product.iter().map(|file| file.code_lines).sum(),
        test_lines: source.files.iter().map(|file| file.test_lines).sum(),
        comment_lines: product.iter().map(|file| file.comment_lines).sum(),
        names: definitions.names,
    }
}

fn repeated(names: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().filter(|(_name, count)| *count > 1).map(|(name, _count)| name.to_owned()).collect()
}

fn print_crates(figures: &[CrateFigures]) {
    println!(
        "{:<22} {:>7} {:>7} {:>14} {:>18} {:>10} {:>7}",
        "crate", "modules", "circles", "repeated types", "Result<_, String>", "test lines", "share"
    );
    for one in figures {
        println!(
            "{:<22} {:>7} {:>7} {:>14} {:>18} {:>10} {:>5.0} %",
            one.name,
            one.modules,
            one.circles.len(),
            one.repeated_types.len(),
            one.string_errors,
            one.test_lines,
            percent(one.test_lines, one.test_lines + one.code_lines),
        );
    }
    for one in figures {
        for circle in &one.circles {
            println!("circle in {}: {}", one.name, circle.join(", "));
        }
        if !one.repeated_types.is_empty() {
            println!("defined more than once in {}: {}", one.name, one.repeated_types.join(", "));
        }
    }
}

fn print_totals(figures: &[CrateFigures]) {
    let mut lengths: Vec<usize> =
        figures.iter().flat_map(|one| &one.names).map(|name| name.chars().count()).collect();
    lengths.sort_unstable();
    let one_word = figures.iter().flat_map(|one| &one.names).filter(|name| is_one_word(name)).count();
    let total: usize = lengths.iter().sum();
    let code: usize = figures.iter().map(|one| one.code_lines).sum();
    let tests: usize = figures.iter().map(|one| one.test_lines).sum();
    let comments: usize = figures.iter().map(|one| one.comment_lines).sum();
    println!();
    println!("definition names        {}", lengths.len());
    println!(
        "  length                median {}, mean {:.1} characters",
        lengths.get(lengths.len() / 2).copied().unwrap_or_default(),
        total as f64 / lengths.len().max(1) as f64
    );
    println!("  of one word           {:.0} %", percent(one_word, lengths.len()));
    println!("code lines              {code}");
    println!("test lines              {tests} ({:.0} %)", percent(tests, tests + code));
    println!("inline comments         {:.1} for 100 code lines", percent(comments, code));
    println!("import circles          {}", figures.iter().map(|one| one.circles.len()).sum::<usize>());
    println!("repeated type names     {}", figures.iter().map(|one| one.repeated_types.len()).sum::<usize>());
    println!("Result<_, String>       {}", figures.iter().map(|one| one.string_errors).sum::<usize>());
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Whether a name, in either of Rust's spellings, is a single word.
fn is_one_word(name: &str) -> bool {
    let name = name.trim_matches('_');
    if name.contains('_') {
        return false;
    }
    // `ARN` and `MAX` are one word, and so is `Arn`; `ArnParts` is two.
    let mut humps = 0;
    let mut previous_is_upper = false;
    for character in name.chars() {
        let upper = character.is_uppercase();
        if upper && !previous_is_upper {
            humps += 1;
        }
        previous_is_upper = upper;
    }
    humps <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_both_spellings() {
        for name in ["ask", "Ask", "MAX", "Arn", "_unused"] {
            assert!(is_one_word(name), "{name}");
        }
        for name in ["ApprovalRequest", "cast_vote", "MAX_BODY", "ArnParts"] {
            assert!(!is_one_word(name), "{name}");
        }
    }

    #[test]
    fn only_names_that_repeat_are_listed() {
        let names = ["A", "B", "A", "C"].map(str::to_owned);
        assert_eq!(repeated(&names), ["A"]);
    }
}
