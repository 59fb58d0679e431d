//! `metastore config`: what is in effect, and where each value comes from.

use std::io::{self, Write};

use serde_json::{Value as Json, json};

use super::{CommandError, Exit};
use crate::arguments::{ConfigArguments, ConfigFileArguments, Format};
use crate::config::{self, Configuration, KEYS, Key, Origin, Setting, Sources, Value};

/// The configuration of a file and of flags.
pub(super) fn load(arguments: &ConfigFileArguments) -> Result<Configuration, CommandError> {
    let sources = Sources {
        dev: &[],
        file: arguments.config.as_deref(),
        flags: arguments.settings.flags(),
    };
    Ok(Configuration::load(&sources)?)
}

pub(super) fn run(arguments: &ConfigArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    if arguments.example {
        let text = config::example();
        out.write_all(text.as_bytes())
            .map_err(CommandError::Output)?;
        return Ok(Exit::Done);
    }
    let configuration = load(&arguments.config)?;
    match arguments.format() {
        Format::People => print(&configuration, out).map_err(CommandError::Output)?,
        Format::Json => {
            for spec in &KEYS {
                super::json::print(out, &document(spec.key, configuration.get(spec.key)))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Lines that are TOML themselves, with the origins as comments.
fn print(configuration: &Configuration, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<_> = KEYS
        .iter()
        .map(|spec| {
            let setting = configuration.get(spec.key);
            let line = format!("{} = {}", spec.name, setting.value.to_toml());
            (line, &setting.origin)
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max();
    let width = width.unwrap_or(0).min(60);
    for (line, origin) in lines {
        writeln!(out, "{line:<width$}  # {origin}")?;
    }
    Ok(())
}

fn document(key: Key, setting: &Setting) -> Json {
    let value = match &setting.value {
        Value::Number(number) => json!(number),
        other @ (Value::Text(_)
        | Value::Bytes(_)
        | Value::Milliseconds(_)
        | Value::Auto
        | Value::Off) => json!(other.to_string()),
    };
    let mut document = json!({ "key": key.name(), "value": value });
    match &setting.origin {
        Origin::Default | Origin::DevDefault => document["origin"] = json!("default"),
        Origin::Flag(flag) => {
            document["origin"] = json!("flag");
            document["flag"] = json!(flag);
        }
        Origin::File { path, line } => {
            document["origin"] = json!("file");
            document["file"] = json!(path.display().to_string());
            document["line"] = json!(line);
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FlagValue;
    use crate::test_directory::TestDirectory;

    fn configuration() -> Configuration {
        let sources = Sources {
            flags: vec![FlagValue {
                name: "data".to_owned(),
                text: "/a \"b\"".to_owned(),
                flag: "--data".to_owned(),
            }],
            ..Sources::default()
        };
        Configuration::load(&sources).expect("it is allowed")
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let mut text = Vec::new();
        print(&configuration(), &mut text).expect("memory takes it");
        let directory = TestDirectory::new("config-print");
        let path = directory.path().join("metastore.toml");
        std::fs::write(&path, &text).expect("it can be written");
        let sources = Sources {
            file: Some(&path),
            ..Sources::default()
        };
        let read = Configuration::load(&sources).expect("it is a configuration");
        for spec in &KEYS {
            let before = &configuration().get(spec.key).value.clone();
            assert_eq!(&read.get(spec.key).value, before, "{}", spec.name);
        }
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.lines()
                .next()
                .is_some_and(|line| line.ends_with("# --data")),
            "{text}"
        );
    }

    #[test]
    fn programs_read_value_and_origin() {
        let configuration = configuration();
        let of = |key| document(key, configuration.get(key));
        assert_eq!(
            of(Key::Data),
            json!({"key": "data", "value": "/a \"b\"", "origin": "flag", "flag": "--data"})
        );
        assert_eq!(
            of(Key::ListenPort),
            json!({"key": "listen.port", "value": 7400, "origin": "default"})
        );
    }
}
