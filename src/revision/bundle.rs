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

/// Reads the whole archive: checks that it unpacks, that `appspec.yml` is at its root and sound, and that every hook
/// in it exists and is executable.
pub fn examine(path: &Path) -> Result<Examined, String> {
    let unreadable = |e: io::Error| format!("the bundle {} can't be read: {e}", path.display());
    let (bytes, sha256) = digest(path).map_err(unreadable)?;
    let mut modes: BTreeMap<String, u32> = BTreeMap::new();
    let mut text: Option<String> = None;
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).map_err(unreadable)?));
    let broken = |e: io::Error| format!("the bundle is no sound tar.gz archive: {e}");
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        // Archives from GitHub have one directory at their top.
        let Some((_, inside)) = name.split_once('/') else { continue };
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_symlink() {
            continue;
        }
        if inside == "appspec.yml" || inside == "appspec.yaml" && text.is_none() {
            let mut content = String::new();
            entry
                .by_ref()
                .take(LARGEST_APPSPEC)
                .read_to_string(&mut content)
                .map_err(|e| format!("{inside} is no UTF-8 text: {e}"))?;
            text = Some(content);
        }
        // A symbolic link's own mode says nothing; the host will follow it.
        let mode = if kind.is_symlink() { 0o755 } else { entry.header().mode().unwrap_or(0) };
        modes.insert(inside.to_owned(), mode);
    }
    let text = text.ok_or("the revision has no appspec.yml at its root")?;
    let appspec = appspec::parse(&text)?;
    for (event, hooks) in &appspec.hooks {
        for hook in hooks {
            let at = format!("appspec.yml: hooks: {event}: {}", hook.location);
            match modes.get(&hook.location) {
                None => return Err(format!("{at}: there is no such file in the revision")),
                Some(mode) if mode & 0o111 == 0 => {
                    return Err(format!(
                        "{at}: is not executable; run: git update-index --chmod=+x {}",
                        hook.location
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(Examined { sha256, bytes, appspec })
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
        assert!(missing.contains("hooks/start: there is no such file"), "{missing}");
        let plain =
            examine(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o644, "")]).path()).unwrap_err();
        assert!(plain.contains("is not executable"), "{plain}");
        let sound =
            examine(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o755, "")]).path()).unwrap();
        assert_eq!(sound.sha256.len(), 64);
    }

    #[test]
    fn no_appspec_and_no_archive_are_told_apart() {
        assert!(examine(bundle(&[("a", 0o644, "")]).path()).unwrap_err().contains("no appspec.yml"));
        let rubbish = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(rubbish.path(), "rubbish").unwrap();
        assert!(examine(rubbish.path()).unwrap_err().contains("no sound tar.gz"));
    }
}
