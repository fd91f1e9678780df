//! Converts the tree to a typed [`AppSpec`]: errors name line, key, and what would be right; what CodeDeploy passes over in
//! silence is a warning.

use super::{
    AppSpec, Context, DEFAULT_TIMEOUT_SECONDS, FileEntry, FileExists, Hook, Kind, LONGEST_TIMEOUT_SECONDS,
    Parsed, Permission,
    tree::{Key, Node, Value, read},
};
use crate::rollout::event::{ALL, LifecycleEvent};

/// The similarity from which on one name is taken for another.
const ALIKE: f64 = 0.85;

/// Parses the text of a file of this name.
pub fn parse(file: &str, text: &str) -> Result<Parsed, String> {
    let mut reader = Reader { file, warnings: Vec::new() };
    let root = read(text).map_err(|(line, why)| format!("{file}:{line}: {why}"))?;
    let root = root.ok_or_else(|| format!("{file}: it is empty; it begins with: version: 0.0, os: linux"))?;
    let spec = reader.spec(&root)?;
    Ok(Parsed { spec, warnings: reader.warnings })
}

struct Reader<'a> {
    file: &'a str,
    warnings: Vec<String>,
}

/// The known keys of a map, by name.
struct Keys<'a> {
    line: usize,
    path: String,
    found: Vec<(&'a str, &'a Node)>,
}

impl<'a> Keys<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        let found = self.found.iter().find(|(known, _)| *known == name).map(|(_, node)| *node);
        found.filter(|node| !matches!(node.value, Value::Null))
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}: {name}", self.path) }
    }
}

impl Reader<'_> {
    fn wrong(&self, line: usize, path: &str, words: impl std::fmt::Display) -> String {
        format!("{}:{line}: {path}: {words}", self.file)
    }

    fn warn(&mut self, line: usize, path: &str, words: impl std::fmt::Display) {
        self.warnings.push(format!("{}:{line}: {path}: {words}", self.file));
    }

    /// The map's keys; what nobody knows, and what is there twice, is a warning.
    fn keys<'a>(&mut self, node: &'a Node, path: &str, known: &[&'a str]) -> Result<Keys<'a>, String> {
        let Value::Map(pairs) = &node.value else {
            let words = format!("{} where keys are wanted: {}", node.kind(), known.join(", "));
            return Err(self.wrong(node.line, path, words));
        };
        let mut keys = Keys { line: node.line, path: path.to_owned(), found: Vec::new() };
        for (Key { name, line }, value) in pairs {
            let Some(name) = known.iter().find(|key| *key == name) else {
                let guess =
                    nearest(name, known).map(|key| format!(" (is '{key}' meant?)")).unwrap_or_default();
                self.warn(
                    *line,
                    &keys.at(name),
                    format!("this key is passed over, as CodeDeploy does{guess}"),
                );
                continue;
            };
            if let Some(before) = keys.found.iter_mut().find(|(known, _)| known == name) {
                self.warnings.push(format!(
                    "{}:{line}: {}: this key is there twice; the last one counts, as for CodeDeploy",
                    self.file,
                    if path.is_empty() { (*name).to_owned() } else { format!("{path}: {name}") }
                ));
                before.1 = value;
            } else {
                keys.found.push((name, value));
            }
        }
        Ok(keys)
    }

    fn text(&self, node: &Node, path: &str) -> Result<String, String> {
        match &node.value {
            Value::Scalar { text, .. } if text.trim().chars().any(char::is_control) => {
                Err(self.wrong(node.line, path, format!("{text:?} has a control character in it")))
            }
            Value::Scalar { text, .. } => Ok(text.trim().to_owned()),
            _ => Err(self.wrong(node.line, path, format!("{} where a text is wanted", node.kind()))),
        }
    }

    fn needed(&self, keys: &Keys<'_>, name: &str) -> Result<String, String> {
        let missing = || self.wrong(keys.line, &keys.path, format!("'{name}' is missing"));
        let text = self.text(keys.get(name).ok_or_else(missing)?, &keys.at(name))?;
        if text.is_empty() { Err(missing()) } else { Ok(text) }
    }

    fn optional(&self, keys: &Keys<'_>, name: &str) -> Result<Option<String>, String> {
        let text = keys.get(name).map(|node| self.text(node, &keys.at(name))).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn list<'a>(&self, keys: &Keys<'a>, name: &str) -> Result<&'a [Node], String> {
        match keys.get(name) {
            None => Ok(&[]),
            Some(Node { value: Value::List(items), .. }) => Ok(items),
            Some(node) => {
                Err(self.wrong(node.line, &keys.at(name), format!("{} where a list is wanted", node.kind())))
            }
        }
    }

    fn texts(&self, keys: &Keys<'_>, name: &str) -> Result<Vec<String>, String> {
        self.list(keys, name)?.iter().map(|node| self.text(node, &keys.at(name))).collect()
    }

    fn spec(&mut self, root: &Node) -> Result<AppSpec, String> {
        let known = ["version", "os", "files", "file_exists_behavior", "permissions", "hooks"];
        let keys = self.keys(root, "", &known)?;
        let at = |name: &str| keys.get(name).map_or(root.line, |node| node.line);
        if self.needed(&keys, "version")?.parse::<f64>() != Ok(0.0) {
            return Err(self.wrong(at("version"), "version", "it must be 0.0, the only one there is"));
        }
        let os = self.needed(&keys, "os")?;
        if os != "linux" {
            return Err(self.wrong(at("os"), "os", format!("it is '{os}'; drover deploys to linux only")));
        }
        let file_exists = match self.optional(&keys, "file_exists_behavior")?.as_deref() {
            None => FileExists::default(),
            Some("DISALLOW") => FileExists::Disallow,
            Some("OVERWRITE") => FileExists::Overwrite,
            Some("RETAIN") => FileExists::Retain,
            Some(other) => {
                let words = format!("it is '{other}'; there are DISALLOW, OVERWRITE and RETAIN");
                return Err(self.wrong(at("file_exists_behavior"), "file_exists_behavior", words));
            }
        };
        let mut spec = AppSpec { file_exists, ..AppSpec::default() };
        for (number, node) in self.list(&keys, "files")?.iter().enumerate() {
            let entry = self.file(node, &format!("files: {}", number + 1))?;
            spec.files.push(entry);
        }
        for (number, node) in self.list(&keys, "permissions")?.iter().enumerate() {
            let permission = self.permission(node, &format!("permissions: {}", number + 1))?;
            spec.permissions.push(permission);
        }
        if let Some(node) = keys.get("hooks") {
            self.hooks(node, &mut spec)?;
        }
        Ok(spec)
    }

    fn file(&mut self, node: &Node, path: &str) -> Result<FileEntry, String> {
        let keys = self.keys(node, path, &["source", "destination"])?;
        let (source, destination) = (self.needed(&keys, "source")?, self.needed(&keys, "destination")?);
        let line = |name: &str| keys.get(name).map_or(node.line, |node| node.line);
        let inside = inside(&source).map_err(|why| self.wrong(line("source"), &keys.at("source"), why))?;
        let destination = self.absolute(&destination, line("destination"), &keys.at("destination"))?;
        Ok(FileEntry { source: inside, destination })
    }

    /// A path on the host. CodeDeploy expands nothing, and takes it from the agent's own folder where it isn't absolute.
    fn absolute(&self, text: &str, line: usize, path: &str) -> Result<String, String> {
        let words = if text.starts_with('~') || text.contains('$') {
            format!(
                "'{text}': neither '~' nor variables are expanded here; write the whole path, such as /home/app"
            )
        } else if !text.starts_with('/') {
            format!("'{text}' is not absolute; write where it lies from the root on, such as /srv/{text}")
        } else if text.split('/').any(|part| part == "..") {
            format!("'{text}' has a '..' in it; write the path that is meant")
        } else if text.chars().any(char::is_control) {
            format!("{text:?} has a control character in it")
        } else {
            let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            return Ok(format!("/{}", parts.join("/")));
        };
        Err(self.wrong(line, path, words))
    }

    fn permission(&mut self, node: &Node, path: &str) -> Result<Permission, String> {
        let known = ["object", "pattern", "except", "owner", "group", "mode", "acls", "context", "type"];
        let keys = self.keys(node, path, &known)?;
        let line = |name: &str| keys.get(name).map_or(node.line, |node| node.line);
        let object = self.needed(&keys, "object")?;
        let object = self.absolute(&object, line("object"), &keys.at("object"))?;
        let mode = keys.get("mode").map(|node| self.mode(node, &keys.at("mode"))).transpose()?;
        let mut types = Vec::new();
        for text in self.texts(&keys, "type")? {
            types.push(match text.as_str() {
                "file" => Kind::File,
                "directory" => Kind::Directory,
                other => {
                    let words = format!("'{other}' is none; there are file and directory");
                    return Err(self.wrong(line("type"), &keys.at("type"), words));
                }
            });
        }
        if types.is_empty() {
            types = vec![Kind::File, Kind::Directory];
        }
        let owner = self.user(&keys, "owner")?;
        let group = self.user(&keys, "group")?;
        let context = match keys.get("context") {
            None => None,
            Some(node) => {
                let of = self.keys(node, &keys.at("context"), &["name", "user", "type", "range"])?;
                let user = self.optional(&of, "user")?.or(self.optional(&of, "name")?);
                let context =
                    Context { user, kind: self.needed(&of, "type")?, range: self.optional(&of, "range")? };
                let plain = |text: &String| !text.starts_with('-') && !text.contains(char::is_whitespace);
                let mut parts = context.user.iter().chain([&context.kind]).chain(&context.range);
                let plain = parts.all(plain);
                drop(parts);
                if !plain {
                    return Err(self.wrong(
                        node.line,
                        &keys.at("context"),
                        "its parts are single words, such as httpd_t",
                    ));
                }
                Some(context)
            }
        };
        let pattern = self.optional(&keys, "pattern")?.filter(|pattern| pattern != "**");
        let acls = self.texts(&keys, "acls")?;
        if let Some(acl) = acls.iter().find(|acl| acl.contains([',', ' ']) || !acl.contains(':')) {
            let words = format!("'{acl}' is no entry of an access list, such as user:deploy:rwx");
            return Err(self.wrong(line("acls"), &keys.at("acls"), words));
        }
        Ok(Permission {
            object,
            pattern,
            except: self.texts(&keys, "except")?,
            owner,
            group,
            mode,
            acls,
            context,
            types,
        })
    }

    fn user(&self, keys: &Keys<'_>, name: &str) -> Result<Option<String>, String> {
        let found = self.optional(keys, name)?;
        if let Some(user) = &found
            && (user.starts_with('-')
                || !user.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
        {
            let line = keys.get(name).map_or(keys.line, |node| node.line);
            return Err(self.wrong(line, &keys.at(name), format!("'{user}' is no name of a user or group")));
        }
        Ok(found)
    }

    /// One to four octal digits, as text. To YAML an unquoted leading zero means: octal.
    fn mode(&self, node: &Node, path: &str) -> Result<String, String> {
        let text = self.text(node, path)?;
        let quoted = matches!(node.value, Value::Scalar { quoted: true, .. });
        if !quoted && text.len() > 1 && text.starts_with('0') {
            let digits = text.trim_start_matches("0o");
            let made =
                u32::from_str_radix(digits, 8).map_or_else(|_| "nothing".into(), |number| number.to_string());
            let words = format!(
                "{text} without quotes is an octal number to YAML, of which CodeDeploy makes the mode {made}; write \"{text}\" or {}",
                text.trim_start_matches('0')
            );
            return Err(self.wrong(node.line, path, words));
        }
        if text.is_empty() || text.len() > 4 || !text.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
            let words = format!("'{text}' is no mode: one to four digits from 0 to 7, such as 755");
            return Err(self.wrong(node.line, path, words));
        }
        Ok(text)
    }

    fn hooks(&mut self, node: &Node, spec: &mut AppSpec) -> Result<(), String> {
        let Value::Map(pairs) = &node.value else {
            return Err(self.wrong(
                node.line,
                "hooks",
                format!("{} where lifecycle events are wanted", node.kind()),
            ));
        };
        let names: Vec<&str> =
            ALL.iter().filter(|event| event.takes_hooks()).map(|event| event.name()).collect();
        for (Key { name, line }, scripts) in pairs {
            let path = format!("hooks: {name}");
            let event = name.parse::<LifecycleEvent>().map_err(|_| {
                let guess = match nearest(name, &names) {
                    Some(nearest) => format!("is {nearest} meant?"),
                    None => format!("hooks may hang on {}", names.join(", ")),
                };
                self.wrong(*line, &path, format!("there is no such lifecycle event; {guess}"))
            })?;
            if !event.takes_hooks() {
                self.warn(*line, &path, "the system's own event: its scripts never run, as for CodeDeploy");
                continue;
            }
            let scripts = match &scripts.value {
                Value::Null => &[],
                Value::List(items) => items.as_slice(),
                _ => {
                    let words = format!("{} where a list of scripts is wanted", scripts.kind());
                    return Err(self.wrong(scripts.line, &path, words));
                }
            };
            let mut hooks = Vec::new();
            for (number, script) in scripts.iter().enumerate() {
                hooks.push(self.hook(script, &format!("{path}: {}", number + 1))?);
            }
            if spec.hooks.insert(event, hooks).is_some() {
                self.warn(*line, &path, "this event is there twice; the last one counts, as for CodeDeploy");
            }
        }
        Ok(())
    }

    fn hook(&mut self, node: &Node, path: &str) -> Result<Hook, String> {
        let keys = self.keys(node, path, &["location", "timeout", "runas", "sudo"])?;
        let line = |name: &str| keys.get(name).map_or(node.line, |node| node.line);
        let location = self.needed(&keys, "location")?;
        let location = inside(&location)
            .and_then(|location| {
                if location.is_empty() || location.contains('|') {
                    return Err(format!("'{location}' is no path of a script"));
                }
                Ok(location)
            })
            .map_err(|why| self.wrong(line("location"), &keys.at("location"), why))?;
        let written = self.optional(&keys, "timeout")?;
        let timeout = match &written {
            None => DEFAULT_TIMEOUT_SECONDS,
            Some(text) => match text.parse::<u32>() {
                Ok(seconds) if (1..=LONGEST_TIMEOUT_SECONDS).contains(&seconds) => seconds,
                Ok(seconds) if seconds > LONGEST_TIMEOUT_SECONDS => {
                    let words = format!(
                        "{seconds} s are more than CodeDeploy's hour for an event: it is ended after that hour"
                    );
                    self.warn(line("timeout"), &keys.at("timeout"), words);
                    LONGEST_TIMEOUT_SECONDS
                }
                _ => {
                    let words = format!("'{text}' is not between 1 and {LONGEST_TIMEOUT_SECONDS} seconds");
                    return Err(self.wrong(line("timeout"), &keys.at("timeout"), words));
                }
            },
        };
        Ok(Hook { location, timeout, stated: written.is_some(), runas: self.user(&keys, "runas")? })
    }
}

/// A path in the archive, without slashes at its ends: `/` and `.` are the archive itself.
fn inside(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?} has a control character in it"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("'{text}' leads out of the revision; write a path inside it"));
    }
    Ok(parts.join("/"))
}

/// Returns the name that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |key: &&&str| strsim::jaro_winkler(&name.to_lowercase(), &key.to_lowercase());
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE).then_some(*best)
}
