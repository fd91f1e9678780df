//! What AWS's protocols have in common here: requests become one JSON tree, answers are written from one.
//!
//! Knows nothing of groups, targets or commands.

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
    /// An error with any status.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// A refusal with status 400.
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// The query protocol's `ValidationError`.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::refused("ValidationError", message)
    }
}

/// What a handler answers: the content of the result element, or an error.
pub type Answer = Result<Value, ApiError>;

/// The parameters of a call, whatever the protocol they came in.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    tree: &'a Value,
    /// The service's code for a malformed parameter.
    invalid: &'static str,
}

impl<'a> Params<'a> {
    /// Reads `tree`; `invalid` is the code of the errors for malformed parameters.
    pub fn new(tree: &'a Value, invalid: &'static str) -> Self {
        Self { tree, invalid }
    }

    /// The parameter as it came.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.tree.get(name).filter(|v| !v.is_null())
    }

    /// A text parameter; an empty one counts as absent.
    pub fn str(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str).filter(|s| !s.is_empty())
    }

    /// A text parameter that must be there.
    pub fn need(&self, name: &str) -> Result<&'a str, ApiError> {
        self.str(name).ok_or_else(|| {
            self.error(format!(
                "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
                lower_first(name)
            ))
        })
    }

    /// A list of texts; absent is empty.
    pub fn strings(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    /// A list of structures; absent is empty.
    pub fn objects(&self, name: &str) -> Vec<Params<'a>> {
        match self.get(name) {
            Some(Value::Array(items)) => {
                items.iter().map(|tree| Params { tree, invalid: self.invalid }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A whole number; both protocols' forms.
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

    /// A whole number within a range.
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

    /// A truth value; both protocols' forms.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(b) => Some(*b),
            Value::String(s) => Some(s.eq_ignore_ascii_case("true")),
            _ => None,
        }
    }

    /// An error with the service's code for malformed parameters.
    pub fn error(&self, message: impl Into<String>) -> ApiError {
        ApiError::refused(self.invalid, message)
    }

    /// Cuts `items` into pages: the page asked for and the token of the next one.
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
