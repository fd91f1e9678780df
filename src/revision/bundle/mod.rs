//! The bundle: the revision's archive, fetched once by the daemon, examined, and served to the hosts.

mod archive;
mod check;
mod error;
mod form;
#[cfg(test)]
mod tests;

pub use archive::read_folder;
pub use error::BundleError;
pub use form::{Form, Packed};

use super::appspec::{AppSpec, Parsed};
use sha2::{Digest, Sha256};
use std::{fs::File, io, path::Path};

/// What the daemon learned from looking into a bundle.
#[derive(Clone, Debug)]
pub struct Examined {
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its `appspec.yml`.
    pub appspec: AppSpec,
    /// What is allowed in it, but probably a mistake.
    pub warnings: Vec<String>,
    /// What kind of archive it is.
    pub form: Form,
    /// SHA-256 of the appspec file, hex; empty where there is none.
    pub appspec_sha256: String,
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

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hex::encode(hasher.finalize())))
}
