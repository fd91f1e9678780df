//! The bundle: the revision's tarball, fetched once by the daemon, examined, and served to the hosts.

use super::appspec::{self, AppSpec, DEFAULT_TIMEOUT_SECONDS, FileEntry, Hook, Parsed};
use crate::rollout::event::ALL;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

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
}

/// `appspec.yml` larger than this is refused; CodeDeploy's own are a few KB.
const LARGEST_APPSPEC: u64 = 256 * 1024;
/// The Linux kernel has 90,000 files; more than this fills a host's inodes.
const MOST_ENTRIES: usize = 500_000;
/// What an archive may unpack to: every host keeps several releases.
const LARGEST_UNPACKED: u64 = 16 * 1024 * 1024 * 1024;
/// Warnings of one kind.
const MOST_TWICE: usize = 5;
/// The first one counts where there are both.
const APPSPECS: [&str; 2] = ["appspec.yml", "appspec.yaml"];
/// A hook's first line is read up to this: Linux takes 256 bytes of it.
const FIRST_LINE: u64 = 256;

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

/// Reads the whole archive: checks that it unpacks, that `appspec.yml` is at its root and sound, and that every hook
/// in it exists, is executable, and names an interpreter that a host can find.
pub fn examine(path: &Path) -> Result<Examined, BundleError> {
    let unreadable =
        |e: io::Error| BundleError::Broken(format!("the bundle {} can't be read: {e}", path.display()));
    let (bytes, sha256) = digest(path).map_err(unreadable)?;
    let contents = contents(File::open(path).map_err(unreadable)?)?;
    let Parsed { spec: appspec, warnings } = contents.check().map_err(BundleError::Revision)?;
    Ok(Examined { sha256, bytes, appspec, warnings })
}

/// What a revision holds, as far as it matters.
#[derive(Default)]
struct Contents {
    /// The file's name and text.
    appspec: Option<(String, String)>,
    files: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    /// The first line, cut.
    first: Vec<u8>,
}

impl Entry {
    fn new(mode: u32, start: &[u8]) -> Entry {
        Entry { mode, first: start.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec() }
    }
}

fn contents(file: File) -> Result<Contents, BundleError> {
    let broken = |e: io::Error| BundleError::Broken(format!("the bundle is no sound tar.gz archive: {e}"));
    let mut contents = Contents::default();
    let mut unpacked = 0_u64;
    let mut unzipped = GzDecoder::new(file);
    let mut archive = tar::Archive::new(&mut unzipped);
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        unpacked = unpacked.saturating_add(entry.size());
        if number >= MOST_ENTRIES || unpacked > LARGEST_UNPACKED {
            return Err(BundleError::Revision(format!(
                "its archive unpacks to more than {MOST_ENTRIES} files or {} GiB: keep what is not source out of the repository",
                LARGEST_UNPACKED >> 30
            )));
        }
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        // Archives from GitHub have one directory at their top.
        let Some((_, inside)) = name.split_once('/') else { continue };
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_symlink() {
            continue;
        }
        if APPSPECS.contains(&inside) && contents.appspec.as_ref().is_none_or(|(name, _)| name != APPSPECS[0])
        {
            let mut text = Vec::new();
            entry.by_ref().take(LARGEST_APPSPEC).read_to_end(&mut text).map_err(broken)?;
            let text = String::from_utf8(text)
                .map_err(|e| BundleError::Revision(format!("{inside} is no UTF-8 text: {e}")))?;
            contents.appspec = Some((inside.to_owned(), text));
        }
        // A symbolic link's own mode says nothing, and its text is elsewhere; the host will follow it.
        let found = if kind.is_symlink() {
            Entry::new(0o755, b"#!")
        } else {
            let mut start = Vec::new();
            entry.by_ref().take(FIRST_LINE).read_to_end(&mut start).map_err(broken)?;
            Entry::new(entry.header().mode().unwrap_or(0), &start)
        };
        contents.files.insert(inside.to_owned(), found);
    }
    // An archive ends before its file does: gzip's own checksum comes last.
    io::copy(&mut unzipped, &mut io::sink()).map_err(broken)?;
    Ok(contents)
}

impl Contents {
    /// The revision's `appspec.yml`, once it and the hooks that it names are found sound; without one, hooks by convention.
    fn check(&self) -> Result<Parsed, String> {
        let (name, mut parsed) = match &self.appspec {
            Some((name, text)) => (name.as_str(), appspec::parse(name, text)?),
            None => ("hooks", self.by_convention()?),
        };
        self.check_files(name, &mut parsed)?;
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

    #[test]
    fn a_hook_must_exist_and_is_warned_of_where_it_is_odd() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
        let missing = examine(bundle(&[("appspec.yml", 0o644, spec)]).path()).unwrap_err();
        let missing = missing.to_string();
        assert!(missing.contains("hooks/start: there is no such file"), "{missing}");
        let of = |mode, text| {
            examine(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", mode, text)]).path())
                .unwrap()
                .warnings
        };
        assert!(of(0o755, "#!/bin/sh\n").is_empty());
        let plain = of(0o644, "#!/bin/sh\n").join("\n");
        assert!(plain.contains("hooks/start: is not executable: the host makes it so"), "{plain}");
        let bare = of(0o755, "echo\r\n").join("\n");
        assert!(bare.contains("begins without '#!'") && bare.contains("carriage returns"), "{bare}");
        let sound =
            examine(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o755, "")]).path()).unwrap();
        assert_eq!(sound.sha256.len(), 64);
    }

    #[test]
    fn a_first_line_that_ends_in_a_carriage_return_is_said_before_a_host_is_touched() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
        let of = |script: &str| {
            examine(bundle(&[("hooks/start", 0o755, script), ("appspec.yml", 0o644, spec)]).path())
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
            examine(bundle(&tree).path())
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
        let examined = examine(bundle(&files).path()).unwrap();
        assert_eq!(
            examined.appspec.table(),
            "ApplicationStart|900||hooks/application-start\nValidateService|900||.drover/ValidateService.sh\n"
        );
    }

    #[test]
    fn a_revision_without_an_appspec_is_told_from_a_damaged_file() {
        let without = examine(bundle(&[("a", 0o644, "")]).path()).unwrap_err();
        assert!(
            matches!(&without, BundleError::Revision(why) if why.contains("no appspec.yml")),
            "{without}"
        );
        let damaged = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(damaged.path(), "rubbish").unwrap();
        assert!(matches!(examine(damaged.path()), Err(BundleError::Broken(_))));
        let whole = bundle(&[("appspec.yml", 0o644, "version: 0.0\nos: linux\n"), ("a", 0o644, "text")]);
        let bytes = std::fs::read(whole.path()).unwrap();
        for length in [0, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(damaged.path(), &bytes[..length]).unwrap();
            assert!(matches!(examine(damaged.path()), Err(BundleError::Broken(_))), "cut at {length}");
        }
    }
}
