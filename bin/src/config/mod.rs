//! The configuration: one TOML file, overridden by flags, checked before anything else is done.
//!
//! Every value has an origin, and whatever is wrong is reported together, each with its place, its key and what is
//! allowed. This module knows names, units and bounds; it does **not** know what the values are for, except in
//! `options`, which hands them to the node.

mod error;
mod example;
mod file;
mod key;
mod kind;
mod options;
mod relations;

use std::path::Path;

pub(crate) use self::error::{ConfigError, ConfigErrors, KeyRefusal, Origin};
pub(crate) use self::example::example;
pub(crate) use self::file::line_at;
use self::key::NOT_BUILT;
pub(crate) use self::key::{KEYS, Key};
pub(crate) use self::kind::Value;
pub(crate) use self::options::{LogFormat, LogSettings};

/// A value that was given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlagValue {
    /// The key's name.
    pub(crate) name: String,
    pub(crate) text: String,
    /// What the user wrote, for errors.
    pub(crate) flag: String,
}

/// Where values come from, the strongest last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources<'a> {
    /// Values that `metastore dev` has instead of the defaults.
    pub(crate) dev: &'a [(Key, &'a str)],
    pub(crate) file: Option<&'a Path>,
    pub(crate) flags: Vec<FlagValue>,
}

/// What a key is set to, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A value for every key, each allowed, none in contradiction with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// In the order of [`KEYS`].
    settings: Vec<Setting>,
}

impl Configuration {
    /// Puts the sources together.
    ///
    /// # Errors
    /// Everything that is wrong, in the order in which it was found.
    pub(crate) fn load(sources: &Sources<'_>) -> Result<Configuration, ConfigErrors> {
        Configuration::load_by(sources, file::read)
    }

    /// As [`Configuration::load`], with the text that the file would have.
    #[cfg(test)]
    pub(crate) fn of_text(
        sources: &Sources<'_>,
        text: &str,
    ) -> Result<Configuration, ConfigErrors> {
        Configuration::load_by(sources, |path| file::read_text(path, text))
    }

    fn load_by(
        sources: &Sources<'_>,
        read: impl FnOnce(&Path) -> Result<Vec<file::Line>, ConfigError>,
    ) -> Result<Configuration, ConfigErrors> {
        let mut configuration = Configuration::defaults();
        let mut errors = Vec::new();
        for &(key, text) in sources.dev {
            let spec = key.spec();
            let value = spec.kind.parse_flag(spec.special, text);
            let value = value.expect("the defaults of dev are allowed");
            let origin = Origin::DevDefault;
            configuration.settings[key as usize] = Setting { value, origin };
        }
        if let Some(path) = sources.file {
            match read(path) {
                Ok(lines) => {
                    for line in lines {
                        configuration.set_line(path, &line, &mut errors);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        for flag in &sources.flags {
            configuration.set_flag(flag, &mut errors);
        }
        // A contradiction with a value that is not allowed anyway would only confuse.
        if errors.is_empty() {
            relations::check(&configuration, &mut errors);
        }
        match errors.is_empty() {
            true => Ok(configuration),
            false => Err(ConfigErrors(errors)),
        }
    }

    fn defaults() -> Configuration {
        let settings = KEYS.iter().map(|spec| {
            let value = spec.kind.parse_flag(spec.special, spec.default);
            Setting {
                value: value.expect("every default is allowed"),
                origin: Origin::Default,
            }
        });
        Configuration {
            settings: settings.collect(),
        }
    }

    fn set_line(&mut self, path: &Path, line: &file::Line, errors: &mut Vec<ConfigError>) {
        let origin = Origin::File {
            path: path.to_owned(),
            line: line.line,
        };
        let key = match find(&line.name, &origin) {
            Ok(Some(key)) => key,
            Ok(None) => return,
            Err(error) => return errors.push(error),
        };
        let spec = key.spec();
        let parsed = spec.kind.parse_written(spec.special, &line.written);
        self.set(key, parsed, origin, &line.source, errors);
    }

    fn set_flag(&mut self, flag: &FlagValue, errors: &mut Vec<ConfigError>) {
        let origin = Origin::Flag(flag.flag.clone());
        let key = match find(&flag.name, &origin) {
            Ok(Some(key)) => key,
            Ok(None) => return,
            Err(error) => return errors.push(error),
        };
        let spec = key.spec();
        let parsed = spec.kind.parse_flag(spec.special, &flag.text);
        self.set(key, parsed, origin, &format!("\"{}\"", flag.text), errors);
    }

    fn set(
        &mut self,
        key: Key,
        parsed: Result<Value, kind::ValueError>,
        origin: Origin,
        source: &str,
        errors: &mut Vec<ConfigError>,
    ) {
        match parsed {
            Ok(value) => self.settings[key as usize] = Setting { value, origin },
            Err(cause) => errors.push(ConfigError::Value {
                origin,
                name: key.name(),
                found: shorten(source),
                cause,
                allowed: key.spec().kind.allowed(key.spec().special),
            }),
        }
    }

    /// What a key is set to.
    pub(crate) fn get(&self, key: Key) -> &Setting {
        &self.settings[key as usize]
    }

    /// Whether somebody asked for the value that a key has.
    pub(crate) fn is_given(&self, key: Key) -> bool {
        !matches!(self.get(key).origin, Origin::Default | Origin::DevDefault)
    }
}

/// Reads the value of a key from a file that is no configuration and has the key too.
///
/// # Errors
/// A value that the key does not take.
pub(crate) fn read_value(key: Key, written: &toml::Value) -> Result<Value, KeyRefusal> {
    let spec = key.spec();
    let text = match written {
        toml::Value::String(text) => kind::Written::Text(text.clone()),
        toml::Value::Integer(number) => kind::Written::Integer(number.to_string()),
        other @ (toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_)) => kind::Written::Other(other.type_str()),
    };
    let parsed = spec.kind.parse_written(spec.special, &text);
    parsed.map_err(|cause| KeyRefusal {
        name: spec.name,
        found: shorten(&written.to_string()),
        cause,
        allowed: spec.kind.allowed(spec.special),
    })
}

/// The key of a name; `None` for a section without keys.
fn find(name: &str, origin: &Origin) -> Result<Option<Key>, ConfigError> {
    if let Some(key) = Key::find(name) {
        return Ok(Some(key));
    }
    let is_known_section =
        name.ends_with('.') && KEYS.iter().any(|spec| spec.name.starts_with(name));
    if is_known_section {
        return Ok(None);
    }
    let refused = NOT_BUILT.iter().find(|(refused, _)| {
        name == *refused || (refused.ends_with('.') && name.starts_with(refused))
    });
    let (origin, name) = (origin.clone(), name.to_owned());
    Err(match refused {
        Some((_, why)) => ConfigError::NotBuilt { origin, name, why },
        None => ConfigError::UnknownKey {
            known: describe_known(&name),
            origin,
            name,
        },
    })
}

/// The keys of the section that somebody meant, or the sections.
fn describe_known(name: &str) -> String {
    let section = name.split_once('.').map_or("", |(section, _)| section);
    let of_section = KEYS.iter().filter_map(|spec| {
        let (other, key) = spec.name.split_once('.')?;
        (other == section).then_some(key)
    });
    let of_section: Vec<_> = of_section.collect();
    if !of_section.is_empty() {
        return format!("[{section}] has {}", of_section.join(", "));
    }
    let mut tops: Vec<_> = KEYS
        .iter()
        .map(|spec| spec.name.split('.').next().unwrap_or(spec.name))
        .collect();
    tops.dedup();
    format!("there are {}", tops.join(", "))
}

/// What a user wrote, in a length that fits a line.
fn shorten(source: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let line: String = source
        .chars()
        .take(CHARACTERS_MAX)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    match line.len() < source.len() {
        true => line + "...",
        false => line,
    }
}

#[cfg(test)]
mod tests;
