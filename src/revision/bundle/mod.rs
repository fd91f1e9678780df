//! The bundle: the revision's archive, fetched once by the daemon, examined, and served to the hosts.

mod archive;

pub use archive::{Form, read_folder};

use super::appspec::{self, AppSpec, DEFAULT_TIMEOUT_SECONDS, FileEntry, Hook, Parsed};
use crate::rollout::event::ALL;
use archive::{Contents, Entry};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs::File, io, path::Path};

/// What the daemon learned from looking into a bundle.
#[derive(Clone, Debug)]
pub struct Examined {
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its `appspec.yml`.
    pub appspec: AppSpec,
    /// What is legal in it, and odd.
    pub warnings: Vec<String>,
    /// What kind of archive it is.
    pub form: Form,
    /// SHA-256 of the appspec file, hex; empty where there is none.
    pub appspec_sha256: String,
}

/// How the release lies in the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Everything is below one folder at the top, as in GitHub's archives.
    pub wrapped: bool,
    /// The folder below that which is the release; empty: all of it.
    pub path: String,
}

impl Packed {
    /// As GitHub packs a repository.
    pub fn by_github() -> Packed {
        Packed { wrapped: true, path: String::new() }
    }
}

/// Warnings of one kind.
const MOST_TWICE: usize = 5;
/// How a file begins that stands for one which Git LFS keeps.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Why a bundle can't be deployed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The file is damaged: another copy may be whole.
    #[error("{0}")]
    Broken(String),
    /// The revision is at fault, in whatever copy.
    #[error("{0}")]
    Revision(String),
}

/// Reads the whole archive: checks that it unpacks and stays inside its folder, that nothing of it is left out, that
/// `appspec.yml` is at its root and sound, and that every hook in it exists and names an interpreter that a host can find.
pub fn examine(path: &Path, packed: &Packed) -> Result<Examined, BundleError> {
    let unreadable =
        |e: io::Error| BundleError::Broken(format!("the bundle {} can't be read: {e}", path.display()));
    let (bytes, sha256) = digest(path).map_err(unreadable)?;
    let (form, contents) = archive::read(path, packed)?;
    let Parsed { spec: appspec, warnings } = contents.check().map_err(BundleError::Revision)?;
    let digest = |(_, text): &(String, String)| hex::encode(Sha256::digest(text));
    let appspec_sha256 = contents.appspec.as_ref().map(digest).unwrap_or_default();
    Ok(Examined { sha256, bytes, appspec, warnings, form, appspec_sha256 })
}

impl Contents {
    /// The revision's `appspec.yml`, once it and the hooks that it names are found sound; without one, hooks by convention.
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

    /// Each source is there; what goes to one place twice is a warning.
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

    /// A tree with holes in it is not deployed.
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

    /// `hooks/ApplicationStart` or `.drover/application-start`, with `.sh` or without.
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

/// `ApplicationStart` as `application-start`.
fn kebab(name: &str) -> String {
    name.chars().enumerate().fold(String::new(), |mut out, (at, c)| {
        if c.is_uppercase() && at > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
        out
    })
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn bundle(files: &[(&str, u32, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(GzEncoder::new(file.reopen().unwrap(), Compression::fast()));
        for (name, mode, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            archive.append_data(&mut header, format!("top/{name}"), content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        file
    }

    fn examined(path: &Path) -> Result<Examined, BundleError> {
        examine(path, &Packed::by_github())
    }

    #[test]
    fn a_hook_must_exist_and_is_warned_of_where_it_is_odd() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
        let missing = examined(bundle(&[("appspec.yml", 0o644, spec)]).path()).unwrap_err();
        let missing = missing.to_string();
        assert!(missing.contains("hooks/start: there is no such file"), "{missing}");
        let of = |mode, text| {
            examined(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", mode, text)]).path())
                .unwrap()
                .warnings
        };
        assert!(of(0o755, "#!/bin/sh\n").is_empty());
        let plain = of(0o644, "#!/bin/sh\n").join("\n");
        assert!(plain.contains("hooks/start: is not executable: the host makes it so"), "{plain}");
        let bare = of(0o755, "echo\r\n").join("\n");
        assert!(bare.contains("begins without '#!'") && bare.contains("carriage returns"), "{bare}");
        let sound =
            examined(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o755, "")]).path()).unwrap();
        assert_eq!(sound.sha256.len(), 64);
    }

    #[test]
    fn a_first_line_that_ends_in_a_carriage_return_is_said_before_a_host_is_touched() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
        let of = |script: &str| {
            examined(bundle(&[("hooks/start", 0o755, script), ("appspec.yml", 0o644, spec)]).path())
        };
        let windows = of("#!/bin/bash\r\necho hello\r\n").unwrap_err().to_string();
        assert!(windows.contains("hooks/start: its first line ends in a carriage return"), "{windows}");
        assert!(of("#!/bin/bash\necho 'a\r'\r\n").is_ok());
    }

    #[test]
    fn sources_must_be_there_and_what_goes_to_one_place_twice_is_warned_of() {
        let of = |files: &str| {
            let spec = format!("version: 0.0\nos: linux\nfiles:\n{files}");
            let tree = [
                ("appspec.yml", 0o644, spec.as_str()),
                ("target/app.jar", 0o644, ""),
                ("conf/a", 0o644, ""),
                ("over/a", 0o644, ""),
            ];
            examined(bundle(&tree).path())
        };
        let entry = |source: &str, to: &str| format!("  - source: {source}\n    destination: {to}\n");
        let examined =
            of(&(entry("target/app.jar", "/opt") + &entry("/", "/srv") + &entry("conf", "/etc/x"))).unwrap();
        assert!(examined.warnings.is_empty(), "{:?}", examined.warnings);
        assert_eq!(examined.appspec.files_table(), "target/app.jar\t/opt\n\t/srv\nconf\t/etc/x\n");
        let missing = of(&entry("targ", "/opt")).unwrap_err().to_string();
        assert!(missing.contains("files: 1: source: there is no 'targ' in the revision"), "{missing}");
        let twice = of(&(entry("conf/a", "/etc/x") + &entry("over", "/etc/x"))).unwrap().warnings;
        assert_eq!(
            twice,
            ["appspec.yml: files: 2: over/a goes to /etc/x/a, and so does conf/a: the last one counts"]
        );
    }

    #[test]
    fn hooks_by_convention_where_there_is_no_appspec() {
        let files = [
            ("hooks/application-start", 0o755, "#!"),
            (".drover/ValidateService.sh", 0o755, "#!"),
            ("hooks/lib.sh", 0o644, ""),
        ];
        let examined = examined(bundle(&files).path()).unwrap();
        assert_eq!(
            examined.appspec.table(),
            "ApplicationStart|900||hooks/application-start\nValidateService|900||.drover/ValidateService.sh\n"
        );
    }

    #[test]
    fn a_revision_without_an_appspec_is_told_from_a_damaged_file() {
        let without = examined(bundle(&[("a", 0o644, "")]).path()).unwrap_err();
        assert!(
            matches!(&without, BundleError::Revision(why) if why.contains("no appspec.yml")),
            "{without}"
        );
        let damaged = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(damaged.path(), "rubbish").unwrap();
        assert!(matches!(examined(damaged.path()), Err(BundleError::Broken(_))));
        let whole = bundle(&[("appspec.yml", 0o644, "version: 0.0\nos: linux\n"), ("a", 0o644, "text")]);
        let bytes = std::fs::read(whole.path()).unwrap();
        for length in [0, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(damaged.path(), &bytes[..length]).unwrap();
            assert!(matches!(examined(damaged.path()), Err(BundleError::Broken(_))), "cut at {length}");
        }
    }

    const BARE: &str = "version: 0.0\nos: linux\n";

    /// What the archive is refused for, or warned of.
    fn words(examined: Result<Examined, BundleError>) -> String {
        match examined {
            Ok(examined) => examined.warnings.join("\n"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_leads_out_of_the_archive_or_is_no_file_is_refused() {
        let of = |kind: tar::EntryType, name: &[u8], target: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut archive = tar::Builder::new(file.reopen().unwrap());
            let mut header = tar::Header::new_old();
            header.set_size(BARE.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header.clone(), "top/appspec.yml", BARE.as_bytes()).unwrap();
            header.set_entry_type(kind);
            header.set_size(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            archive.append(&header, std::io::empty()).unwrap();
            archive.into_inner().unwrap();
            words(examined(file.path()))
        };
        use tar::EntryType as T;
        for (kind, name, target, says) in [
            (T::Regular, "/etc/passwd", "", "'/etc/passwd' of its archive leads out"),
            (T::Regular, "top/../../x", "", "'top/../../x' of its archive leads out"),
            (T::Link, "top/x", "/etc/shadow", "the link of '/etc/shadow' of its archive leads out"),
            (T::Char, "top/null", "", "a device or pipe in it ('top/null')"),
            (T::Fifo, "top/pipe", "", "a device or pipe"),
            (T::Symlink, "top/a/out", "../../etc", "a/out -> ../../etc is a link to what lies outside"),
            (T::Symlink, "top/abs", "/etc/x", "abs -> /etc/x is a link"),
        ] {
            let words = of(kind, name.as_bytes(), target);
            assert!(words.contains(says), "{name}: {words}");
        }
        assert_eq!(of(T::Symlink, b"top/a/b/in", "../../appspec.yml"), "");
    }

    #[test]
    fn a_tree_with_holes_is_refused() {
        let modules = "[submodule \"x\"]\n\tpath = vendor/x\n\turl = ../x\n";
        let holes = bundle(&[("appspec.yml", 0o644, BARE), (".gitmodules", 0o644, modules)]);
        let said = words(examined(holes.path()));
        assert!(said.contains("its submodules are missing (vendor/x)"), "{said}");
        let filled = bundle(&[
            ("appspec.yml", 0o644, BARE),
            (".gitmodules", 0o644, modules),
            ("vendor/x/a", 0o644, ""),
        ]);
        assert!(examined(filled.path()).is_ok());
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        let said =
            words(examined(bundle(&[("appspec.yml", 0o644, BARE), ("model.bin", 0o644, pointer)]).path()));
        assert!(said.contains("Git LFS") && said.contains("(model.bin)"), "{said}");
    }

    #[test]
    fn a_folder_of_the_repository_is_all_that_counts() {
        let modules = "[submodule \"x\"]\n\tpath = other/x\n";
        let tree = [
            ("services/api/appspec.yml", 0o644, BARE),
            ("appspec.yml", 0o644, "rubbish"),
            (".gitmodules", 0o644, modules),
        ];
        let file = bundle(&tree);
        let of = |path: &str| examine(file.path(), &Packed { path: path.into(), ..Packed::by_github() });
        assert!(of("services/api").is_ok());
        assert!(of("").is_err());
        assert!(
            of("services/web").unwrap_err().to_string().contains("there is no folder 'services/web' in it")
        );
    }

    #[test]
    fn zip_and_tar_as_ci_builds_them() {
        use std::io::Write as _;
        let hook = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: start\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, mode, text) in [("appspec.yml", 0o644, hook), ("start", 0o755, "#!/bin/sh\n")] {
            archive
                .start_file(name, zip::write::SimpleFileOptions::default().unix_permissions(mode))
                .unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let found = examine(file.path(), &Packed::default()).unwrap();
        assert_eq!((found.form, found.warnings.len()), (Form::Zip, 0));
        assert_eq!(found.appspec.table(), "ApplicationStart|900||start\n");
        let bytes = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), &bytes[..bytes.len() - 9]).unwrap();
        assert!(matches!(examine(file.path(), &Packed::default()), Err(BundleError::Broken(_))));

        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(file.reopen().unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(BARE.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "./appspec.yml", BARE.as_bytes()).unwrap();
        archive.into_inner().unwrap();
        assert_eq!(examine(file.path(), &Packed::default()).unwrap().form, Form::Tar);
    }
}
