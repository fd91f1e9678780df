//! Tests of what is refused in a bundle, and what is warned of.

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

fn examined(path: &Path) -> Result<Examined, BundleError> {
    examine(path, &Packed::by_github())
}

#[test]
fn a_hook_must_exist_and_is_warned_of_where_it_is_odd() {
    let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
    let missing = examined(bundle(&[("appspec.yml", 0o644, spec)]).path()).unwrap_err();
    let missing = missing.to_string();
    assert!(missing.contains("hooks/start: there is no such file"), "{missing}");
    let of = |mode, text| {
        examined(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", mode, text)]).path())
            .unwrap()
            .warnings
    };
    assert!(of(0o755, "#!/bin/sh\n").is_empty());
    let plain = of(0o644, "#!/bin/sh\n").join("\n");
    assert!(plain.contains("hooks/start: is not executable: the host makes it so"), "{plain}");
    let bare = of(0o755, "echo\r\n").join("\n");
    assert!(bare.contains("begins without '#!'") && bare.contains("carriage returns"), "{bare}");
    let sound = examined(bundle(&[("appspec.yml", 0o644, spec), ("hooks/start", 0o755, "")]).path()).unwrap();
    assert_eq!(sound.sha256.len(), 64);
}

#[test]
fn a_first_line_that_ends_in_a_carriage_return_is_said_before_a_host_is_touched() {
    let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n";
    let of = |script: &str| {
        examined(bundle(&[("hooks/start", 0o755, script), ("appspec.yml", 0o644, spec)]).path())
    };
    let windows = of("#!/bin/bash\r\necho hello\r\n").unwrap_err().to_string();
    assert!(windows.contains("hooks/start: its first line ends in a carriage return"), "{windows}");
    assert!(of("#!/bin/bash\necho 'a\r'\r\n").is_ok());
}

#[test]
fn sources_must_be_there_and_what_goes_to_one_place_twice_is_warned_of() {
    let of = |files: &str| {
        let spec = format!("version: 0.0\nos: linux\nfiles:\n{files}");
        let tree = [
            ("appspec.yml", 0o644, spec.as_str()),
            ("target/app.jar", 0o644, ""),
            ("conf/a", 0o644, ""),
            ("over/a", 0o644, ""),
        ];
        examined(bundle(&tree).path())
    };
    let entry = |source: &str, to: &str| format!("  - source: {source}\n    destination: {to}\n");
    let examined =
        of(&(entry("target/app.jar", "/opt") + &entry("/", "/srv") + &entry("conf", "/etc/x"))).unwrap();
    assert!(examined.warnings.is_empty(), "{:?}", examined.warnings);
    assert_eq!(examined.appspec.files_table(), "target/app.jar\t/opt\n\t/srv\nconf\t/etc/x\n");
    let missing = of(&entry("targ", "/opt")).unwrap_err().to_string();
    assert!(missing.contains("files: 1: source: there is no 'targ' in the revision"), "{missing}");
    let twice = of(&(entry("conf/a", "/etc/x") + &entry("over", "/etc/x"))).unwrap().warnings;
    assert_eq!(
        twice,
        ["appspec.yml: files: 2: over/a goes to /etc/x/a, and so does conf/a: the last one counts"]
    );
}

#[test]
fn hooks_by_convention_where_there_is_no_appspec() {
    let files = [
        ("hooks/application-start", 0o755, "#!"),
        (".drover/ValidateService.sh", 0o755, "#!"),
        ("hooks/lib.sh", 0o644, ""),
    ];
    let examined = examined(bundle(&files).path()).unwrap();
    assert_eq!(
        examined.appspec.table(),
        "ApplicationStart|900||hooks/application-start\nValidateService|900||.drover/ValidateService.sh\n"
    );
}

#[test]
fn a_revision_without_an_appspec_is_told_from_a_damaged_file() {
    let without = examined(bundle(&[("a", 0o644, "")]).path()).unwrap_err();
    assert!(matches!(&without, BundleError::Revision(why) if why.contains("no appspec.yml")), "{without}");
    let damaged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(damaged.path(), "rubbish").unwrap();
    assert!(matches!(examined(damaged.path()), Err(BundleError::Broken(_))));
    let whole = bundle(&[("appspec.yml", 0o644, "version: 0.0\nos: linux\n"), ("a", 0o644, "text")]);
    let bytes = std::fs::read(whole.path()).unwrap();
    for length in [0, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(damaged.path(), &bytes[..length]).unwrap();
        assert!(matches!(examined(damaged.path()), Err(BundleError::Broken(_))), "cut at {length}");
    }
}

const BARE: &str = "version: 0.0\nos: linux\n";

/// What the archive is refused for, or warned of.
fn words(examined: Result<Examined, BundleError>) -> String {
    match examined {
        Ok(examined) => examined.warnings.join("\n"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_leads_out_of_the_archive_or_is_no_file_is_refused() {
    let of = |kind: tar::EntryType, name: &[u8], target: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(file.reopen().unwrap());
        let mut header = tar::Header::new_old();
        header.set_size(BARE.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header.clone(), "top/appspec.yml", BARE.as_bytes()).unwrap();
        header.set_entry_type(kind);
        header.set_size(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        archive.append(&header, std::io::empty()).unwrap();
        archive.into_inner().unwrap();
        words(examined(file.path()))
    };
    use tar::EntryType as T;
    for (kind, name, target, says) in [
        (T::Regular, "/etc/passwd", "", "'/etc/passwd' of its archive leads out"),
        (T::Regular, "top/../../x", "", "'top/../../x' of its archive leads out"),
        (T::Link, "top/x", "/etc/shadow", "the link of '/etc/shadow' of its archive leads out"),
        (T::Char, "top/null", "", "a device or pipe in it ('top/null')"),
        (T::Fifo, "top/pipe", "", "a device or pipe"),
        (T::Symlink, "top/a/out", "../../etc", "a/out -> ../../etc is a link to what lies outside"),
        (T::Symlink, "top/abs", "/etc/x", "abs -> /etc/x is a link"),
    ] {
        let words = of(kind, name.as_bytes(), target);
        assert!(words.contains(says), "{name}: {words}");
    }
    assert_eq!(of(T::Symlink, b"top/a/b/in", "../../appspec.yml"), "");
}

#[test]
fn a_tree_with_holes_is_refused() {
    let modules = "[submodule \"x\"]\n\tpath = vendor/x\n\turl = ../x\n";
    let holes = bundle(&[("appspec.yml", 0o644, BARE), (".gitmodules", 0o644, modules)]);
    let said = words(examined(holes.path()));
    assert!(said.contains("its submodules are missing (vendor/x)"), "{said}");
    let filled =
        bundle(&[("appspec.yml", 0o644, BARE), (".gitmodules", 0o644, modules), ("vendor/x/a", 0o644, "")]);
    assert!(examined(filled.path()).is_ok());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let said = words(examined(bundle(&[("appspec.yml", 0o644, BARE), ("model.bin", 0o644, pointer)]).path()));
    assert!(said.contains("Git LFS") && said.contains("(model.bin)"), "{said}");
}

#[test]
fn a_folder_of_the_repository_is_all_that_counts() {
    let modules = "[submodule \"x\"]\n\tpath = other/x\n";
    let tree = [
        ("services/api/appspec.yml", 0o644, BARE),
        ("appspec.yml", 0o644, "rubbish"),
        (".gitmodules", 0o644, modules),
    ];
    let file = bundle(&tree);
    let of = |path: &str| examine(file.path(), &Packed { path: path.into(), ..Packed::by_github() });
    assert!(of("services/api").is_ok());
    assert!(of("").is_err());
    assert!(of("services/web").unwrap_err().to_string().contains("there is no folder 'services/web' in it"));
}

#[test]
fn zip_and_tar_as_ci_builds_them() {
    use std::io::Write as _;
    let hook = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: start\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = zip::ZipWriter::new(file.reopen().unwrap());
    for (name, mode, text) in [("appspec.yml", 0o644, hook), ("start", 0o755, "#!/bin/sh\n")] {
        archive.start_file(name, zip::write::SimpleFileOptions::default().unix_permissions(mode)).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let found = examine(file.path(), &Packed::default()).unwrap();
    assert_eq!((found.form, found.warnings.len()), (Form::Zip, 0));
    assert_eq!(found.appspec.table(), "ApplicationStart|900||start\n");
    let bytes = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &bytes[..bytes.len() - 9]).unwrap();
    assert!(matches!(examine(file.path(), &Packed::default()), Err(BundleError::Broken(_))));

    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = tar::Builder::new(file.reopen().unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(BARE.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "./appspec.yml", BARE.as_bytes()).unwrap();
    archive.into_inner().unwrap();
    assert_eq!(examine(file.path(), &Packed::default()).unwrap().form, Form::Tar);
}
