//! An instance's root: overlays over the machine's own directories, kept in a tmpfs. What an instance writes goes to
//! memory and dies with it; of the machine it sees the system directories and nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::boot_spec::Isolation;

/// Top-level directories whose content an instance sees and may change.
const OVERLAID: [&str; 11] =
    ["usr", "etc", "opt", "var", "srv", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Where some systems keep what /usr only links to: seen, not changed.
const BOUND: [&str; 2] = ["nix", "gnu"];
/// Directories that are an instance's own from the start.
const EMPTY: [&str; 9] = ["root", "home", "mnt", "media", "proc", "sys", "dev", "run", "tmp"];

/// Where things are put that the instance needs and the machine may not have.
const BIN: &str = "usr/local/bin";

/// Makes `dir/root` and says what is missing in it.
pub(super) fn build(dir: &Path, isolation: Isolation) -> anyhow::Result<Vec<String>> {
    let none = None::<&str>;
    // Mounts made here must not show outside, while unmounts outside may come in.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("set the mounts apart")?;
    mount(Some("instance"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount a tmpfs at {}", dir.display()))?;
    let root = dir.join("root");
    fs::create_dir(&root)?;
    let mut limits = Vec::new();
    for entry in fs::read_dir("/").context("list /")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = root.join(&name);
        if entry.file_type()?.is_symlink() {
            if OVERLAID.contains(&name.as_str()) || BOUND.contains(&name.as_str()) {
                symlink(fs::read_link(entry.path())?, &target)?;
            }
        } else if OVERLAID.contains(&name.as_str()) {
            fs::create_dir(&target)?;
            if let Err(error) = overlay(dir, &name, &target, isolation) {
                limits.push(stand_in(&name, &target, &error)?);
            }
        } else if BOUND.contains(&name.as_str()) {
            fs::create_dir(&target)?;
            mount(Some(&entry.path()), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
                .with_context(|| format!("bind /{name}"))?;
        }
    }
    for name in EMPTY {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700))?;
    furnish(&root, isolation, &mut limits)?;
    // A mount point of its own, so that pid 1 can make it its root.
    mount(Some(&root), &root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).context("bind the new root")?;
    Ok(limits)
}

fn overlay(dir: &Path, name: &str, target: &Path, isolation: Isolation) -> anyhow::Result<()> {
    let lower = Path::new("/").join(name);
    let upper = dir.join("upper").join(name);
    let work = dir.join("work").join(name);
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    copy_mode(&lower, &upper)?;
    let mut options =
        format!("lowerdir={},upperdir={},workdir={}", escape(&lower), escape(&upper), escape(&work));
    if isolation == Isolation::User {
        mirror(name, &lower, &upper)?;
        options.push_str(",userxattr");
    }
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mount an overlay over /{name}"))?;
    Ok(())
}

fn escape(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// In a user namespace a directory of the machine's root can't be copied up (its owner does not exist inside), so
/// what is likely to be written to is there beforehand, as our own.
fn mirror(name: &str, lower: &Path, upper: &Path) -> io::Result<()> {
    match name {
        "etc" => {
            for entry in fs::read_dir(lower)?.flatten() {
                // An unreadable one (shadow) stays as it is, unreadable.
                if entry.file_type()?.is_file() && entry.metadata()?.len() < 64 * 1024 {
                    drop(fs::copy(entry.path(), upper.join(entry.file_name())));
                }
            }
            mirror_directories(lower, upper, 3)
        }
        "usr" => {
            for (path, depth) in [("local", 2), ("bin", 0), ("sbin", 0), ("lib", 0), ("share", 0)] {
                let lower = lower.join(path);
                if fs::symlink_metadata(&lower).is_ok_and(|data| data.is_dir()) {
                    mirror_one(&lower, &upper.join(path), depth)?;
                }
            }
            Ok(())
        }
        "opt" | "var" | "srv" => mirror_directories(lower, upper, 3),
        _ => Ok(()),
    }
}

fn mirror_directories(lower: &Path, upper: &Path, depth: u32) -> io::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(lower) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            mirror_one(&entry.path(), &upper.join(entry.file_name()), depth - 1)?;
        }
    }
    Ok(())
}

fn mirror_one(lower: &Path, upper: &Path, depth: u32) -> io::Result<()> {
    match fs::create_dir(upper) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    mirror_directories(lower, upper, depth)?;
    copy_mode(lower, upper)
}

fn copy_mode(from: &Path, to: &Path) -> io::Result<()> {
    fs::set_permissions(to, fs::Permissions::from_mode(fs::metadata(from)?.mode() & 0o7777))
}

/// Where there can be no overlay: the machine's directory read-only, or an empty one where an instance must write.
fn stand_in(name: &str, target: &Path, error: &anyhow::Error) -> anyhow::Result<String> {
    let none = None::<&str>;
    match name {
        "opt" | "srv" | "var" => {
            for dir in ["log", "lib", "tmp", "cache"] {
                if name == "var" {
                    fs::create_dir_all(target.join(dir))?;
                }
            }
            Ok(format!("/{name} starts empty: {error:#}"))
        }
        _ => {
            let source = Path::new("/").join(name);
            mount(Some(&source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
                .with_context(|| format!("bind /{name}"))?;
            // In a user namespace what the machine's root owns is not writable anyway.
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let _ = mount(none, target, none, flags, none);
            if name == "usr" {
                mount(
                    Some("bin"),
                    &target.join("local/bin"),
                    Some("tmpfs"),
                    MsFlags::empty(),
                    Some("mode=755"),
                )
                .context("mount a tmpfs at /usr/local/bin")?;
            }
            Ok(format!("/{name} is read-only: {error:#}"))
        }
    }
}

/// Puts in what the machine may not have: this program, `sim-fault`, and stubs for what a single user id can't do.
fn furnish(root: &Path, isolation: Isolation, limits: &mut Vec<String>) -> anyhow::Result<()> {
    let bin = root.join(BIN);
    fs::create_dir_all(&bin)?;
    place_program(&bin.join("drover"))?;
    write_script(&bin.join("sim-fault"), include_str!("sim-fault.sh"))?;
    write_script(&bin.join("aws"), include_str!("aws.sh"))?;
    if isolation == Isolation::User {
        for name in ["su", "runuser", "chown", "chgrp"] {
            let script = if name.starts_with('c') { STUB_OWNER } else { STUB_USER };
            write_script(&bin.join(name), script)?;
        }
        limits.push(
            "runas: only one user id exists in an instance; su and runuser are stubs that run the command as root".into(),
        );
        limits.push("ownership: chown and chgrp are stubs that change nothing".into());
    }
    fs::create_dir_all(root.join("var/log"))?;
    Ok(())
}

const STUB_OWNER: &str =
    "#!/bin/sh\n# A simulated instance without privileges has one user id: nothing to change.\nexit 0\n";
const STUB_USER: &str = include_str!("stub-user.sh");

/// The files that a plain folder gets: the same commands, found by DROVER_ROOT.
pub(super) fn furnish_plain(root: &Path) -> anyhow::Result<()> {
    for dir in [BIN, "etc", "opt", "run", "tmp", "var/log"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let program = fs::read_link("/proc/self/exe").context("find this program")?;
    let link = root.join(BIN).join("drover");
    if fs::symlink_metadata(&link).is_err() {
        symlink(program, link)?;
    }
    write_script(&root.join(BIN).join("sim-fault"), include_str!("sim-fault.sh"))?;
    write_script(&root.join(BIN).join("aws"), include_str!("aws.sh"))?;
    Ok(())
}

fn write_script(path: &Path, text: &str) -> anyhow::Result<()> {
    // Never through a link of the machine's.
    drop(fs::remove_file(path));
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Binds this program, wherever it lies; a copy where that path can't be bound (deleted since, or hidden).
fn place_program(target: &Path) -> anyhow::Result<()> {
    drop(fs::remove_file(target));
    fs::write(target, "").with_context(|| format!("write {}", target.display()))?;
    let program: PathBuf = fs::read_link("/proc/self/exe").context("find this program")?;
    let same = match (fs::metadata(&program), fs::metadata("/proc/self/exe")) {
        (Ok(there), Ok(ours)) => there.ino() == ours.ino() && there.dev() == ours.dev(),
        _ => false,
    };
    let none = None::<&str>;
    if same && mount(Some(&program), target, none, MsFlags::MS_BIND, none).is_ok() {
        // The file is the machine's: its mode and owner too.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let _ = mount(none, target, none, flags, none);
        return Ok(());
    }
    fs::copy("/proc/self/exe", target).context("copy this program into the instance")?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Makes `root` the root of the calling process and lets go of the machine's.
pub(super) fn enter(root: &Path) -> anyhow::Result<()> {
    let old = root.join("mnt");
    nix::unistd::pivot_root(root, &old).context("change the root")?;
    std::env::set_current_dir("/")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("let go of the machine's root")?;
    Ok(())
}
