//! Checks that the contents of an archive can be deployed: complete, with every source and every hook.

use super::archive::{Contents, Entry};
use crate::{
    revision::appspec::{self, DEFAULT_TIMEOUT_SECONDS, FileEntry, Hook, Parsed},
    rollout::event::ALL,
};
use std::collections::BTreeMap;

/// The most warnings of one kind.
const MOST_TWICE: usize = 5;
/// The beginning of a file that stands for one which Git LFS keeps.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

impl Contents {
    /// Returns the revision's `appspec.yml`, once it and the hooks that it names are found sound; without one, hooks by
    /// convention.
    pub fn check(&self) -> Result<Parsed, String> {
        self.check_whole()?;
        let (name, mut parsed) = match &self.appspec {
            Some((name, text)) => (name.as_str(), appspec::parse(name, text)?),
            None => ("hooks", self.by_convention()?),
        };
        self.check_files(name, &mut parsed)?;
        for link in self.leaving.iter().take(MOST_TWICE) {
            parsed.warnings.push(format!(
                "{link} is a link to what lies outside the revision: it is carried, not followed"
            ));
        }
        for (event, hooks) in &parsed.spec.hooks {
            for hook in hooks {
                let location = &hook.location;
                let at = format!("{name}: hooks: {event}: {location}");
                let Some(entry) = self.files.get(location) else {
                    return Err(format!("{at}: there is no such file in the revision"));
                };
                let shebang = entry.first.starts_with(b"#!");
                if shebang && entry.first.ends_with(b"\r") {
                    return Err(format!(
                        "{at}: its first line ends in a carriage return (Windows line ends), so that no host would find the \
                         interpreter; run: sed -i 's/\\r$//' {location}, and have git keep it so: echo '{location} text eol=lf' \
                         >>.gitattributes"
                    ));
                }
                if entry.first.ends_with(b"\r") {
                    parsed.warnings.push(format!(
                        "{at}: its lines end in carriage returns, which a shell takes for text"
                    ));
                }
                if !shebang && !entry.first.starts_with(b"\x7fELF") {
                    parsed.warnings.push(format!("{at}: it begins without '#!': /bin/sh runs it"));
                }
                if entry.mode & 0o111 == 0 {
                    parsed.warnings.push(format!(
                        "{at}: is not executable: the host makes it so; in git: git update-index --chmod=+x {location}"
                    ));
                }
            }
        }
        Ok(parsed)
    }

    /// Checks that each source exists, and warns of files that are copied to the same place.
    fn check_files(&self, name: &str, parsed: &mut Parsed) -> Result<(), String> {
        let mut placed: BTreeMap<String, &str> = BTreeMap::new();
        let mut twice = Vec::new();
        for (number, entry) in parsed.spec.files.iter().enumerate() {
            let FileEntry { source, destination } = entry;
            let at = format!("{name}: files: {}", number + 1);
            let below = if source.is_empty() { String::new() } else { format!("{source}/") };
            let inside = self.files.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
            let mut copied: Vec<(&str, &str)> =
                inside.map(|(path, _)| (path.as_str(), &path[below.len()..])).collect();
            if let Some((path, _)) = self.files.get_key_value(source) {
                copied = vec![(path, path.rsplit('/').next().unwrap_or(path))];
            }
            if copied.is_empty() {
                return Err(format!("{at}: source: there is no '{source}' in the revision"));
            }
            for (from, to) in copied {
                if from.chars().any(char::is_control) {
                    return Err(format!("{at}: {from:?} has a control character in its name: rename it"));
                }
                let to = format!("{destination}/{to}");
                if let Some(before) = placed.insert(to.clone(), from) {
                    twice.push(format!(
                        "{at}: {from} goes to {to}, and so does {before}: the last one counts"
                    ));
                }
            }
        }
        let count = twice.len();
        parsed.warnings.extend(twice.into_iter().take(MOST_TWICE));
        if count > MOST_TWICE {
            parsed
                .warnings
                .push(format!("{name}: files: {} more go to places that are taken", count - MOST_TWICE));
        }
        Ok(())
    }

    /// Refuses a tree from which submodules or LFS files are missing.
    fn check_whole(&self) -> Result<(), String> {
        let instead = "build a bundle of the whole tree in CI, and let the application's `bundle` name it";
        let holes: Vec<&str> =
            self.submodules.iter().map(String::as_str).filter(|path| !self.has_folder(path)).collect();
        if !holes.is_empty() {
            let holes = holes.join(", ");
            return Err(format!(
                "its submodules are missing ({holes}): GitHub's archives lack them; {instead}"
            ));
        }
        let pointer = |(_, entry): &(&String, &Entry)| entry.first.starts_with(LFS_POINTER);
        let pointers: Vec<&str> =
            self.files.iter().filter(pointer).map(|(path, _)| path.as_str()).take(MOST_TWICE).collect();
        if !pointers.is_empty() {
            let pointers = pointers.join(", ");
            return Err(format!(
                "files of Git LFS are pointers in it and not themselves ({pointers}): have GitHub include LFS objects in archives \
                 (the repository's settings), or {instead}"
            ));
        }
        Ok(())
    }

    fn has_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.files.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// Finds hooks by their names: `hooks/ApplicationStart` or `.drover/application-start`, with `.sh` or without.
    fn by_convention(&self) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        for event in ALL.into_iter().filter(|event| event.takes_hooks()) {
            let names = [event.name().to_owned(), kebab(event.name())];
            let spelled = [".drover", "hooks"].iter().flat_map(|folder| {
                names.iter().flat_map(move |name| [format!("{folder}/{name}"), format!("{folder}/{name}.sh")])
            });
            if let Some(location) = spelled.into_iter().find(|path| self.files.contains_key(path)) {
                let hook = Hook { location, timeout: DEFAULT_TIMEOUT_SECONDS, stated: false, runas: None };
                parsed.spec.hooks.insert(event, vec![hook]);
            }
        }
        if parsed.spec.hooks.is_empty() {
            return Err(
                "the revision has no appspec.yml at its root, and no hooks by convention, such as hooks/ApplicationStart".into()
            );
        }
        Ok(parsed)
    }
}

/// Returns `ApplicationStart` as `application-start`.
fn kebab(name: &str) -> String {
    name.chars().enumerate().fold(String::new(), |mut out, (at, c)| {
        if c.is_uppercase() && at > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
        out
    })
}
