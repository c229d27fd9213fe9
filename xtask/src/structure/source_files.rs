//! Finds the crates of a checkout and reads each of their source files once.

use crate::xtask_error::XtaskError;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned as _;

/// A crate and its source files.
pub struct CrateSource {
    pub name: String,
    pub files: Vec<SourceFile>,
}

/// One source file, with the lines of its test modules counted apart.
pub struct SourceFile {
    /// Its module path below the crate, `["store", "sqlite"]`; empty for the crate root.
    pub module: Vec<String>,
    /// Without its `#[cfg(test)]` items.
    pub syntax: syn::File,
    /// The whole file is test code.
    pub is_test: bool,
    /// Names of the modules that it declares under `#[cfg(test)]` and keeps in files of their own.
    pub test_modules: Vec<String>,
    pub code_lines: usize,
    pub test_lines: usize,
    pub comment_lines: usize,
}

/// The crates below `directory/crates`, or `directory` itself.
pub fn find_crates(directory: &Path) -> Result<Vec<CrateSource>, XtaskError> {
    let members = directory.join("crates");
    let mut roots: Vec<PathBuf> = if members.is_dir() {
        list_directory(&members)?
    } else if directory.join("src").is_dir() {
        vec![directory.to_path_buf()]
    } else {
        list_directory(directory)?
    };
    roots.retain(|root| root.join("src").is_dir());
    roots.sort();
    roots.iter().map(|root| read_crate(root)).collect()
}

fn read_crate(root: &Path) -> Result<CrateSource, XtaskError> {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = Vec::new();
    for (folder, is_test) in [("src", false), ("tests", true), ("benches", true), ("examples", true)] {
        let folder = root.join(folder);
        if folder.is_dir() {
            read_folder(&folder, &folder, is_test, &mut files)?;
        }
    }
    mark_declared_test_modules(&mut files);
    Ok(CrateSource { name, files })
}

/// A file is test code too where its module, or one above it, is declared under `#[cfg(test)]`.
fn mark_declared_test_modules(files: &mut [SourceFile]) {
    let declared: Vec<Vec<String>> = files
        .iter()
        .flat_map(|file| {
            file.test_modules.iter().map(|name| [file.module.as_slice(), std::slice::from_ref(name)].concat())
        })
        .collect();
    for file in files.iter_mut().filter(|file| !file.is_test) {
        if declared.iter().any(|module| file.module.starts_with(module)) {
            file.is_test = true;
            file.test_lines += std::mem::take(&mut file.code_lines) + std::mem::take(&mut file.comment_lines);
        }
    }
}

fn read_folder(
    top: &Path,
    folder: &Path,
    is_test: bool,
    files: &mut Vec<SourceFile>,
) -> Result<(), XtaskError> {
    for path in list_directory(folder)? {
        if path.is_dir() {
            // The inputs of compile-fail tests do not compile, and need not parse.
            if !path.ends_with("compile_fail") {
                read_folder(top, &path, is_test, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(read_file(top, &path, is_test)?);
        }
    }
    Ok(())
}

fn read_file(top: &Path, path: &Path, in_test_folder: bool) -> Result<SourceFile, XtaskError> {
    let text = std::fs::read_to_string(path).map_err(XtaskError::on_file("read", path))?;
    let mut syntax =
        syn::parse_file(&text).map_err(|source| XtaskError::Syntax { path: path.to_owned(), source })?;
    let module = module_path(top, path);
    let is_test = in_test_folder || module.iter().any(|part| part == "tests" || part == "testing");
    let mut test_ranges = Vec::new();
    let mut test_modules = Vec::new();
    syntax.items.retain(|item| {
        let attributes = item_attributes(item);
        let test = attributes.iter().any(is_cfg_test);
        if test {
            let span = item.span();
            let first = attributes.first().map_or(span.start().line, |one| one.span().start().line);
            test_ranges.push(first..=span.end().line);
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
            {
                test_modules.push(module.ident.to_string());
            }
        }
        !test
    });
    let mut file =
        SourceFile { module, syntax, is_test, test_modules, code_lines: 0, test_lines: 0, comment_lines: 0 };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let in_test = is_test || test_ranges.iter().any(|range| range.contains(&(number + 1)));
        if line.is_empty() || line.starts_with("///") || line.starts_with("//!") {
            continue;
        }
        if in_test {
            file.test_lines += 1;
        } else if line.starts_with("//") {
            file.comment_lines += 1;
        } else {
            file.code_lines += 1;
            file.comment_lines += usize::from(line.contains(" // "));
        }
    }
    Ok(file)
}

fn module_path(top: &Path, path: &Path) -> Vec<String> {
    let relative = path.strip_prefix(top).unwrap_or(path).with_extension("");
    let mut parts: Vec<String> =
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

fn list_directory(directory: &Path) -> Result<Vec<PathBuf>, XtaskError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(XtaskError::on_file("list", directory))? {
        paths.push(entry.map_err(XtaskError::on_file("list", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| {
            list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|w| w == "test")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_test_code_apart_in_every_form() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("src");
        std::fs::create_dir_all(source.join("attack_tests")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(source.join(path), text).unwrap();
        write(
            "lib.rs",
            "// why\nfn product() {}\n#[cfg(test)]\nmod attack_tests;\n#[cfg(test)]\nmod tests {\n    fn test() {}\n}\n",
        );
        write("attack_tests.rs", "mod gateway;\n");
        write("attack_tests/gateway.rs", "fn start() {}\n");
        let crates = find_crates(directory.path()).unwrap();
        let files = &crates.first().unwrap().files;
        let count = |of: fn(&SourceFile) -> usize| files.iter().map(of).sum::<usize>();
        assert_eq!(count(|file| file.code_lines), 1);
        assert_eq!(count(|file| file.comment_lines), 1);
        assert_eq!(count(|file| file.test_lines), 8);
        assert_eq!(files.iter().filter(|file| file.is_test).count(), 2);
    }
}
