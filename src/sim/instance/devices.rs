//! The file systems that each boot of an instance makes anew: /proc, /sys, /dev, /run and /tmp.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Context;
use nix::mount::{MsFlags, mount};

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const NONE: Option<&str> = None;

/// Mounts them under the new root, while the machine's own are still in sight.
pub(super) fn mount_all(root: &Path, share_network: bool) -> anyhow::Result<()> {
    mount(Some("proc"), &root.join("proc"), Some("proc"), hardened(), NONE).context("mount /proc")?;
    // Without /sys an instance works all the same.
    let _ = mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), hardened() | MsFlags::MS_RDONLY, NONE);
    tmpfs(&root.join("run"), "mode=755")?;
    tmpfs(&root.join("tmp"), "mode=1777")?;
    for dir in ["run/lock", "run/drover-sim/faults"] {
        fs::create_dir_all(root.join(dir))?;
    }
    devices(&root.join("dev"))?;
    boot_id(root)?;
    // A service of an ordinary user may have port 80, as a unit's AmbientCapabilities would let it; where the kernel doesn't
    // let us say so, that is root's.
    if !share_network {
        let _ = fs::write(root.join("proc/sys/net/ipv4/ip_unprivileged_port_start"), "0");
    }
    // The other kernel settings are the machine's, not the instance's.
    for path in ["proc/sys", "proc/sysrq-trigger"] {
        read_only(&root.join(path));
    }
    Ok(())
}

fn hardened() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn tmpfs(target: &Path, options: &str) -> anyhow::Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .with_context(|| format!("mount a tmpfs at {}", target.display()))
}

fn devices(dev: &Path) -> anyhow::Result<()> {
    mount(Some("dev"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).context("mount /dev")?;
    for name in NODES {
        let source = Path::new("/dev").join(name);
        let target = dev.join(name);
        fs::write(&target, "")?;
        if let Err(error) = mount(Some(&source), &target, NONE, MsFlags::MS_BIND, NONE) {
            // A machine without a terminal may lack tty; null is a must.
            anyhow::ensure!(name != "null", "bind /dev/null: {error}");
            fs::remove_file(&target)?;
        }
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(link))?;
    }
    fs::create_dir(dev.join("pts"))?;
    // Only terminals need it.
    let _ = mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=620"),
    );
    fs::create_dir(dev.join("shm"))?;
    fs::set_permissions(dev.join("shm"), fs::Permissions::from_mode(0o1777))?;
    Ok(())
}

/// A boot id of this boot's own: by it a script knows that the instance was rebooted.
fn boot_id(root: &Path) -> anyhow::Result<()> {
    let fresh = fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a boot id")?;
    let file = root.join("run/drover-sim/boot-id");
    fs::write(&file, fresh)?;
    let target = root.join("proc/sys/kernel/random/boot_id");
    mount(Some(&file), &target, NONE, MsFlags::MS_BIND, NONE).context("give the boot an id of its own")
}

/// Best effort: in a user namespace the kernel refuses such writes anyway.
fn read_only(path: &Path) {
    if mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).is_ok() {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let _ = mount(NONE, path, NONE, flags | hardened(), NONE);
    }
}
