//! Puts the layers on top of each other and collects every mistake in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::DEFAULT_TOML;
use super::effective::{Effective, Setting, Source};
use super::elsewhere::{self, Said};
use super::environment::{CONFIG_FILE, PREFIX, key_path};
use super::mistake::{ConfigError, Mistake, describe_toml_error};
use super::rules::{AT_MOST, KEYS, find};
use super::settings::Config;

/// What the command line contributes.
#[derive(Clone, Default)]
pub struct Options {
    /// `--config PATH`; where it is missing, the variable `CRAWLCACHE_CONFIG` may name a file.
    pub file: Option<PathBuf>,
    /// `section.name` and its value as text; the last one of a key applies.
    pub overrides: Vec<(String, String)>,
}

impl fmt::Debug for Options {
    /// Without the values of the overrides: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.overrides.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Options").field("file", &self.file).field("overrides", &keys).finish()
    }
}

/// A configuration, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What applies.
    pub config: Config,
    /// Each value and its source.
    pub effective: Effective,
}

/// Reads all layers: the defaults, the file, `environment` (names and values) and the overrides.
///
/// # Errors
/// Every mistake of every layer, with the key, its source, what was given and what is allowed.
pub fn load<K, V>(
    options: &Options,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded, ConfigError>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    // Other people's variables need not be Unicode; ours have ASCII names. Sorted, so that messages are stable.
    let environment: BTreeMap<String, OsString> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())))
        .filter(|(name, _)| name.starts_with(PREFIX) || elsewhere::is_foreign(name))
        .collect();

    let mut layers = Layers::default();
    layers.text(DEFAULT_TOML, &Source::Default, Path::new("default.toml"));
    let named = environment.get(CONFIG_FILE).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = options.file.as_ref().or(named.as_ref()) {
        layers.file(path);
    }
    for said in elsewhere::said(&environment) {
        layers.foreign(said);
    }
    for (name, value) in &environment {
        if let Some(path) = key_path(name, value) {
            layers.argument(&path, value.to_str(), Source::Environment(name.clone()));
        }
    }
    for (path, value) in &options.overrides {
        layers.argument(path, Some(value), Source::CommandLine);
    }
    for said in layers.forced(&environment) {
        layers.foreign(said);
    }
    layers.finish()
}

/// The values so far, the topmost of each key, and what was wrong with others.
#[derive(Default)]
struct Layers {
    values: BTreeMap<&'static str, (Value, Source)>,
    mistakes: Vec<Mistake>,
}

impl Layers {
    fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(&text, &Source::File(path.to_owned()), path),
            Err(error) => {
                self.mistakes.push(Mistake::Unreadable { path: path.to_owned(), reason: error.to_string() });
            }
        }
    }

    fn text(&mut self, text: &str, source: &Source, path: &Path) {
        match text.parse::<Table>() {
            Ok(table) => self.table(table, source),
            Err(error) => {
                let detail = describe_toml_error(text, &error);
                self.mistakes.push(Mistake::Malformed { path: path.to_owned(), detail });
            }
        }
    }

    fn table(&mut self, table: Table, source: &Source) {
        for (section, content) in table {
            let known = KEYS.iter().map(|key| key.split().0).find(|known| *known == section);
            match (known, content) {
                (Some(_), Value::Table(keys)) => {
                    for (name, value) in keys {
                        self.set(&format!("{section}.{name}"), value, source.clone());
                    }
                }
                (Some(section), _) => {
                    self.mistakes.push(Mistake::NotASection { section, from: source.clone() });
                }
                // Each key by itself, so that each gets its suggestion.
                (None, Value::Table(keys)) if !keys.is_empty() => {
                    for name in keys.keys() {
                        self.mistakes.push(Mistake::unknown(&format!("{section}.{name}"), source.clone()));
                    }
                }
                (None, _) => self.mistakes.push(Mistake::unknown(&section, source.clone())),
            }
        }
    }

    /// A value as text; `None` when it is not Unicode.
    fn argument(&mut self, path: &str, text: Option<&str>, source: Source) {
        let Some(key) = find(path) else {
            self.mistakes.push(Mistake::unknown(path, source));
            return;
        };
        if let Some(value) = text.and_then(|text| key.rule.parse(text)) {
            self.values.insert(key.path, (value, source));
        } else {
            let given = Value::String(text.unwrap_or("(not Unicode)").to_owned());
            self.mistakes.push(Mistake::not_allowed(key, source, &given));
        }
    }

    /// What a variable of another program says.
    fn foreign(&mut self, said: Said) {
        let Some(key) = find(said.path) else {
            self.mistakes.push(Mistake::unknown(said.path, said.source));
            return;
        };
        match said.text.and_then(|text| key.rule.parse(&text)) {
            Some(value) => drop(self.values.insert(key.path, (value, said.source))),
            None => {
                let given = Value::String(said.given);
                let mistake = Mistake::not_allowed(key, said.source, &given);
                self.mistakes.push(match said.allowed {
                    Some(allowed) => mistake.allowing(allowed),
                    None => mistake,
                });
            }
        }
    }

    /// What is said by the variables that force a store: what it comes to depends on all the layers.
    fn forced(&self, environment: &BTreeMap<String, OsString>) -> Vec<Said> {
        let backend = self.values.get("store.backend").and_then(|(value, _)| value.as_str());
        let source_of = |path: &str| self.values.get(path).map(|(_, source)| source);
        elsewhere::forced(environment, backend == Some("routed"), source_of)
    }

    /// A value of a file, which has a type already.
    fn set(&mut self, path: &str, value: Value, source: Source) {
        let Some(key) = find(path) else {
            self.mistakes.push(Mistake::unknown(path, source));
            return;
        };
        match key.rule.check(value) {
            Ok(value) => drop(self.values.insert(key.path, (value, source))),
            Err(value) => self.mistakes.push(Mistake::not_allowed(key, source, &value)),
        }
    }

    /// What only two keys together can get wrong. Silent about a key that is wrong by itself.
    fn check_pairs(&mut self) {
        for (key, other) in AT_MOST {
            let is_wrong = |path| {
                self.mistakes.iter().any(|m| matches!(m, Mistake::NotAllowed { key, .. } if *key == path))
            };
            if is_wrong(key) || is_wrong(other) {
                continue;
            }
            let (Some((given, from)), Some((bound, bound_from))) =
                (self.values.get(key), self.values.get(other))
            else {
                continue;
            };
            if given.as_integer() > bound.as_integer() {
                self.mistakes.push(Mistake::TooGreat {
                    key,
                    given: given.to_string(),
                    from: from.clone(),
                    other,
                    bound: bound.to_string(),
                    bound_from: bound_from.clone(),
                });
            }
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        self.check_pairs();
        if !self.mistakes.is_empty() {
            return Err(ConfigError { mistakes: self.mistakes });
        }
        let mut tables = Table::new();
        let mut settings = Vec::with_capacity(KEYS.len());
        let (mut pinned_by, mut said) = (None, BTreeMap::new());
        for key in KEYS {
            let (value, source) = self.values.remove(key.path).expect("default.toml has every key (tested)");
            settings.push(Setting::new(key, &value, &source));
            let (section, name) = key.split();
            if section == "routing" && source != Source::Default {
                said.insert(name.to_owned(), source.to_string());
            }
            if let Source::Pin(name) = source {
                pinned_by = Some(name);
            }
            let section = tables.entry(section).or_insert_with(|| Value::Table(Table::new()));
            section.as_table_mut().expect("only tables are inserted here").insert(name.to_owned(), value);
        }
        let mut config: Config =
            tables.try_into().expect("every rule is as strict as the type of its field (tested)");
        config.routing.pinned_by = pinned_by;
        config.routing.said = said;
        Ok(Loaded { config, effective: Effective::new(settings) })
    }
}
