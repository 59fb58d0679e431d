//! Which values go together.
//!
//! What depends on data that already exists (the budget against the segments of the data, and where its cores listen) is
//! checked when data is formatted and when the node starts.

use super::{ConfigError, Configuration, Key};

/// Adds every contradiction.
pub(super) fn check(configuration: &Configuration, errors: &mut Vec<ConfigError>) {
    let number = |key| configuration.number(key);
    let mut refuse_unless = |holds: bool, first: Key, second: Key, rule: &'static str| {
        if !holds {
            errors.push(ConfigError::Contradiction {
                first: describe(configuration, first),
                second: describe(configuration, second),
                rule,
            });
        }
    };
    refuse_unless(
        number(Key::RaftHeartbeatTick) < number(Key::RaftElectionTick),
        Key::RaftHeartbeatTick,
        Key::RaftElectionTick,
        "a heartbeat must come before an election",
    );
    refuse_unless(
        number(Key::LimitsDeadlineDefault) <= number(Key::LimitsDeadlineMax),
        Key::LimitsDeadlineDefault,
        Key::LimitsDeadlineMax,
        "the default is one of the deadlines that are allowed",
    );
    refuse_unless(
        number(Key::LimitsRangesPerConnection) <= number(Key::LimitsRanges),
        Key::LimitsRangesPerConnection,
        Key::LimitsRanges,
        "a connection cannot have more than its core",
    );
    refuse_unless(
        number(Key::LimitsOutboundBytes) <= number(Key::LimitsOutboundBytesClose),
        Key::LimitsOutboundBytes,
        Key::LimitsOutboundBytesClose,
        "reading stops before the connection is closed",
    );
    refuse_unless(
        2 * number(Key::WalMaxRecordBytes) <= number(Key::WalSegmentBytes),
        Key::WalMaxRecordBytes,
        Key::WalSegmentBytes,
        "a segment holds at least two records",
    );
    // Data that exists may have other segments than the default.
    if configuration.is_given(Key::WalSegmentBytes) {
        refuse_unless(
            4 * number(Key::WalSegmentBytes) <= number(Key::WalBudget),
            Key::WalSegmentBytes,
            Key::WalBudget,
            "the budget must hold four segments",
        );
    }
}

fn describe(configuration: &Configuration, key: Key) -> String {
    let setting = configuration.get(key);
    format!("{} = {} ({})", key.name(), setting.value, setting.origin)
}
