//! The address at which CI puts bundles, with the commit in it.

use serde::Deserialize;

/// The placeholder for the full SHA.
const SHA: &str = "{sha}";

/// An address of bundles, with `{sha}` in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(String);

/// The place of one bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An object in S3.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
    /// A file; beside it, with `.sha256` after its name, its checksum.
    Https(String),
}

impl Template {
    /// Returns the address as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the place of the bundle of a commit.
    pub fn place(&self, sha: &str) -> Place {
        let address = self.0.replace(SHA, sha);
        match address.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
            Some((bucket, key)) => Place::S3 { bucket: bucket.to_owned(), key: key.to_owned() },
            None => Place::Https(address),
        }
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Template, String> {
        let words = |what: &str| {
            format!(
                "'{text}': {what}: write \"s3://BUCKET/PATH/{{sha}}.tar.gz\" or \"https://HOST/PATH/{{sha}}.tar.gz\""
            )
        };
        // A key in S3 may have anything in it.
        let https = !text.starts_with("s3://");
        let odd = |c: char| c.is_control() || https && (c.is_whitespace() || "\"\\".contains(c));
        let near = text.strip_prefix("http://").and_then(|rest| rest.split(['/', ':']).next());
        let complete = match (text.strip_prefix("s3://"), text.strip_prefix("https://")) {
            (Some(rest), _) => {
                rest.split_once('/').is_some_and(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            }
            (None, Some(rest)) => rest.contains('/'),
            // Nobody is on the way to this machine itself.
            (None, None) => near.is_some_and(|host| ["127.0.0.1", "localhost"].contains(&host)),
        };
        if !complete {
            return Err(words("it is no address of bundles"));
        }
        if !text.contains(SHA) {
            return Err(words("it has no {sha} in it, which stands for the commit"));
        }
        if text.contains(odd) {
            return Err(words("it has a character in it that addresses don't have"));
        }
        Ok(Template(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text: &str| Template::try_from(text.to_owned());
        let s3 = of("s3://builds/eval/{sha}.zip").unwrap();
        assert_eq!(s3.place("abc"), Place::S3 { bucket: "builds".into(), key: "eval/abc.zip".into() });
        let https = of("https://ci.example.com/{sha}/app.tgz").unwrap();
        assert_eq!(https.place("abc"), Place::Https("https://ci.example.com/abc/app.tgz".into()));
        for (text, says) in [
            ("s3://builds/latest.zip", "no {sha}"),
            ("s3://{sha}", "no address"),
            ("http://ci.example.com/{sha}", "no address"),
            ("builds/{sha}", "no address"),
            ("https://a/{sha} b", "a character"),
        ] {
            assert!(of(text).unwrap_err().contains(says), "{text}: {:?}", of(text));
        }
    }
}
