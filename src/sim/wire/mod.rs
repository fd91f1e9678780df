//! The protocols: a request of any AWS protocol becomes one JSON tree, and its answer is written from one; [`call`] has the
//! HTTP requests and responses of all APIs.
//!
//! It knows nothing of groups, targets or commands.

pub mod call;
pub mod json;
pub mod query;
pub mod sigv4;

use serde_json::Value;

/// An error as the service's clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// AWS's code, such as `ValidationError`.
    pub code: String,
    /// AWS's message.
    pub message: String,
}

impl ApiError {
    /// Makes an error with any status.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// Makes a refusal with status 400.
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// Makes the query protocol's `ValidationError`.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::refused("ValidationError", message)
    }
}

/// The answer of a handler: the content of the result element, or an error.
pub type Answer = Result<Value, ApiError>;

/// The parameters of a call, whatever the protocol they came in.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    tree: &'a Value,
    /// The service's code for a malformed parameter.
    invalid: &'static str,
}

impl<'a> Params<'a> {
    /// Reads parameters from `tree`; `invalid` is the code of the errors for malformed ones.
    pub fn new(tree: &'a Value, invalid: &'static str) -> Self {
        Self { tree, invalid }
    }

    /// Returns a parameter as it came.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.tree.get(name).filter(|v| !v.is_null())
    }

    /// Returns a text parameter; an empty one counts as absent.
    pub fn str(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str).filter(|s| !s.is_empty())
    }

    /// Returns a text parameter, or an error if it is absent.
    pub fn need(&self, name: &str) -> Result<&'a str, ApiError> {
        self.str(name).ok_or_else(|| {
            self.error(format!(
                "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
                lower_first(name)
            ))
        })
    }

    /// Returns a list of texts; an absent one is empty.
    pub fn strings(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns a list of structures; an absent one is empty.
    pub fn objects(&self, name: &str) -> Vec<Params<'a>> {
        match self.get(name) {
            Some(Value::Array(items)) => {
                items.iter().map(|tree| Params { tree, invalid: self.invalid }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns a whole number, in either protocol's form.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(n.as_i64()),
            Some(Value::String(s)) if s.is_empty() => Ok(None),
            Some(Value::String(s)) => match s.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => {
                    Err(self.error(format!("Value '{s}' at '{}' is not an integer", lower_first(name))))
                }
            },
            Some(other) => {
                Err(self.error(format!("Value '{other}' at '{}' is not an integer", lower_first(name))))
            }
        }
    }

    /// Returns a whole number, or an error if it is out of range.
    pub fn int_in(&self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        match self.int(name)? {
            Some(n) if !range.contains(&n) => Err(self.error(format!(
                "1 validation error detected: Value '{n}' at '{}' failed to satisfy constraint: Member must be between {} and {}, inclusive",
                lower_first(name),
                range.start(),
                range.end()
            ))),
            other => Ok(other),
        }
    }

    /// Returns a truth value, in either protocol's form.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(b) => Some(*b),
            Value::String(s) => Some(s.eq_ignore_ascii_case("true")),
            _ => None,
        }
    }

    /// Makes an error with the service's code for malformed parameters.
    pub fn error(&self, message: impl Into<String>) -> ApiError {
        ApiError::refused(self.invalid, message)
    }

    /// Cuts `items` into pages; returns the page asked for and the token of the next one.
    pub fn page<T>(
        &self,
        items: Vec<T>,
        token_name: &str,
        size_name: &str,
        sizes: (usize, usize),
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let size = self.int_in(size_name, 1..=sizes.1 as i64)?.map_or(sizes.0, |n| n as usize);
        let start = match self.str(token_name) {
            None => 0,
            Some(token) => token
                .strip_prefix("page-")
                .and_then(|n| n.parse::<usize>().ok())
                .filter(|n| *n <= items.len())
                .ok_or_else(|| {
                    ApiError::refused("InvalidNextToken", format!("The token '{token}' is not valid."))
                })?,
        };
        let more = items.len() > start + size;
        let page = items.into_iter().skip(start).take(size).collect();
        Ok((page, more.then(|| format!("page-{}", start + size))))
    }
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}
