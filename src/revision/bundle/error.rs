//! Why a bundle can't be deployed.

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
