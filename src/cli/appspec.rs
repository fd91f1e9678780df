//! `drover appspec check`: what a deployment would say of a revision, before it is pushed.

use crate::revision::{
    appspec::{self, Parsed},
    bundle::{self, Packed},
};
use anyhow::Context as _;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What there is to do with an appspec.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Check a revision's appspec.yml and the scripts and files that it names.
    Check(CheckArgs),
}

/// Arguments of `drover appspec check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// A folder with an appspec.yml; such a file alone; or a bundle (tar, tar.gz, zip).
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Take a warning for an error.
    #[arg(long)]
    pub strict: bool,
}

/// Ends with 1 where a deployment would be refused.
pub fn run(args: &Args) -> anyhow::Result<i32> {
    let Action::Check(args) = &args.action;
    let parsed = match examine(&args.path)? {
        Ok(parsed) => parsed,
        Err(why) => {
            println!("error: {why}");
            return Ok(1);
        }
    };
    print!("{}", summary(&parsed));
    Ok(i32::from(args.strict && !parsed.warnings.is_empty()))
}

/// The outer error: there is nothing to check.
fn examine(path: &Path) -> anyhow::Result<Result<Parsed, String>> {
    if path.is_dir() {
        return Ok(bundle::read_folder(path)
            .map_err(|e| e.to_string())
            .and_then(|contents| contents.check()));
    }
    let unreadable = || format!("{} can't be read", path.display());
    let mut start = Vec::new();
    std::fs::File::open(path).with_context(unreadable)?.take(4096).read_to_end(&mut start)?;
    if start.contains(&0) {
        let examined = bundle::examine(path, &Packed::default());
        return Ok(examined
            .map(|found| Parsed { spec: found.appspec, warnings: found.warnings })
            .map_err(|e| e.to_string()));
    }
    let text = std::fs::read_to_string(path).with_context(unreadable)?;
    Ok(appspec::parse(&path.display().to_string(), &text))
}

/// What was found, a line each.
fn summary(Parsed { spec, warnings }: &Parsed) -> String {
    let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    for (event, hooks) in &spec.hooks {
        for hook in hooks {
            let whose = hook.runas.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
            let (name, location) = (event.name(), &hook.location);
            text.push_str(&format!("{name:<18} {location}{whose}, at most {} s\n", hook.timeout));
        }
    }
    for file in &spec.files {
        let source = if file.source.is_empty() { "/" } else { &file.source };
        text.push_str(&format!("{:<18} {source} into {}\n", "files", file.destination));
    }
    for permission in &spec.permissions {
        text.push_str(&format!("{:<18} {}\n", "permissions", permission.object));
    }
    text.push_str(match warnings.len() {
        0 => "sound\n",
        _ => "sound, with warnings\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const SPEC: &str = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/x\nhooks:\n  ApplicationStart:\n    \
                        - location: start\n      runas: app\n";

    #[test]
    fn a_folder_a_file_and_a_bundle_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, start) = (folder.path().join("appspec.yml"), folder.path().join("start"));
        std::fs::write(&spec, SPEC).unwrap();
        let missing = examine(folder.path()).unwrap().unwrap_err();
        assert!(missing.contains("hooks: ApplicationStart: start: there is no such file"), "{missing}");
        // The file alone says nothing of its scripts.
        assert!(examine(&spec).unwrap().is_ok());
        std::fs::write(&start, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = examine(folder.path()).unwrap().unwrap();
        assert_eq!(
            summary(&found),
            "ApplicationStart   start as app, at most 900 s\nfiles              / into /srv/x\nsound\n"
        );
        let bundle = folder.path().join("bundle.tar");
        let mut archive = tar::Builder::new(std::fs::File::create(&bundle).unwrap());
        archive.append_path_with_name(&spec, "appspec.yml").unwrap();
        archive.append_path_with_name(&start, "start").unwrap();
        archive.into_inner().unwrap();
        assert_eq!(examine(&bundle).unwrap().unwrap(), found);
        assert!(examine(Path::new("/nowhere")).is_err());
    }
}
