//! Reads the contents of a revision's archive (tar, alone or gzipped, or zip), or in a folder of an author's machine.

use super::{
    error::BundleError,
    form::{Form, Packed},
};
use flate2::read::MultiGzDecoder;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// `appspec.yml` larger than this is refused; CodeDeploy's own are a few KB.
const LARGEST_APPSPEC: u64 = 256 * 1024;
/// The Linux kernel has 90,000 files; more than this fills a host's inodes.
const MOST_ENTRIES: usize = 500_000;
/// What an archive may unpack to: every host keeps several releases.
const LARGEST_UNPACKED: u64 = 16 * 1024 * 1024 * 1024;
/// The first one counts where there are both.
const APPSPECS: [&str; 2] = ["appspec.yml", "appspec.yaml"];
/// A file's first line is read up to this: Linux takes 256 bytes of a script's.
const FIRST_LINE: u64 = 256;

/// The contents of a revision, as far as they matter.
#[derive(Default)]
pub struct Contents {
    /// The file's name and text.
    pub(super) appspec: Option<(String, String)>,
    /// The files by path.
    pub(super) files: BTreeMap<String, Entry>,
    /// The folders where `.gitmodules` says that another repository belongs.
    pub(super) submodules: Vec<String>,
    /// Symbolic links that lead out of the revision.
    pub(super) leaving: Vec<String>,
    entries: usize,
    unpacked: u64,
}

/// A file of a revision.
pub(super) struct Entry {
    pub(super) mode: u32,
    /// The first line, cut.
    pub(super) first: Vec<u8>,
}

impl Entry {
    fn new(mode: u32, start: &[u8]) -> Entry {
        Entry { mode, first: start.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec() }
    }
}

/// One entry of an archive.
enum Thing<'a> {
    File {
        mode: u32,
        bytes: u64,
        text: &'a mut dyn Read,
    },
    /// A symbolic link, and where it leads.
    Link(String),
    /// A folder; what an archive says of itself.
    Other,
}

fn broken(form: Form) -> impl Fn(io::Error) -> BundleError {
    move |error| BundleError::Broken(format!("the bundle is no sound {} archive: {error}", form.name()))
}

/// Reads the whole archive.
pub(super) fn read(path: &Path, packed: &Packed) -> Result<(Form, Contents), BundleError> {
    let unreadable =
        |e: io::Error| BundleError::Broken(format!("the bundle {} can't be read: {e}", path.display()));
    let mut file = File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let form = Form::of(&start);
    let mut contents = Contents::default();
    match form {
        Form::TarGz => {
            // As gzip on the hosts, with all members. What an archive says of its sizes is counted, what it unpacks to is cut.
            let mut unzipped = MultiGzDecoder::new(file).take(LARGEST_UNPACKED + LARGEST_APPSPEC);
            contents.read_tar(&mut unzipped, form, packed)?;
            // An archive ends before its file does: gzip's own checksum comes last.
            io::copy(&mut unzipped, &mut io::sink()).map_err(broken(form))?;
        }
        Form::Tar => contents.read_tar(&mut file, form, packed)?,
        Form::Zip => contents.read_zip(file, packed)?,
    }
    if contents.entries == 0 {
        return Err(broken(form)(io::Error::other("there is nothing in it")));
    }
    if !packed.path.is_empty() && contents.files.is_empty() {
        return Err(BundleError::Revision(format!("there is no folder '{}' in it", packed.path)));
    }
    Ok((form, contents))
}

/// Reads a folder as it would be packed: without what git keeps for itself.
pub fn read_folder(folder: &Path) -> Result<Contents, BundleError> {
    let mut contents = Contents::default();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        let unreadable =
            |e: io::Error| BundleError::Revision(format!("{} can't be read: {e}", next.display()));
        for entry in std::fs::read_dir(&next).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, metadata) = (entry.path(), entry.metadata().map_err(unreadable)?);
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if name == ".git" {
                continue;
            }
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path).map_err(unreadable)?;
                contents.add(&name, Thing::Link(target.to_string_lossy().into_owned()), &unreadable)?;
            } else if metadata.is_dir() {
                todo.push(path);
            } else if metadata.is_file() {
                let mut file = File::open(&path).map_err(unreadable)?;
                let mode = metadata.permissions().mode();
                let thing = Thing::File { mode, bytes: metadata.len(), text: &mut file };
                contents.add(&name, thing, &unreadable)?;
            }
        }
    }
    Ok(contents)
}

impl Contents {
    fn read_tar(&mut self, file: &mut dyn Read, form: Form, packed: &Packed) -> Result<(), BundleError> {
        let broken = broken(form);
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries().map_err(&broken)? {
            let mut entry = entry.map_err(&broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
            if kind.is_block_special() || kind.is_character_special() || kind.is_fifo() {
                return Err(BundleError::Revision(format!(
                    "its archive has a device or pipe in it ('{name}'): a revision is files, folders and links"
                )));
            }
            if kind.is_hard_link() {
                inside("the link of", target.as_deref().unwrap_or_default())?;
            }
            let (mode, bytes) = (entry.header().mode().unwrap_or(0), entry.size());
            let thing = if kind.is_symlink() {
                Thing::Link(target.unwrap_or_default())
            } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                Thing::File { mode, bytes, text: &mut entry }
            } else {
                Thing::Other
            };
            self.add_packed(&name, thing, packed, &broken)?;
        }
        Ok(())
    }

    fn read_zip(&mut self, file: File, packed: &Packed) -> Result<(), BundleError> {
        let broken = broken(Form::Zip);
        let mut archive = zip::ZipArchive::new(file).map_err(|e| broken(e.into()))?;
        let too_many = archive.len() > MOST_ENTRIES;
        for number in 0..if too_many { 0 } else { archive.len() } {
            let mut entry = archive.by_index(number).map_err(|e| broken(e.into()))?;
            // Windows' own tools write its slashes.
            let name = entry.name().map_err(|e| broken(e.into()))?.replace('\\', "/");
            let (bytes, link) = (entry.size(), entry.is_symlink());
            if entry.is_dir() {
                self.add_packed(&name, Thing::Other, packed, &broken)?;
                continue;
            }
            // Packed without modes: as unzip makes them.
            let mode = entry.unix_mode().unwrap_or(0o644);
            if link {
                let mut target = String::new();
                entry.by_ref().take(4096).read_to_string(&mut target).map_err(&broken)?;
                self.add_packed(&name, Thing::Link(target), packed, &broken)?;
            } else {
                self.add_packed(&name, Thing::File { mode, bytes, text: &mut entry }, packed, &broken)?;
            }
            // To the end, where its checksum is looked at; one that is longer than it says has none that fits.
            io::copy(&mut entry.take(bytes), &mut io::sink()).map_err(&broken)?;
        }
        if too_many { Err(too_large()) } else { Ok(()) }
    }

    /// Adds an entry of the archive, if it belongs to the release.
    fn add_packed(
        &mut self,
        name: &str,
        mut thing: Thing,
        packed: &Packed,
        broken: &dyn Fn(io::Error) -> BundleError,
    ) -> Result<(), BundleError> {
        inside("the entry", name)?;
        self.entries += 1;
        if let Thing::File { bytes, .. } = &thing {
            self.unpacked = self.unpacked.saturating_add(*bytes);
        }
        if self.entries > MOST_ENTRIES || self.unpacked > LARGEST_UNPACKED {
            return Err(too_large());
        }
        let name = name.strip_prefix("./").unwrap_or(name);
        let name = if packed.wrapped { name.split_once('/').map(|(_, inside)| inside) } else { Some(name) };
        if let (Some(".gitmodules"), Thing::File { text, .. }) = (name, &mut thing) {
            self.read_submodules(text, &packed.path).map_err(broken)?;
        }
        let name = name.and_then(|name| {
            let below = name.strip_prefix(packed.path.as_str())?;
            if packed.path.is_empty() { Some(below) } else { below.strip_prefix('/') }
        });
        match name {
            Some(name) if !name.is_empty() => self.add(name, thing, broken),
            _ => Ok(()),
        }
    }

    /// Reads the folders of `.gitmodules`, which is in git's own configuration format, as far as they are in the release.
    fn read_submodules(&mut self, text: &mut dyn Read, below: &str) -> io::Result<()> {
        let mut bytes = Vec::new();
        text.take(LARGEST_APPSPEC).read_to_end(&mut bytes)?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let path = value.trim().trim_matches('"');
            let path = if below.is_empty() { Some(path) } else { path.strip_prefix(&format!("{below}/")) };
            self.submodules.extend(path.filter(|_| key.trim() == "path").map(str::to_owned));
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        thing: Thing,
        broken: &dyn Fn(io::Error) -> BundleError,
    ) -> Result<(), BundleError> {
        let entry = match thing {
            Thing::Other => return Ok(()),
            Thing::Link(target) => {
                if leads_out(name, &target) {
                    self.leaving.push(format!("{name} -> {target}"));
                }
                // A symbolic link's own mode says nothing, and its text is elsewhere; the host will follow it.
                Entry::new(0o755, b"#!")
            }
            Thing::File { mode, text, .. } => {
                let mut read = |limit| {
                    let mut start = Vec::new();
                    text.take(limit).read_to_end(&mut start).map_err(broken)?;
                    Ok::<_, BundleError>(start)
                };
                let first = self.appspec.as_ref().is_none_or(|(name, _)| name != APPSPECS[0]);
                let start = if APPSPECS.contains(&name) && first {
                    let text = read(LARGEST_APPSPEC)?;
                    let text = String::from_utf8(text)
                        .map_err(|e| BundleError::Revision(format!("{name} is no UTF-8 text: {e}")))?;
                    self.appspec = Some((name.to_owned(), text.clone()));
                    text.into_bytes()
                } else {
                    read(FIRST_LINE)?
                };
                Entry::new(mode, &start)
            }
        };
        self.files.insert(name.to_owned(), entry);
        Ok(())
    }
}

fn too_large() -> BundleError {
    BundleError::Revision(format!(
        "its archive unpacks to more than {MOST_ENTRIES} files or {} GiB: keep what is not source out of it",
        LARGEST_UNPACKED >> 30
    ))
}

/// Refuses names that an unpacker might write to another folder.
fn inside(what: &str, name: &str) -> Result<(), BundleError> {
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return Err(BundleError::Revision(format!(
            "{what} '{name}' of its archive leads out of the folder that it is unpacked into: pack it with relative names"
        )));
    }
    Ok(())
}

/// Whether a link at this place leads out of the revision.
fn leads_out(name: &str, target: &str) -> bool {
    let mut depth = name.matches('/').count();
    target.starts_with('/')
        || target.split('/').any(|part| match part {
            "" | "." => false,
            ".." => depth.checked_sub(1).map(|less| depth = less).is_none(),
            _ => {
                depth += 1;
                false
            }
        })
}
