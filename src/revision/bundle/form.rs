//! The kinds of archive, and where in one the release lies.

/// A kind of archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `.tar.gz`
    #[default]
    TarGz,
    /// `.tar`
    Tar,
    /// `.zip`
    Zip,
}

impl Form {
    /// Returns its name for the host's runner.
    pub fn name(self) -> &'static str {
        match self {
            Form::TarGz => "tar.gz",
            Form::Tar => "tar",
            Form::Zip => "zip",
        }
    }

    /// Returns the kind by the first bytes, whatever the file's name is.
    pub(super) fn of(start: &[u8]) -> Form {
        match start {
            [0x1f, 0x8b, ..] => Form::TarGz,
            [b'P', b'K', ..] => Form::Zip,
            _ => Form::Tar,
        }
    }
}

/// The place of the release in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Whether everything is below one folder at the top, as in GitHub's archives.
    pub wrapped: bool,
    /// The folder below that which is the release; empty: all of it.
    pub path: String,
}

impl Packed {
    /// Describes an archive as GitHub packs a repository.
    pub fn by_github() -> Packed {
        Packed { wrapped: true, path: String::new() }
    }
}
