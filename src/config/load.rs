//! Reads the file, and says where in it something is wrong.

use super::{
    Config,
    check::{Wrong, check},
    place::{ConfigError, find_key, key_at, line_and_column},
};
use std::path::Path;

/// Reads and checks the file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
        file: path.into(),
        place: None,
        message: format!("the config file can't be read: {e}"),
    })?;
    parse(path, &text)
}

/// Refuses an address beyond loopback that nothing protects.
pub fn check_exposure(path: &Path, config: &Config) -> Result<(), ConfigError> {
    let Some(why) = config.server.exposed() else { return Ok(()) };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let place = find_key(&text, "server", "listen").map(|offset| line_and_column(&text, offset));
    Err(ConfigError { file: path.into(), place, message: format!("server.listen: {why}") })
}

/// Checks the text of a file.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let at = |offset: Option<usize>, message: String| ConfigError {
        file: path.into(),
        place: offset.map(|offset| line_and_column(text, offset)),
        message,
    };
    let config: Config = toml::from_str(text).map_err(|e| {
        let key = e
            .span()
            .and_then(|span| key_at(text, span.start))
            .map(|key| format!("{key}: "))
            .unwrap_or_default();
        at(e.span().map(|span| span.start), format!("{key}{}", e.message()))
    })?;
    check(&config).map_err(|Wrong { table, key, message }| {
        let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        at(find_key(text, &table, key), format!("{path}: {message}"))
    })?;
    Ok(config)
}
