//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::failure::Failure;
use crate::report::Line;

/// Runs every decoder on mutated inputs. Everything follows from the seed.
#[derive(Debug, Clone, Parser)]
#[command(name = "metastore-fuzz", version)]
pub struct Arguments {
    /// How many executions of each target
    #[arg(long, default_value_t = 20_000)]
    pub executions: u64,
    /// Only this target, or with a slash at its end all that begin so; may be repeated
    #[arg(long, value_name = "NAME")]
    pub target: Vec<String>,
    /// What the inputs follow from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Begin no new million of a target after so long
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Append a line for every million executions, and go on where its lines of the same seed and code end
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Which code runs: lines of another do not count
    #[arg(long, value_name = "COMMIT", default_value = "")]
    pub revision: String,
    /// Run one execution only, and print its input
    #[arg(long, value_name = "NUMBER")]
    pub at: Option<u64>,
    /// Run this file only, as it is
    #[arg(long, value_name = "FILE", conflicts_with = "at")]
    pub input: Option<PathBuf>,
    /// Name the targets
    #[arg(long)]
    pub list: bool,
}

impl Arguments {
    /// Whether a target was asked for. A name that is one exactly means no other.
    #[must_use]
    pub fn chooses(&self, name: &str) -> bool {
        self.target.is_empty()
            || self.target.iter().any(|asked| {
                name == asked || asked.ends_with('/') && name.starts_with(asked.as_str())
            })
    }

    /// The lines of earlier runs that count for this one.
    pub(crate) fn recorded(&self) -> Result<Vec<Line>, Failure> {
        let Some(path) = &self.record else {
            return Ok(Vec::new());
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Failure::file(path, source)),
        };
        let mut lines = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(text).map_err(|error| Failure::Record {
                path: path.clone(),
                line: index + 1,
                cause: error.to_string(),
            })?;
            if line.seed == self.seed && line.revision == self.revision {
                lines.push(line);
            }
        }
        Ok(lines)
    }
}
