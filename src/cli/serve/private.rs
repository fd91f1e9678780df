//! What the daemon keeps is its user's alone: the secret that all hosts' tokens derive from, scripts, logs, source.

use anyhow::Context as _;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};
use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};
use tracing::warn;

/// Whoever isn't the owner.
const OTHERS: u32 = 0o077;

/// Makes the data directory for its owner alone, and everything that the daemon makes from now on; tightens what is looser,
/// with a word.
pub(super) fn keep_private(data: &Path) -> anyhow::Result<()> {
    keep_new_files_private();
    let what = || format!("making the data directory {}", data.display());
    DirBuilder::new().recursive(true).mode(0o700).create(data).with_context(what)?;
    let loose = tighten(data)?;
    if let [first, ..] = loose.as_slice() {
        warn!(
            "{first} and {} more in the data directory were open to other users of this machine: they are the daemon's alone now. \
             Whoever read drover.db there knows the hosts' tokens of rollouts under way, logs and scripts",
            loose.len() - 1
        );
    }
    Ok(())
}

/// What this process makes from now on is its user's alone.
pub(in crate::cli) fn keep_new_files_private() {
    umask(Mode::from_bits_truncate(OTHERS));
}

/// Takes everybody else's rights from a file or a folder and all in it; which had any.
fn tighten(path: &Path) -> anyhow::Result<Vec<String>> {
    let what = || format!("looking at {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(what)?;
    if metadata.is_symlink() {
        return Ok(Vec::new());
    }
    let mut loose = Vec::new();
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS & 0o7777)).with_context(|| {
            format!("{} is open to other users, and can't be made the daemon's alone", path.display())
        })?;
        loose.push(path.display().to_string());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).with_context(what)? {
            loose.extend(tighten(&entry.with_context(what)?.path())?);
        }
    }
    Ok(loose)
}

/// A connection is an open file: as many as the machine allows.
pub(super) fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!("the limit of open files can't be raised: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_read_is_tightened() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("bundles");
        fs::create_dir(&folder).unwrap();
        for (name, mode) in [("drover.db", 0o644), ("admin-token", 0o600), ("bundles/a.tar.gz", 0o640)] {
            fs::write(data.path().join(name), "").unwrap();
            fs::set_permissions(data.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        for folder in [data.path(), &folder] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(tighten(data.path()).unwrap().len(), 4);
        for (name, wanted) in
            [("", 0o700), ("bundles", 0o700), ("drover.db", 0o600), ("bundles/a.tar.gz", 0o600)]
        {
            let mode = fs::metadata(data.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, wanted, "{name}");
        }
        assert!(tighten(data.path()).unwrap().is_empty());
    }
}
