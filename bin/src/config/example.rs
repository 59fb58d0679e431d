//! The example file: every key with its meaning, its unit, its bounds and its default, all of it commented out.

use super::key::{KEYS, KeySpec};

const WIDTH: usize = 100;

const HEAD: &str = "\
# The configuration of a MetaStore node, every key with its default. Written by `metastore config --example`.
#
# Take the sign off a line to set a key. `metastore config --config FILE` checks a file and prints what is in effect and
# where each value comes from; `metastore serve --config FILE` starts the node. Flags override the file:
# --set wal.budget=16GiB sets any key. A key that is not listed here is an error.
";

/// The text of the example.
pub(crate) fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for spec in &KEYS {
        let (own, key) = spec.name.split_once('.').unwrap_or(("", spec.name));
        if own != section {
            text += &format!("\n[{own}]\n");
            section = own;
        }
        text += &entry(spec, key);
    }
    text
}

fn entry(spec: &KeySpec, key: &str) -> String {
    let mut text = String::from("\n");
    for line in wrap(spec.meaning) {
        text += &format!("# {line}\n");
    }
    let allowed = spec.kind.allowed(spec.special);
    let unit = spec.kind.unit().map(|unit| format!(" ({unit})"));
    for line in wrap(&format!("Allowed: {allowed}{}.", unit.unwrap_or_default())) {
        text += &format!("# {line}\n");
    }
    let value = spec.kind.parse_flag(spec.special, spec.default);
    let value = value.expect("every default is allowed");
    text + &format!("#{key} = {}\n", value.to_toml())
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines
}
