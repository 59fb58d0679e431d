//! One run: each step is done to the state machine and to the model, and compared.

use super::*;

/// A range that is read slice by slice while batches are applied.
pub(super) struct Scan {
    pub(super) query: ModelQuery,
    pub(super) pin: Pin,
    pub(super) pinned: Pinned,
    pub(super) expected: Vec<ModelRow>,
    pub(super) found: Vec<ModelRow>,
    pub(super) resume_after: Option<Vec<u8>>,
    pub(super) slices: usize,
}

pub(super) struct Run {
    pub(super) shard: Shard,
    /// Another replica: the same commands, but no pins and no idle time.
    pub(super) other: StateMachine,
    pub(super) parameters: Parameters,
    pub(super) model: Model,
    pub(super) scans: Vec<Scan>,
}

impl Run {
    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Apply {
                commands,
                elapsed_ms,
            } => self.apply(commands, *elapsed_ms),
            Step::Get {
                namespace,
                key,
                back,
            } => self.get(*namespace, key, *back),
            Step::Range { query, back } => self.range(query, *back),
            Step::Scan {
                query,
                back,
                pinned,
            } => self.begin_scan(query, *back, *pinned),
            Step::Continue { scan } => {
                if !self.scans.is_empty() {
                    self.continue_scan(scan % self.scans.len());
                }
            }
            Step::Reclaim { entries } => {
                self.shard.machine.reclaim(*entries);
            }
            Step::Structured(structured) => self.apply_structured(structured),
        }
    }

    pub(super) fn apply(&mut self, commands: &[ModelCommand], elapsed_ms: u64) {
        self.shard.time.0 += elapsed_ms;
        let mut expected = Vec::new();
        let mut builder = BatchBuilder::new();
        for model_command in commands {
            let mut bytes = Vec::new();
            self.command(model_command).encode_into(&mut bytes);
            builder.push(&bytes);
            expected.push(
                self.model
                    .apply(model_command, &self.parameters, self.shard.time.0),
            );
        }
        let sealed = builder.seal(self.shard.time, 1);
        let mut seen = Vec::new();
        let batch = Batch::decode(&sealed).unwrap();
        self.shard
            .machine
            .apply(&batch, &mut |outcome| seen.push(seen_of(&outcome)))
            .unwrap();
        assert_eq!(seen, expected);
        self.other.apply(&batch, &mut |_| ()).unwrap();
        self.check_numbers();
    }

    pub(super) fn command<'a>(&self, command: &'a ModelCommand) -> Command<'a> {
        let namespace = NamespaceId(command.namespace);
        let put = Command::put(namespace, &command.key, &command.value);
        let mut encoded = Command {
            kind: command.kind,
            ..put
        };
        match command.condition {
            Condition::None => {}
            Condition::Absent => encoded = encoded.with_if_absent(),
            Condition::RevisionOff(off) => {
                let expected = self.model.expected_revision(command, off);
                encoded = encoded.with_expected_revision(Revision(expected));
            }
            Condition::Revision(expected) => {
                encoded = encoded.with_expected_revision(Revision(expected));
            }
        }
        if command.is_previous_wanted {
            encoded.with_return_previous()
        } else {
            encoded
        }
    }

    pub(super) fn check_numbers(&self) {
        let hashes = (self.shard.machine.state_hash(), self.other.state_hash());
        assert_eq!(hashes.0, hashes.1, "replicas have diverged");
        for namespace in [1, 2] {
            let id = NamespaceId(namespace);
            assert_eq!(
                self.shard.machine.revision(id).0,
                self.model.revision(namespace)
            );
            assert_eq!(
                self.shard.machine.oldest_revision(id).0,
                self.model.oldest(namespace)
            );
        }
        let heads = self
            .model
            .versions
            .values()
            .filter_map(|versions| versions.last());
        let live: Vec<_> = heads.filter_map(|(_, row)| row.as_ref()).collect();
        assert_eq!(self.shard.machine.key_count(), live.len() as u64);
        let live_bytes: usize = live
            .iter()
            .map(|row| 40 + row.key.len() + row.value.len())
            .sum();
        assert_eq!(self.shard.machine.live_bytes, live_bytes as u64);
        let answering = &self.model.changes[self.model.floor..];
        let answering_bytes: u64 = answering.iter().map(|change| change.held_bytes).sum();
        let memory = self.shard.machine.memory();
        assert_eq!(
            memory.history_bytes - memory.unanswering_bytes,
            answering_bytes
        );
    }

    /// What a read at a revision must be refused with, if it must.
    pub(super) fn refusal(&self, namespace: u32, at: u64) -> Option<ReadError> {
        let current = self.model.revision(namespace);
        let oldest = self.model.oldest(namespace);
        if at > current {
            Some(ReadError::Future {
                current: Revision(current),
            })
        } else if at < oldest {
            Some(ReadError::Compacted {
                oldest: Revision(oldest),
            })
        } else {
            None
        }
    }

    pub(super) fn get(&self, namespace: u32, key: &[u8], back: u64) {
        let get = |at| {
            self.shard.machine.get(&GetQuery {
                namespace: NamespaceId(namespace),
                key,
                at,
            })
        };
        let newest = get(None).map(|row| row.map(|row| model_row(&row)));
        assert_eq!(newest, Ok(self.model.row(namespace, key)));
        let at = (self.model.revision(namespace) + 1).saturating_sub(back);
        let found = get(Some(Revision(at))).map(|row| row.map(|row| model_row(&row)));
        let expected = match self.refusal(namespace, at) {
            Some(refusal) => Err(refusal),
            None => Ok(self.model.row_at(namespace, key, at)),
        };
        assert_eq!(found, expected);
    }

    pub(super) fn range(&self, query: &ModelQuery, back: u64) {
        let at = (self.model.revision(query.namespace) + 1).saturating_sub(back);
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let range = range_query(
                query,
                Some(Revision(at)),
                query.limit - found.len().min(query.limit as usize) as u64,
            );
            let end =
                self.shard
                    .machine
                    .range(&range, None, from.as_deref(), query.slice, &mut |row| {
                        found.push(model_row(&row));
                    });
            match (end, self.refusal(query.namespace, at)) {
                (Err(error), refusal) => return assert_eq!(Some(error), refusal),
                (Ok(_), Some(refusal)) => panic!("answered instead of {refusal}"),
                (Ok(SliceEnd::Finished), None) => break,
                (Ok(SliceEnd::More { resume_after }), None) => from = Some(resume_after),
            }
        }
        assert_eq!(found, self.model.range(query, at));
    }

    fn pin(
        &mut self,
        query: &ModelQuery,
        at: Option<u64>,
        pinned: Pinned,
    ) -> Result<Pin, ReadError> {
        let machine = &mut self.shard.machine;
        match (pinned, at) {
            (Pinned::Range, at) => machine.pin_range(&range_query(query, at.map(Revision), 0)),
            (Pinned::Everything, None) => Ok(machine.pin()),
            (Pinned::Everything, Some(at)) => {
                machine.pin_at(NamespaceId(query.namespace), Revision(at))
            }
        }
    }

    pub(super) fn begin_scan(&mut self, query: &ModelQuery, back: Option<u64>, pinned: Pinned) {
        let current = self.model.revision(query.namespace);
        let (pin, at) = match back {
            None => (self.pin(query, None, pinned).unwrap(), current),
            Some(back) => {
                let at = (current + 1).saturating_sub(back);
                let pin = self.pin(query, Some(at), pinned);
                match (pin, self.refusal(query.namespace, at)) {
                    (Ok(pin), None) => (pin, at),
                    (Err(error), refusal) => return assert_eq!(Some(error), refusal),
                    (Ok(_), Some(refusal)) => panic!("pinned instead of {refusal}"),
                }
            }
        };
        let expected = self.model.range(query, at);
        let query = query.clone();
        self.scans.push(Scan {
            query,
            pin,
            pinned,
            expected,
            found: Vec::new(),
            resume_after: None,
            slices: 0,
        });
    }

    pub(super) fn continue_scan(&mut self, index: usize) {
        let Scan {
            query,
            pin,
            pinned,
            found,
            resume_after,
            slices,
            ..
        } = &mut self.scans[index];
        let left = query.limit - found.len().min(query.limit as usize) as u64;
        let range = range_query(query, None, left);
        let mut rows = Vec::new();
        let machine = &self.shard.machine;
        let end = machine.range(
            &range,
            Some(pin),
            resume_after.as_deref(),
            query.slice,
            &mut |row| {
                rows.push(model_row(&row));
            },
        );
        assert!(rows.len() as u64 <= query.slice.rows);
        found.append(&mut rows);
        *slices += 1;
        assert!(*slices < 1000, "a scan that does not get on");
        match end.unwrap() {
            SliceEnd::More {
                resume_after: after,
            } => {
                if *pinned == Pinned::Range {
                    self.shard.machine.pass(pin, &after);
                }
                *resume_after = Some(after);
            }
            SliceEnd::Finished => {
                let scan = self.scans.swap_remove(index);
                assert_eq!(scan.found, scan.expected);
                self.shard.machine.unpin(scan.pin);
            }
        }
    }

    /// Finishes the scans; then only what the history must answer is held.
    pub(super) fn finish(&mut self) {
        while !self.scans.is_empty() {
            self.continue_scan(0);
        }
        self.shard.machine.reclaim(usize::MAX);
        assert_eq!(self.shard.machine.memory().unanswering_bytes, 0);
        let heads: usize = self
            .shard
            .machine
            .namespaces
            .values()
            .map(|namespace| namespace.keys.forward_from(b"").count())
            .sum();
        let answering = &self.model.changes[self.model.floor..];
        let remembered = |namespace: u32, revision: u64| {
            answering
                .iter()
                .any(|change| (change.namespace, change.revision) == (namespace, revision))
        };
        let expected = self
            .model
            .versions
            .iter()
            .filter(|((namespace, _), versions)| {
                versions.last().is_some_and(|(revision, row)| {
                    row.is_some() || remembered(*namespace, *revision)
                })
            });
        assert_eq!(
            heads,
            expected.count(),
            "live keys and the tombstones that the history remembers"
        );
    }
}

pub(super) fn model_row(row: &Row<'_>) -> ModelRow {
    assert_eq!(row.lease, 0);
    ModelRow {
        key: row.key.to_vec(),
        value: row.value.to_vec(),
        create_revision: row.create_revision.0,
        mod_revision: row.mod_revision.0,
        version: row.version,
    }
}

pub(super) fn range_query(query: &ModelQuery, at: Option<Revision>, limit: u64) -> RangeQuery<'_> {
    RangeQuery {
        namespace: NamespaceId(query.namespace),
        prefix: &query.prefix,
        start: &query.start,
        end: &query.end,
        scope: query.scope,
        delimiter: query.delimiter,
        direction: query.direction,
        projection: query.projection,
        at,
        limit,
    }
}
