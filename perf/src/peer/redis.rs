//! How redis is started: every write is appended to its file and flushed before it is acknowledged.

use std::ffi::OsString;

use super::{Place, Recipe};

pub(super) const RECIPE: Recipe = Recipe {
    program: "redis-server",
    package: "redis-server",
    version_between: ("v=", " "),
    arguments,
};

fn arguments(place: &Place<'_>) -> Vec<OsString> {
    let port = place.ports.client.to_string();
    let settings: [(&str, OsString); 9] = [
        ("--bind", "127.0.0.1".into()),
        ("--port", port.into()),
        ("--dir", place.data.into()),
        ("--logfile", place.log.into()),
        ("--appendonly", "yes".into()),
        ("--appendfsync", "always".into()),
        // Neither snapshots nor rewritten files: nothing but the writes of the load.
        ("--save", "".into()),
        ("--auto-aof-rewrite-percentage", "0".into()),
        ("--daemonize", "no".into()),
    ];
    let words = settings.map(|(name, value)| [name.into(), value]);
    words.into_iter().flatten().collect()
}
