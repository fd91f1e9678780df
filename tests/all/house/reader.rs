//! Reads the paths that a file names.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{HashMap, HashSet};
use syn::visit::{self, Visit};

/// Whether what has these attributes is compiled for tests alone.
pub(super) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Collects every path of a file, as it is written except that `self` and `super` are resolved.
pub(super) struct Reader {
    pub(super) module: Vec<String>,
    /// The modules written inside the file, around what is being read.
    inner: Vec<String>,
    pub(super) aliases: HashMap<String, Vec<String>>,
    pub(super) found: Vec<Found>,
    /// Modules in files of their own, as this file declares them.
    pub(super) children: HashSet<String>,
    /// Those of them that are for tests alone.
    pub(super) test_children: HashSet<String>,
    /// A `use` line that others may see is being read.
    in_reexport: bool,
}

/// A path, where it stands, and whether it only names something anew for others.
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
    pub(super) is_reexport: bool,
}

impl Reader {
    pub(super) fn of(module: &[String]) -> Reader {
        Reader {
            module: module.to_vec(),
            inner: Vec::new(),
            aliases: HashMap::new(),
            found: Vec::new(),
            children: HashSet::new(),
            test_children: HashSet::new(),
            in_reexport: false,
        }
    }

    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        let mut at: Vec<String> = match self.module[0].as_str() {
            "main" | "lib" => Vec::new(),
            _ => self.module.clone(),
        };
        at.extend(self.inner.iter().cloned());
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|first| first == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => return path,
        }
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend(at);
        resolved.extend(rest.iter().cloned());
        resolved
    }

    fn find(&mut self, line: usize, path: Vec<String>) {
        if !path.is_empty() {
            let path = self.resolve(path);
            self.found.push(Found { line, path, is_reexport: self.in_reexport });
        }
    }

    fn tree(&mut self, head: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| {
            let mut path = head.to_vec();
            if ident != "self" || path.is_empty() {
                path.push(ident.to_string());
            }
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(head, item)),
            syn::UseTree::Glob(glob) => self.find(glob.star_token.spans[0].start().line, head.to_vec()),
            syn::UseTree::Name(name) => {
                let path = with(&name.ident);
                self.alias(&path, path.last().cloned());
                self.find(name.ident.span().start().line, path);
            }
            syn::UseTree::Rename(rename) => {
                let path = with(&rename.ident);
                self.alias(&path, Some(rename.rename.to_string()));
                self.find(rename.ident.span().start().line, path);
            }
        }
    }

    fn alias(&mut self, path: &[String], name: Option<String>) {
        let resolved = self.resolve(path.to_vec());
        if let Some(name) = name.filter(|name| *name != resolved[0]) {
            self.aliases.insert(name, resolved);
        }
    }

    /// Paths among a macro's tokens: names joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 || path.is_empty() {
                        self.find(line, std::mem::take(&mut path));
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.find(line, std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        // `a::{b, c}` within a macro is not told apart from a block: its parts are read alone.
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.find(line, path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test_only(attributes) {
            visit::visit_item(self, item);
        } else if let syn::Item::Mod(item) = item
            && item.content.is_none()
        {
            self.test_children.insert(item.ident.to_string());
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() {
            self.children.insert(item.ident.to_string());
        }
        self.inner.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inner.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.in_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&[], &item.tree);
        self.in_reexport = false;
    }

    /// Who may see something is no import: `pub(super)`.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
        self.find(line, segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(list.tokens.clone());
        visit::visit_meta_list(self, list);
    }
}
