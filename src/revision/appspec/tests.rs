//! Tests of what is read from a file, warned of, and refused.

use super::*;

fn spec(text: &str) -> Parsed {
    parse("appspec.yml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_usual_file() {
    let parsed = spec(
        "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n      timeout: 30\n      runas: app\n  ValidateService:\n    - location: ./hooks/validate\n",
    );
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let spec = parsed.spec;
    assert_eq!(spec.table(), "ApplicationStart|30|app|hooks/start\nValidateService|900||hooks/validate\n");
    assert_eq!(spec.for_planning().run_seconds, 930);
    let minute = SignedDuration::from_mins(1);
    let of = [(LifecycleEvent::ApplicationStart, minute), (LifecycleEvent::ValidateService, minute)];
    assert_eq!(
        spec.timed(&of.into()).table(),
        "ApplicationStart|30|app|hooks/start\nValidateService|60||hooks/validate\n"
    );
}

#[test]
fn the_hooks_of_the_release_that_runs_have_their_own_time() {
    let hooks = |seconds: u32| {
        let text = format!(
            "version: 0.0\nos: linux\nhooks:\n  AfterBlockTraffic:\n    - location: a\n      timeout: {seconds}\n  \
             ApplicationStop:\n    - location: b\n      timeout: {seconds}\n  ApplicationStart:\n    - location: c\n      \
             timeout: 5\n"
        );
        spec(&text).spec
    };
    let (old, new) = (hooks(3000), hooks(10));
    assert_eq!(new.seconds_after(None, &RUN), 30 + 30 + 5);
    assert_eq!(new.seconds_after(Some(&old), &RUN), 2 * (6000 + 10) + 5);
}

/// Files to several places, permissions with everything.
#[test]
fn everything_that_codedeploy_has_for_linux() {
    let parsed = spec(
        "version: 0.0\nos: linux\nfile_exists_behavior: RETAIN\nfiles:\n  - source: /\n    destination: /srv/shop/\n  - source: ./public/\n    \
         destination: /var//www/shop\npermissions:\n  - object: /srv/shop/\n    pattern: \"**\"\n    except: [secrets.env, \"*.md\"]\n    \
         owner: app\n    group: app\n    mode: 4644\n    type:\n      - file\n  - object: /var/www/shop\n    pattern: 'run*'\n    \
         mode: \"0755\"\n    acls:\n      - user:deploy:rwx\n    context:\n      name: system_u\n      type: httpd_t\n      range: s0\n",
    );
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let spec = parsed.spec;
    assert_eq!(spec.file_exists, FileExists::Retain);
    let pairs: Vec<_> = spec.files.iter().map(|f| (f.source.as_str(), f.destination.as_str())).collect();
    assert_eq!(pairs, [("", "/srv/shop"), ("public", "/var/www/shop")]);
    let [first, second] = &spec.permissions[..] else { panic!("two") };
    assert_eq!((first.object.as_str(), &first.pattern, first.except.len()), ("/srv/shop", &None, 2));
    assert_eq!((first.mode.as_deref(), first.types.as_slice()), (Some("4644"), &[Kind::File][..]));
    assert_eq!((second.pattern.as_deref(), second.mode.as_deref()), (Some("run*"), Some("0755")));
    assert_eq!(second.types, [Kind::File, Kind::Directory]);
    assert_eq!(second.context.as_ref().unwrap().user.as_deref(), Some("system_u"));
    assert_eq!(
        spec.permissions_table(),
        "object /srv/shop\ntype file\nowner app\ngroup app\nmode 4644\nexcept secrets.env\nexcept *.md\nobject /var/www/shop\n\
         type file\ntype directory\nmode 0755\npattern run*\nacl user:deploy:rwx\ncontext -u system_u -t httpd_t -l s0\n"
    );
}

#[test]
fn slashes_strings_empty_events_a_byte_order_mark_and_json() {
    let text = "\u{feff}version: \"0.0\"\r\nos: \"linux\"\r\nhooks:\r\n  ApplicationStop:\r\n  ApplicationStart:\r\n    - location: \
                \"/scripts//start.sh\"\r\n      timeout: \"90\"\r\n      runas: \"root\"\r\n";
    assert_eq!(spec(text).spec.table(), "ApplicationStart|90|root|scripts/start.sh\n");
    let json = r#"{"version": 0.0, "os": "linux", "hooks": {"ApplicationStart": [{"location": "a.sh", "timeout": 5}]}}"#;
    assert_eq!(spec(json).spec.table(), "ApplicationStart|5||a.sh\n");
    let anchors =
        "version: 0.0\nos: linux\nx: &x {timeout: 7}\nhooks:\n  ApplicationStart: [{<<: *x, location: a}]\n";
    assert_eq!(spec(anchors).spec.table(), "ApplicationStart|7||a\n");
}

#[test]
fn what_codedeploy_passes_over_is_warned_of() {
    let parsed = spec(
        "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv\n    overwrite: true\nbranch_config:\n  main: x\nhooks:\n  \
         ApplicationStart:\n    - location: a\n      timeot: 5\n      timeout: 6\n      timeout: 7\n",
    );
    let says = [
        "appspec.yml:6: files: 1: overwrite: this key is passed over",
        "appspec.yml:7: branch_config: this key is passed over",
        "appspec.yml:12: hooks: ApplicationStart: 1: timeot: this key is passed over, as CodeDeploy does (is 'timeout' meant?)",
        "appspec.yml:14: hooks: ApplicationStart: 1: timeout: this key is there twice",
    ];
    for words in says {
        assert!(
            parsed.warnings.iter().any(|warning| warning.starts_with(words)),
            "{words}: {:#?}",
            parsed.warnings
        );
    }
    assert_eq!((parsed.warnings.len(), parsed.spec.table().as_str()), (4, "ApplicationStart|7||a\n"));
}

#[test]
fn what_is_wrong_is_named_with_line_key_and_what_would_be_right() {
    let head = "version: 0.0\nos: linux\n";
    for (text, says) in [
        ("", "it is empty"),
        ("version: 1.0\nos: linux\n", "appspec.yml:1: version: it must be 0.0"),
        ("version: 0.0\nos: windows\n", "appspec.yml:2: os: it is 'windows'; drover deploys to linux only"),
        ("version: 0.0\n", "'os' is missing"),
        (
            &format!("{head}hooks:\n  AfterIntall:\n    - location: a\n"),
            "appspec.yml:4: hooks: AfterIntall: there is no such lifecycle event; is AfterInstall meant?",
        ),
        (&format!("{head}hooks:\n  Foo: []\n"), "hooks may hang on BeforeBlockTraffic"),
        (
            &format!("{head}hooks:\n  ApplicationStart:\n    - location: ../x\n"),
            "appspec.yml:5: hooks: ApplicationStart: 1: location: '../x' leads out of the revision",
        ),
        (
            &format!("{head}hooks:\n  ApplicationStart:\n    - location: x\n      timeout: 0\n"),
            "appspec.yml:6: hooks: ApplicationStart: 1: timeout: '0' is not between 1 and 3600",
        ),
        (&format!("{head}hooks:\n  ApplicationStart:\n    - timeout: 1\n"), "'location' is missing"),
        (&format!("{head}hooks: start\n"), "a text where lifecycle events are wanted"),
        (&format!("{head}files:\n  - source: /\n"), "'destination' is missing"),
        (
            &format!("{head}files:\n  - source: /\n    destination: ~/app\n"),
            "appspec.yml:5: files: 1: destination: '~/app': neither '~' nor variables",
        ),
        (&format!("{head}files:\n  - source: /\n    destination: $HOME/web\n"), "neither '~' nor variables"),
        (&format!("{head}files:\n  - source: cfg\n    destination: etc/app\n"), "'etc/app' is not absolute"),
        (
            &format!("{head}permissions:\n  - object: /a\n    mode: 0644\n"),
            "0644 without quotes is an octal number to YAML, of which CodeDeploy makes the mode 420; write \"0644\" or 644",
        ),
        (&format!("{head}permissions:\n  - object: /a\n    mode: 888\n"), "'888' is no mode"),
        (
            &format!("{head}permissions:\n  - object: /a\n    type: [socket]\n"),
            "there are file and directory",
        ),
        (&format!("{head}file_exists_behavior: KEEP\n"), "there are DISALLOW, OVERWRITE and RETAIN"),
        ("a: [", "appspec.yml:1"),
        ("- a\n", "a list where keys are wanted"),
    ] {
        let error = parse("appspec.yml", text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// What CodeDeploy passes over, or bears.
#[test]
fn events_without_scripts_and_long_time_outs_are_warned_of() {
    let parsed = spec(
        "version: 0.0\nos: linux\nhooks:\n  Install:\n    - location: a\n  ApplicationStart:\n    - location: b\n      timeout: 6000\n",
    );
    assert_eq!(parsed.spec.table(), "ApplicationStart|3600||b\n");
    let warnings = parsed.warnings.join("\n");
    assert!(warnings.contains("appspec.yml:4: hooks: Install: the system's own event"), "{warnings}");
    assert!(
        warnings.contains("appspec.yml:8: hooks: ApplicationStart: 1: timeout: 6000 s are more"),
        "{warnings}"
    );
}
