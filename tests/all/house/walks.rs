//! The walks in the crate's documentation name functions that there are.

use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// The names of the functions in a file.
struct Functions(Vec<String>);

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.0.push(function.sig.ident.to_string());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.0.push(function.sig.ident.to_string());
        visit::visit_impl_item_fn(self, function);
    }
}

/// What stands in backticks and names a function: `engine::submit::submit`, `hooks/runner/5-hooks.sh::run_hook`.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit_once("::"))
}

fn file_of(root: &Path, module: &str) -> PathBuf {
    let path = root.join("src").join(module.replace("::", "/"));
    let inner = path.join("mod.rs");
    if inner.exists() { inner } else { path.with_extension("rs") }
}

/// Why a walk is wrong there, if it is.
fn missing(root: &Path, place: &str, function: &str) -> Option<String> {
    let is_there = if place.ends_with(".sh") {
        let text = std::fs::read_to_string(root.join(place)).unwrap_or_default();
        text.lines().any(|line| line.starts_with(&format!("{function}()")))
    } else {
        let text = std::fs::read_to_string(file_of(root, place)).unwrap_or_default();
        let mut functions = Functions(Vec::new());
        functions.visit_file(&syn::parse_file(&text).unwrap());
        functions.0.iter().any(|name| name == function)
    };
    (!is_there).then(|| format!("there is no {function} in {place}"))
}

#[test]
fn the_walks_lead_through_functions_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let walks: Vec<&str> = text.split("//! # ").filter(|part| part.starts_with("The way of a ")).collect();
    assert_eq!(walks.len(), 2);
    for walk in walks {
        assert!(named(walk).count() > 8, "{walk}");
        let wrong: Vec<String> =
            named(walk).filter_map(|(place, function)| missing(root, place, function)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    assert!(missing(root, "engine::submit", "no_such_function").is_some());
    assert!(missing(root, "hooks/runner/5-hooks.sh", "no_such_function").is_some());
}
