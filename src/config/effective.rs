//! What applies and where it came from: the listing behind the `config` command. Secrets show as `(set)`.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use toml::Value;

use super::rules::Key;

/// What stands in for the value of a secret that is set.
const HIDDEN: &str = "(set)";

/// The layer that a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `config/default.toml`.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable, by name.
    Environment(String),
    /// A variable, by name, that holds the value as it is while the service runs.
    Pin(String),
    /// An argument.
    CommandLine,
}

impl fmt::Display for Source {
    /// One line: `default`, `file PATH`, `environment NAME`, `environment NAME, a pin` or `command line`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => {
                // A line break would end the comment that a TOML listing keeps this in.
                let path = path.display().to_string().replace(char::is_control, "\u{fffd}");
                write!(f, "file {path}")
            }
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Pin(name) => write!(f, "environment {name}, a pin"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One key: the value that applies, and the layer it came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// `section.name`.
    pub key: &'static str,
    /// The value; `(set)` for a secret that is set.
    pub value: Value,
    /// The layer.
    pub source: Source,
}

impl Setting {
    pub(super) fn new(key: &Key, value: &Value, source: &Source) -> Self {
        let is_empty = match value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        let hidden = key.is_secret() && !is_empty;
        let value = if hidden { Value::String(HIDDEN.to_owned()) } else { value.clone() };
        Self { key: key.path, value, source: source.clone() }
    }
}

/// Every key with its value and source, in the order of `config/default.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Effective {
    settings: Vec<Setting>,
}

impl Effective {
    pub(super) fn new(settings: Vec<Setting>) -> Self {
        Self { settings }
    }

    /// The settings, one a key.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The setting of the key `section.name`.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// A TOML document in which a comment after each value names its source.
    pub fn to_toml(&self) -> String {
        let mut lines = Vec::with_capacity(self.settings.len() * 2);
        let mut current = "";
        for Setting { key, value, source } in &self.settings {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            if section != current {
                let gap = if current.is_empty() { "" } else { "\n" };
                lines.push(format!("{gap}[{section}]\n"));
                current = section;
            }
            lines.push(format!("{name} = {value} # {source}\n"));
        }
        lines.concat()
    }

    /// `[{"key": "section.name", "value": …, "source": "…"}, …]`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("settings are strings, numbers and booleans under text keys")
    }
}
