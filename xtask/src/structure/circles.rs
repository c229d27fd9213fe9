//! Import circles between the modules of one crate: sets of files that each need all the others.
//!
//! A file needs another where a path in it names that file's module or an item of it, also through a re-export. What a module
//! and a module inside it need of each other is no circle: that is how Rust nests.

use super::source_files::SourceFile;
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

type ModulePath = Vec<String>;

/// The circles, each as its modules' paths.
pub fn find_circles(files: &[&SourceFile]) -> Vec<Vec<String>> {
    let modules: BTreeMap<&[String], usize> =
        files.iter().enumerate().map(|(at, file)| (file.module.as_slice(), at)).collect();
    let reexports: Vec<BTreeMap<String, ModulePath>> = files.iter().map(|file| reexports_of(file)).collect();
    let needs: Vec<BTreeSet<usize>> = files
        .iter()
        .enumerate()
        .map(|(at, file)| {
            paths_of(file)
                .iter()
                .filter_map(|path| resolve(path, &modules, &reexports, 0))
                .filter(|to| *to != at && !is_nested(&files[at].module, &files[*to].module))
                .collect()
        })
        .collect();
    strongly_connected(&needs)
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .map(|circle| circle.into_iter().map(|at| files[at].module.join("::")).collect())
        .collect()
}

fn is_nested(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The file that defines what `path`, absolute in the crate, names.
fn resolve(
    path: &[String],
    modules: &BTreeMap<&[String], usize>,
    reexports: &[BTreeMap<String, ModulePath>],
    depth: usize,
) -> Option<usize> {
    let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let at = modules[&path[..length]];
    // A chain of re-exports is short; a circular one would not compile.
    if depth < 4
        && let Some(item) = path.get(length)
        && let Some(target) = reexports[at].get(item)
    {
        return resolve(target, modules, reexports, depth + 1).or(Some(at));
    }
    Some(at)
}

/// The names that a file re-exports from elsewhere in the crate, with where they come from.
fn reexports_of(file: &SourceFile) -> BTreeMap<String, ModulePath> {
    let mut found = BTreeMap::new();
    for item in &file.syntax.items {
        let syn::Item::Use(item) = item else { continue };
        for path in flatten_use(&item.tree) {
            if let (Some(name), Some(absolute)) = (path.last().cloned(), absolute(&file.module, &path)) {
                found.insert(name, absolute);
            }
        }
    }
    found
}

fn paths_of(file: &SourceFile) -> Vec<ModulePath> {
    let mut collector = PathCollector { module: &file.module, found: Vec::new() };
    collector.visit_file(&file.syntax);
    collector.found
}

struct PathCollector<'a> {
    module: &'a [String],
    found: Vec<ModulePath>,
}

impl<'ast> Visit<'ast> for PathCollector<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let paths = flatten_use(&item.tree);
        self.found.extend(paths.iter().filter_map(|path| absolute(self.module, path)));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: ModulePath = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.found.extend(absolute(self.module, &segments));
        }
        visit::visit_path(self, path);
    }
}

fn flatten_use(tree: &syn::UseTree) -> Vec<ModulePath> {
    match tree {
        syn::UseTree::Path(path) => flatten_use(&path.tree)
            .into_iter()
            .map(|mut rest| {
                rest.insert(0, path.ident.to_string());
                rest
            })
            .collect(),
        syn::UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        syn::UseTree::Rename(rename) => vec![vec![rename.ident.to_string()]],
        syn::UseTree::Glob(_) => vec![Vec::new()],
        syn::UseTree::Group(group) => group.items.iter().flat_map(flatten_use).collect(),
    }
}

/// The path from the crate's root; `None` for one that begins in another crate or in scope.
fn absolute(module: &[String], path: &[String]) -> Option<ModulePath> {
    let mut base: ModulePath = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => {
            // A child module may be named without `self::`.
            let mut child = module.to_vec();
            child.extend(path.iter().cloned());
            return Some(child);
        }
    };
    let mut rest = path;
    while let Some(first) = rest.first().filter(|first| matches!(first.as_str(), "crate" | "self" | "super"))
    {
        if first == "super" {
            base.pop()?;
        }
        rest = &rest[1..];
    }
    base.extend(rest.iter().filter(|part| *part != "self").cloned());
    Some(base)
}

/// Tarjan's strongly connected components.
fn strongly_connected(needs: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    struct Search<'a> {
        needs: &'a [BTreeSet<usize>],
        next: usize,
        index: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        on_stack: Vec<bool>,
        found: Vec<Vec<usize>>,
    }
    impl Search<'_> {
        fn visit(&mut self, at: usize) {
            self.index[at] = Some(self.next);
            self.low[at] = self.next;
            self.next += 1;
            self.stack.push(at);
            self.on_stack[at] = true;
            for to in self.needs[at].clone() {
                match self.index[to] {
                    None => {
                        self.visit(to);
                        self.low[at] = self.low[at].min(self.low[to]);
                    }
                    Some(index) if self.on_stack[to] => self.low[at] = self.low[at].min(index),
                    Some(_) => {}
                }
            }
            if Some(self.low[at]) == self.index[at] {
                let mut component = Vec::new();
                while let Some(one) = self.stack.pop() {
                    self.on_stack[one] = false;
                    component.push(one);
                    if one == at {
                        break;
                    }
                }
                component.sort_unstable();
                self.found.push(component);
            }
        }
    }
    let count = needs.len();
    let mut search = Search {
        needs,
        next: 0,
        index: vec![None; count],
        low: vec![0; count],
        stack: Vec::new(),
        on_stack: vec![false; count],
        found: Vec::new(),
    };
    for at in 0..count {
        if search.index[at].is_none() {
            search.visit(at);
        }
    }
    search.found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(module: &str, text: &str) -> SourceFile {
        SourceFile {
            module: module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            syntax: syn::parse_str(text).unwrap(),
            is_test: false,
            test_modules: Vec::new(),
            code_lines: 0,
            test_lines: 0,
            comment_lines: 0,
        }
    }

    fn circles(files: &[SourceFile]) -> Vec<Vec<String>> {
        find_circles(&files.iter().collect::<Vec<_>>())
    }

    #[test]
    fn two_siblings_that_need_each_other_are_a_circle_also_through_the_parent() {
        let direct =
            [file("", "mod a; mod b;"), file("a", "use crate::b::B;"), file("b", "use super::a::A;")];
        assert_eq!(circles(&direct), [["a", "b"]]);
        let reexported = [
            file("", "mod a; mod b; pub use a::A; pub use b::B;"),
            file("a", "use crate::B;"),
            file("b", "fn f(_: crate::A) {}"),
        ];
        assert_eq!(circles(&reexported), [["a", "b"]]);
    }

    #[test]
    fn a_module_and_its_parent_are_none() {
        let files = [
            file("", "mod a; use a::child::Child;"),
            file("a", "mod child; use child::Child; pub struct A;"),
            file("a::child", "use super::A; use crate::Root;"),
        ];
        assert_eq!(circles(&files), Vec::<Vec<String>>::new());
    }
}
