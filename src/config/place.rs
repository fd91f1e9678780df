//! Finds the place in a TOML file where something is wrong.

use std::{fmt, path::PathBuf};
use thiserror::Error;

/// An error in the configuration file, with its place.
#[derive(Debug, Error)]
pub struct ConfigError {
    pub(super) file: PathBuf,
    pub(super) place: Option<(usize, usize)>,
    pub(super) message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Returns the line and column, from 1, of an offset.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1)
}

/// Returns the key on the line of `offset`, for messages of the parser that don't name it.
pub(super) fn key_at(text: &str, offset: usize) -> Option<&str> {
    let start = text[..offset.min(text.len())].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next()?;
    line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.is_empty() && !key.starts_with('#'))
}

/// Returns the offset at which `table.key`, or else the table, is written.
pub(super) fn find_key(text: &str, table: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut place = None;
    let mut current = document.get_ref();
    for part in table.split('.').filter(|part| !part.is_empty()).chain([key]) {
        let (name, value) = current.get_key_value(part)?;
        place = Some(name.span().start);
        match value.get_ref().as_table() {
            Some(inner) => current = inner,
            None => break,
        }
    }
    place
}
