//! No files import each other in a circle. A file that re-exports what its own children define imports none of them by
//! that: whoever uses the name is taken to import the file that defines it.

use super::{
    collect, module_of,
    reader::{Found, Reader, is_test_only},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
};
use syn::visit::Visit as _;

/// Re-exports of re-exports that are followed.
const DEEPEST: usize = 8;

type Module = Vec<String>;

/// A file and what it says of others.
struct File {
    /// Where it is below `src`.
    name: String,
    module: Module,
    aliases: HashMap<String, Module>,
    children: HashSet<String>,
    found: Vec<Found>,
}

/// The files of a crate, by the modules that they hold.
struct House {
    files: BTreeMap<Module, File>,
}

impl House {
    /// Reads files, given by name and text; those for tests alone are left out.
    fn read(sources: impl IntoIterator<Item = (String, String)>) -> House {
        let (mut files, mut for_tests) = (BTreeMap::new(), Vec::new());
        for (name, text) in sources {
            let module = match name.as_str() {
                "lib.rs" => Vec::new(),
                _ => module_of(Path::new(&name)),
            };
            let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            if is_test_only(&parsed.attrs) {
                continue;
            }
            let mut reader = Reader::of(if name == "lib.rs" { &[] } else { &module });
            if name == "lib.rs" {
                reader.module = vec!["lib".to_owned()];
            }
            reader.visit_file(&parsed);
            for_tests.extend(reader.test_children.iter().map(|child| below(&module, child)));
            let Reader { aliases, children, found, .. } = reader;
            files.insert(module.clone(), File { name, module, aliases, children, found });
        }
        files.retain(|module, _| !for_tests.iter().any(|test| module.starts_with(test)));
        House { files }
    }

    /// The module whose file defines what `path`, as `file` writes it, names; none if it is not of this crate.
    fn target(&self, file: &File, path: &[String], depth: usize) -> Option<&Module> {
        let rest = match path.first()?.as_str() {
            "crate" => path[1..].to_vec(),
            "drover" if file.name == "main.rs" => path[1..].to_vec(),
            child if file.children.contains(child) => [&file.module, path].concat(),
            _ => return None,
        };
        let mut at = self.files.get(&Vec::new() as &Module)?;
        for (n, name) in rest.iter().enumerate() {
            if let Some(child) = self.files.get(&below(&at.module, name)) {
                at = child;
                continue;
            }
            // An item of that file, or a name that it gives to one of another's.
            if let Some(real) = at.aliases.get(name).filter(|_| depth < DEEPEST) {
                let real = [real.as_slice(), &rest[n + 1..]].concat();
                return self.target(at, &real, depth + 1).or(Some(&at.module));
            }
            break;
        }
        Some(&at.module)
    }

    /// The modules that a file imports.
    fn imports(&self, file: &File) -> BTreeSet<&Module> {
        let mut imports = BTreeSet::new();
        for Found { path, is_reexport, .. } in &file.found {
            let path = match file.aliases.get(&path[0]) {
                Some(real) if path[0] != "crate" => [real.as_slice(), &path[1..]].concat(),
                _ => path.clone(),
            };
            let Some(target) = self.target(file, &path, 0) else { continue };
            let is_own_child = target.len() > file.module.len() && target.starts_with(&file.module);
            if *target != file.module && !(*is_reexport && is_own_child) {
                imports.insert(target);
            }
        }
        imports
    }

    /// The files of each circle, by name.
    fn circles(&self) -> Vec<BTreeSet<&str>> {
        let imports: BTreeMap<&Module, BTreeSet<&Module>> =
            self.files.iter().map(|(module, file)| (module, self.imports(file))).collect();
        let named = |circle: BTreeSet<&Module>| {
            circle.into_iter().map(|module| self.files[module].name.as_str()).collect()
        };
        circles_of(&imports).into_iter().map(named).collect()
    }

    /// The folders of each circle among those that lie side by side in one of the source's top folders: a folder imports
    /// what a file in it, or below it, imports.
    fn folder_circles(&self) -> Vec<BTreeSet<String>> {
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in self.files.values() {
            for target in self.imports(file) {
                let (from, to) = (Path::new(&file.name), Path::new(&self.files[target].name));
                let Some((from, to)) = side_by_side(from, to) else { continue };
                folders.entry(to.clone()).or_default();
                folders.entry(from).or_default().insert(to);
            }
        }
        let imports = folders.iter().map(|(from, to)| (from, to.iter().collect())).collect();
        circles_of(&imports).into_iter().map(|circle| circle.into_iter().cloned().collect()).collect()
    }
}

/// The two folders, side by side in the same one below a top folder, in which two files lie; none where one of the files
/// lies in that same folder itself.
fn side_by_side(from: &Path, to: &Path) -> Option<(String, String)> {
    let (from, to) = (from.parent()?, to.parent()?);
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let child = |of: &Path| {
        let path: std::path::PathBuf = of.components().take(shared + 1).collect();
        (of.components().count() > shared).then(|| path.display().to_string())
    };
    (shared > 0).then(|| Some((child(from)?, child(to)?)))?
}

/// The circles of a graph.
fn circles_of<'a, T: Ord>(imports: &BTreeMap<&'a T, BTreeSet<&'a T>>) -> Vec<BTreeSet<&'a T>> {
    let reached: BTreeMap<&T, BTreeSet<&'a T>> =
        imports.keys().map(|from| (*from, reachable::<T>(from, imports))).collect();
    let mut circles = Vec::new();
    for (node, there) in &reached {
        let circle: BTreeSet<&'a T> =
            there.iter().filter(|other| reached[**other].contains(*node)).copied().collect();
        if !circle.is_empty() && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// All that something imports, and what that imports, and so on.
fn reachable<'a, T: Ord>(from: &'a T, imports: &BTreeMap<&'a T, BTreeSet<&'a T>>) -> BTreeSet<&'a T> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(imports[module].iter().filter(|other| reached.insert(**other)));
    }
    reached
}

fn below(module: &[String], child: &str) -> Module {
    [module, &[child.to_owned()]].concat()
}

/// The crate itself.
fn ours() -> House {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&src, &mut paths);
    let house = House::read(paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&src).unwrap().display().to_string(), text)
    }));
    assert!(house.files.len() > 100, "only {} files were found", house.files.len());
    house
}

#[test]
fn no_folders_side_by_side_import_each_other_in_a_circle() {
    let house = ours();
    let circles: Vec<String> = house
        .folder_circles()
        .into_iter()
        .map(|circle| circle.into_iter().collect::<Vec<_>>().join(", "))
        .collect();
    assert!(circles.is_empty(), "folders import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let house = ours();
    let circles: Vec<String> =
        house.circles().into_iter().map(|circle| circle.into_iter().collect::<Vec<_>>().join(", ")).collect();
    assert!(circles.is_empty(), "files import each other in a circle:\n{}", circles.join("\n"));
}

/// The circles among these files, each as the names of its files.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let house = House::read([("lib.rs".to_owned(), "pub mod a;".to_owned())].into_iter().chain(sources));
    house.circles().into_iter().map(|files| files.into_iter().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn circles_of_folders_are_found() {
    let files = [
        ("a/mod.rs", "mod b; mod c;"),
        ("a/b/mod.rs", "mod one; mod two;"),
        ("a/b/one.rs", "use crate::a::c::one::X;"),
        ("a/b/two.rs", "pub struct Y;"),
        ("a/c/mod.rs", "mod one; mod two;"),
        ("a/c/one.rs", "pub struct X;"),
        ("a/c/two.rs", "use crate::a::b::two::Y;"),
    ];
    let sources = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let house = House::read([("lib.rs".to_owned(), "pub mod a;".to_owned())].into_iter().chain(sources));
    assert_eq!(house.folder_circles(), [BTreeSet::from(["a/b".to_owned(), "a/c".to_owned()])]);
    assert!(house.circles().is_empty());
}

#[test]
fn circles_are_found() {
    let siblings = [
        ("a/mod.rs", "mod b; mod c;"),
        ("a/b.rs", "use super::c::C; pub struct B;"),
        ("a/c.rs", "pub struct C; fn f(_: crate::a::b::B) {}"),
    ];
    assert_eq!(circles(&siblings), ["a/b.rs a/c.rs"]);
    let parent = [
        ("a/mod.rs", "mod b; pub struct A; fn f() { b::run() }"),
        ("a/b.rs", "use super::A; pub fn run() {}"),
    ];
    assert_eq!(circles(&parent), ["a/b.rs a/mod.rs"]);
    let hidden_by_a_re_export = [
        ("a/mod.rs", "mod b; mod c; mod d; pub use b::B;"),
        ("a/b.rs", "pub struct B(super::c::C);"),
        ("a/c.rs", "pub struct C; fn f() { super::d::run() }"),
        ("a/d.rs", "use crate::a::B; pub fn run() -> B { todo() }"),
    ];
    assert_eq!(circles(&hidden_by_a_re_export), ["a/b.rs a/c.rs a/d.rs"]);
}

#[test]
fn what_is_no_circle_is_let_pass() {
    let right = [
        ("a/mod.rs", "mod b; mod c; pub use b::B; #[cfg(test)] mod tests; #[cfg(test)] mod d;"),
        ("a/b.rs", "pub struct B; #[cfg(test)] mod tests { use super::super::c::C; }"),
        ("a/c.rs", "use super::B; pub struct C(B);"),
        ("a/d.rs", "use super::{c::C, tests};"),
        ("a/tests.rs", "use super::{B, d};"),
    ];
    assert_eq!(circles(&right), Vec::<String>::new());
}
