//! The bundle: the revision's tarball, fetched once by the daemon, examined, and served to the hosts.

use super::appspec::{self, AppSpec};
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
}

/// `appspec.yml` larger than this is refused; CodeDeploy's own are a few KB.
const LARGEST_APPSPEC: u64 = 256 * 1024;
/// The Linux kernel has 90,000 files; more than this fills a host's inodes.
const MOST_ENTRIES: usize = 500_000;
/// What an archive may unpack to: every host keeps several releases.
const LARGEST_UNPACKED: u64 = 16 * 1024 * 1024 * 1024;
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
    let appspec = check(&contents).map_err(BundleError::Revision)?;
    Ok(Examined { sha256, bytes, appspec })
}

/// What an archive holds, as far as it matters.
#[derive(Default)]
struct Contents {
    appspec: Option<String>,
    files: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    /// `#!` and its line end in a carriage return.
    carriage_return: bool,
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
        if inside == "appspec.yml" || inside == "appspec.yaml" && contents.appspec.is_none() {
            let mut text = Vec::new();
            entry.by_ref().take(LARGEST_APPSPEC).read_to_end(&mut text).map_err(broken)?;
            let text = String::from_utf8(text)
                .map_err(|e| BundleError::Revision(format!("{inside} is no UTF-8 text: {e}")))?;
            contents.appspec = Some(text);
        }
        // A symbolic link's own mode says nothing; the host will follow it.
        let mode = if kind.is_symlink() { 0o755 } else { entry.header().mode().unwrap_or(0) };
        let mut start = Vec::new();
        entry.by_ref().take(FIRST_LINE).read_to_end(&mut start).map_err(broken)?;
        let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let carriage_return = first.starts_with(b"#!") && first.ends_with(b"\r");
        contents.files.insert(inside.to_owned(), Entry { mode, carriage_return });
    }
    // An archive ends before its file does: gzip's own checksum comes last.
    io::copy(&mut unzipped, &mut io::sink()).map_err(broken)?;
    Ok(contents)
}

/// The revision's `appspec.yml`, once it and the hooks that it names are found sound.
fn check(contents: &Contents) -> Result<AppSpec, String> {
    let text = contents.appspec.as_ref().ok_or("the revision has no appspec.yml at its root")?;
    let appspec = appspec::parse(text)?;
    for (event, hooks) in &appspec.hooks {
        for hook in hooks {
            let location = &hook.location;
            let at = format!("appspec.yml: hooks: {event}: {location}");
            match contents.files.get(location) {
                None => return Err(format!("{at}: there is no such file in the revision")),
                Some(entry) if entry.mode & 0o111 == 0 => {
                    return Err(format!(
                        "{at}: is not executable; run: git update-index --chmod=+x {location}"
                    ));
                }
                Some(entry) if entry.carriage_return => {
                    return Err(format!(
                        "{at}: its first line ends in a carriage return (Windows line ends), so that no host would find the \
                         interpreter; run: sed -i 's/\\r$//' {location}, and have git keep it so: echo '{location} text eol=lf' \
                         >>.gitattributes"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(appspec)
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
    fn a_hook_must_exist_and_be_executable() {
        let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
        let missing = examine(bundle(&[("appspec.yml", 0o644, spec)]).path()).unwrap_err();
        let missing = missing.to_string();
        assert!(missing.contains("hooks/start: there is no such file"), "{missing}");
        let plain =
            examine(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o644, "")]).path()).unwrap_err();
        let plain = plain.to_string();
        assert!(plain.contains("is not executable"), "{plain}");
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
