//! Findings in a log, in words and as JSON.

use std::fmt;
use std::path::Path;

use metastore_engine::{CoreId, ShardId};
use metastore_wal::device::segment_path;
use metastore_wal::format::BodyFault;
use metastore_wal::recovery::{Concerned, Damage, DamageKind, TornTail};
use serde_json::{Value, json};

use super::Data;
use super::judgement::{Judgement, Verdict};
use crate::node::log_directory;

/// What to do about damage. There is no second copy on this node, and nothing here may make things worse.
pub(super) const ADVICE: &str = "\
Nothing has been changed, and the node will not start. Do not delete or truncate files of the log: what is still \
readable may be all there is. Copy the whole data directory to another disk, look at the disk's health (kernel log, \
SMART data), and restore from a backup.";

/// The last lines of a core's report.
pub(super) fn lines(data: &Data, core: CoreId, judgement: &Judgement) -> Vec<String> {
    let directory = log_directory(&data.path, core);
    let of_core = |text: String| format!("core {core}: {text}");
    match &judgement.verdict {
        Verdict::Starts => vec![of_core(
            "starts, everything that was written is there".to_owned(),
        )],
        Verdict::StartsWithout(torn) => {
            vec![of_core(format!("starts; {}", torn_text(&directory, torn)))]
        }
        Verdict::Damaged(findings) => {
            let shards = shards_of(data, core);
            let text = |damage: &Damage| {
                let place = place_text(&directory, damage);
                let concerned = concerned_text(&damage.concerned, &shards);
                of_core(format!(
                    "DAMAGED: {place}: {}; {concerned}",
                    What(damage.what)
                ))
            };
            findings.iter().map(text).collect()
        }
        Verdict::Refused(refusal) => vec![of_core(format!("DOES NOT START: {refusal}"))],
    }
}

/// The same for programs.
pub(super) fn document(data: &Data, core: CoreId, judgement: &Judgement) -> Value {
    let directory = log_directory(&data.path, core);
    let mut document = json!({
        "core": core.0,
        "starts": judgement.verdict.is_start(),
    });
    let (verdict, name, detail) = match &judgement.verdict {
        Verdict::Starts => ("complete", None, Value::Null),
        Verdict::StartsWithout(torn) => ("torn-tail", Some("torn"), torn_json(&directory, torn)),
        Verdict::Damaged(findings) => {
            let shards = shards_of(data, core);
            let finding = |damage: &Damage| damage_json(&directory, damage, &shards);
            let findings = findings.iter().map(finding).collect();
            ("damaged", Some("findings"), findings)
        }
        Verdict::Refused(refusal) => (
            "refused",
            Some("reason"),
            Value::String(refusal.to_string()),
        ),
    };
    document["verdict"] = json!(verdict);
    if let Some(name) = name {
        document[name] = detail;
    }
    if let Some(survey) = &judgement.survey {
        document["watermark"] = json!(survey.watermark.0);
        document["epoch"] = json!(survey.epoch.0);
        document["last_record"] = json!(survey.last_record.0);
        document["surviving_records"] = json!(survey.surviving_records);
    }
    document
}

/// The shards whose replicas live on this core.
fn shards_of(data: &Data, core: CoreId) -> Vec<ShardId> {
    let here = data.node.replicas.iter().filter(|place| place.core == core);
    here.map(|place| place.shard).collect()
}

fn torn_text(directory: &Path, torn: &TornTail) -> String {
    let parts: Vec<String> = torn
        .parts
        .iter()
        .map(|part| match part.indexes {
            Some((first, last)) => format!("shard {} entries {first} to {last}", part.shard),
            None => format!("shard {} without entries", part.shard),
        })
        .collect();
    let parts = if parts.is_empty() {
        "none of it can be read".to_owned()
    } else {
        parts.join(", ")
    };
    format!(
        "cut off: {} from offset {} on (record {}), never acknowledged: {parts}",
        segment_path(directory, torn.file).display(),
        torn.offset,
        torn.sequence,
    )
}

fn torn_json(directory: &Path, torn: &TornTail) -> Value {
    let parts = torn.parts.iter().map(|part| {
        json!({
            "replica": part.replica.0,
            "shard": part.shard.0,
            "first_index": part.indexes.map(|(first, _)| first.0),
            "last_index": part.indexes.map(|(_, last)| last.0),
        })
    });
    json!({
        "file": segment_path(directory, torn.file).display().to_string(),
        "offset": torn.offset,
        "record": torn.sequence.0,
        "parts": parts.collect::<Vec<_>>(),
    })
}

fn place_text(directory: &Path, damage: &Damage) -> String {
    match damage.file {
        Some(file) => {
            let path = segment_path(directory, file);
            format!("{} at offset {}", path.display(), damage.offset)
        }
        None => format!("no file of {}", directory.display()),
    }
}

fn damage_json(directory: &Path, damage: &Damage, shards: &[ShardId]) -> Value {
    let path = damage.file.map(|file| segment_path(directory, file));
    json!({
        "file": path.map(|path| path.display().to_string()),
        "offset": damage.offset,
        "what": What(damage.what).to_string(),
        "shards": concerned_shards(&damage.concerned, shards)
            .iter()
            .map(|shard| shard.0)
            .collect::<Vec<_>>(),
    })
}

/// The shards concerned, of those on the core.
fn concerned_shards(concerned: &Concerned, shards: &[ShardId]) -> Vec<ShardId> {
    match concerned {
        Concerned::Shards(shards) => shards.clone(),
        Concerned::WholeCore { proven_intact } => {
            let suspect = shards.iter().filter(|shard| !proven_intact.contains(shard));
            suspect.copied().collect()
        }
    }
}

fn concerned_text(concerned: &Concerned, shards: &[ShardId]) -> String {
    let list = |shards: &[ShardId]| {
        let names: Vec<String> = shards.iter().map(ShardId::to_string).collect();
        names.join(", ")
    };
    let suspect = concerned_shards(concerned, shards);
    match concerned {
        _ if suspect.is_empty() => {
            "concerns no shard: what it held stands elsewhere too".to_owned()
        }
        Concerned::Shards(_) => format!("concerns shards {}", list(&suspect)),
        Concerned::WholeCore { proven_intact } if proven_intact.is_empty() => {
            format!("may concern every shard of the core: {}", list(&suspect))
        }
        Concerned::WholeCore { proven_intact } => format!(
            "may concern shards {}; later records prove that shards {} lost nothing",
            list(&suspect),
            list(proven_intact)
        ),
    }
}

/// A kind of damage in words.
struct What(DamageKind);

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DamageKind::HeaderUnreadable { sequence } => {
                write!(formatter, "the header of record {sequence} cannot be read")
            }
            DamageKind::HeaderMalformed => {
                write!(formatter, "the header of a record contradicts itself")
            }
            DamageKind::MarksUnreadable => {
                write!(formatter, "neither of the two marks can be read")
            }
            DamageKind::RecordsMissing { first, last } if first == last => {
                write!(formatter, "record {first} is missing")
            }
            DamageKind::RecordsMissing { first, last } => {
                write!(formatter, "records {first} to {last} are missing")
            }
            DamageKind::Body { sequence, fault } => {
                write!(formatter, "record {sequence}: {}", fault_text(fault))
            }
            DamageKind::ChainBroken { sequence } => write!(
                formatter,
                "record {sequence} was not written after the record before it"
            ),
            DamageKind::Misplaced { sequence } => {
                write!(formatter, "record {sequence} is not where it belongs")
            }
            DamageKind::HoleInReplica { sequence, replica } => write!(
                formatter,
                "record {sequence} does not follow from what replica {replica} had before it"
            ),
            DamageKind::CheckpointContradicts { sequence, replica } => write!(
                formatter,
                "checkpoint {sequence} contradicts the records of replica {replica} before it"
            ),
            DamageKind::WasDamaged { sequence, replica } => write!(
                formatter,
                "an earlier start found replica {replica} damaged, and up to record {sequence} nothing has taken its place"
            ),
            DamageKind::EntriesMissing { replica, last } => {
                write!(
                    formatter,
                    "entries of replica {replica} up to {last} are in no record"
                )
            }
        }
    }
}

pub(super) fn fault_text(fault: BodyFault) -> &'static str {
    match fault {
        BodyFault::Checksum => "the content is not what was written",
        BodyFault::Padding => "the padding is not zero",
        BodyFault::Malformed => "the content contradicts itself",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_wal::{FileNumber, RecordSequence};

    const SHARDS: [ShardId; 3] = [ShardId(1), ShardId(4), ShardId(9)];

    fn damage(concerned: Concerned) -> Damage {
        Damage {
            file: Some(FileNumber(3)),
            offset: 8192,
            what: DamageKind::HeaderUnreadable {
                sequence: RecordSequence(7),
            },
            concerned,
        }
    }

    #[test]
    fn a_finding_names_file_offset_and_shards() {
        let directory = Path::new("/data/core-0");
        let concerned = Concerned::WholeCore {
            proven_intact: vec![ShardId(4)],
        };
        let damage = damage(concerned);
        assert_eq!(
            place_text(directory, &damage),
            "/data/core-0/log-3.seg at offset 8192"
        );
        let document = damage_json(directory, &damage, &SHARDS);
        assert_eq!(document["file"], "/data/core-0/log-3.seg");
        assert_eq!(document["offset"], 8192);
        assert_eq!(document["what"], "the header of record 7 cannot be read");
        assert_eq!(document["shards"], json!([1, 9]));
    }

    #[test]
    fn whom_damage_concerns_is_said_in_each_case() {
        let text = |concerned| concerned_text(&concerned, &SHARDS);
        assert_eq!(
            text(Concerned::Shards(vec![ShardId(4)])),
            "concerns shards 4"
        );
        assert!(text(Concerned::Shards(Vec::new())).contains("no shard"));
        let proven_intact = Vec::new();
        assert!(text(Concerned::WholeCore { proven_intact }).ends_with("1, 4, 9"));
        let proven_intact = vec![ShardId(1)];
        let some = text(Concerned::WholeCore { proven_intact });
        assert!(some.starts_with("may concern shards 4, 9;"), "{some}");
        assert!(some.ends_with("shards 1 lost nothing"), "{some}");
    }
}
