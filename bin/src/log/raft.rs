//! raft-rs speaks through slog; here that becomes messages like all others.

use std::fmt;

use slog::{Drain, KV, OwnedKVList, Record, Serializer};

use super::message::{Field, FieldValue, Level};
use super::site::Site;
use super::{emit, is_enabled};

/// Places in raft-rs are told apart by line; two that share a number share how much they may say.
const SITES: usize = 64;
static SITE: [Site; SITES] = [const { Site::new() }; SITES];

/// Where the raft groups of a core speak.
pub(crate) fn raft_logger(core: u16) -> slog::Logger {
    slog::Logger::root(Bridge { core }, slog::o!())
}

/// What raft-rs calls information is how it works, so that it is ours for debugging; its warnings and errors stay what
/// they are.
struct Bridge {
    core: u16,
}

impl Drain for Bridge {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let level = match record.level() {
            slog::Level::Critical | slog::Level::Error => Level::Error,
            slog::Level::Warning => Level::Warn,
            slog::Level::Info | slog::Level::Debug | slog::Level::Trace => Level::Debug,
        };
        if !is_enabled(level) {
            return Ok(());
        }
        let mut fields = Fields(vec![("core".to_owned(), self.core.to_string())]);
        // A value that cannot be shown is left out; the message is not.
        let _ = record.kv().serialize(record, &mut fields);
        let _ = values.serialize(record, &mut fields);
        let fields: Vec<Field<'_>> = fields
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), to_value(value)))
            .collect();
        let place = usize::try_from(record.line()).expect("a processor of 64 bits") % SITES;
        emit(
            &SITE[place],
            level,
            &format!("raft: {}", record.msg()),
            &fields,
        );
        Ok(())
    }

    fn is_enabled(&self, level: slog::Level) -> bool {
        match level {
            slog::Level::Critical | slog::Level::Error => is_enabled(Level::Error),
            slog::Level::Warning => is_enabled(Level::Warn),
            slog::Level::Info | slog::Level::Debug | slog::Level::Trace => is_enabled(Level::Debug),
        }
    }
}

fn to_value(value: &str) -> FieldValue<'_> {
    match value.parse() {
        Ok(number) => FieldValue::Number(number),
        Err(_) => match value.parse() {
            Ok(number) => FieldValue::Signed(number),
            Err(_) => FieldValue::from(value),
        },
    }
}

struct Fields(Vec<(String, String)>);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_raft_are_collected_and_numbers_stay_numbers() {
        let mut fields = Fields(Vec::new());
        fields
            .emit_arguments("term", &format_args!("{}", 7))
            .expect("it is kept");
        assert_eq!(fields.0, [("term".to_owned(), "7".to_owned())]);
        assert_eq!(to_value("7"), FieldValue::Number(7));
        assert_eq!(to_value("-7"), FieldValue::Signed(-7));
        assert_eq!(to_value("1.2"), FieldValue::from("1.2"));
    }

    #[test]
    fn speaking_without_a_log_does_no_harm() {
        slog::error!(raft_logger(0), "nobody hears this"; "term" => 7);
    }
}
