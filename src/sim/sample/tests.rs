//! The sample repository as git sees it.

use super::{create_repository, git};

#[test]
fn the_repository_is_the_same_everywhere_and_its_hooks_can_be_run() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = create_repository(one.path()).unwrap();
    assert_eq!(made, create_repository(&two.path().join("deep/down")).unwrap());
    assert_eq!(made, create_repository(one.path()).unwrap(), "what is there already is taken");
    assert!(made.v1 != made.v2 && made.v1.len() == 40 && made.v2.len() == 40);
    let ask = |args: &[&str]| git(one.path(), args, "").unwrap();
    assert_eq!(ask(&["rev-parse", "main~1", "main"]), format!("{}\n{}", made.v1, made.v2));
    assert_eq!(ask(&["diff", "--name-only", &made.v1, &made.v2]), "GREETING\nVERSION");
    let appspec = ask(&["show", "main:appspec.yml"]);
    let locations: Vec<&str> = appspec.lines().filter_map(|line| line.split("location: ").nth(1)).collect();
    assert_eq!(locations.len(), 7);
    for location in locations {
        let entry = ask(&["ls-tree", "main", location]);
        assert!(entry.starts_with("100755 blob"), "{location}: {entry}");
    }
}

#[test]
fn another_repository_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "--quiet"], "").unwrap();
    let error = create_repository(dir.path()).unwrap_err().to_string();
    assert!(error.contains("already holds another git repository"), "{error}");
}
