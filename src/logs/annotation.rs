//! Annotations: what a hook prints as `::error::`, `::warning::` or `::notice::`, the workflow commands of GitHub Actions, for
//! people to see without reading the log. Pure.

use percent_encoding::percent_decode;

/// A line as long as this is no annotation: it is for people to read at a glance.
const LONGEST: usize = 4 * 1024;

/// How much an annotation matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong.
    Error,
    /// Something may be wrong.
    Warning,
    /// Something is worth knowing.
    Notice,
}

impl Level {
    const ALL: [Level; 3] = [Level::Error, Level::Warning, Level::Notice];

    /// Its name in the command, in the store and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
        }
    }
}

/// An annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// How much it matters.
    pub level: Level,
    /// The message, after its title if it has one; one line.
    pub text: String,
}

impl Annotation {
    /// Reads a hook's line, such as `::error title=Database::the schema is too old`; none if it is no annotation.
    pub fn read(line: &[u8]) -> Option<Annotation> {
        if line.len() > LONGEST {
            return None;
        }
        let line = std::str::from_utf8(line).ok()?.trim_end();
        let (command, message) = line.strip_prefix("::")?.split_once("::")?;
        let (name, properties) = command.split_once(' ').unwrap_or((command, ""));
        let level = Level::ALL.into_iter().find(|level| level.name() == name)?;
        let title = properties.split(',').find_map(|property| property.trim().strip_prefix("title="));
        let text = match title.map(decoded).filter(|title| !title.is_empty()) {
            Some(title) => format!("{title}: {}", decoded(message)),
            None => decoded(message),
        };
        Some(Annotation { level, text })
    }
}

/// The text of a message or property: the commands write line feeds as `%0A`, and `%` as `%25`.
fn decoded(text: &str) -> String {
    let text = percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_github_actions_are_read() {
        let read = |line: &str| Annotation::read(line.as_bytes()).map(|a| (a.level, a.text));
        assert_eq!(read("::error::no space left"), Some((Level::Error, "no space left".into())));
        assert_eq!(
            read("::warning file=a.sh,line=1,title=Disk::at 91 %25%0Aof 20 GB"),
            Some((Level::Warning, "Disk: at 91 %; of 20 GB".into()))
        );
        assert_eq!(read("::notice::a::b\r"), Some((Level::Notice, "a::b".into())));
        for none in ["::debug::x", "::group::x", " ::error::x", "error::x", "::error x", "", "::"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(Annotation::read(b"::error::\xff"), None);
        assert_eq!(Annotation::read(format!("::error::{}", "x".repeat(LONGEST)).as_bytes()), None);
    }
}
