//! One frame of every kind in both directions, for the golden file, the round trips and the fuzzers' corpus.

use crate::*;
use metastore_statemachine::{
    Command, Commit, Compare, Detail, Direction, Existence, GetQuery, KeyRange, NamespaceId,
    Operation, Outcome, OutcomeCode, Projection, RangeQuery, Revision, Row, Scope, ShardList,
    ShardRevisions, Structured, Txn,
};

/// A frame with the name that it has in the golden file.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
pub(crate) const CLUSTER: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

pub(crate) fn sample_row() -> Row<'static> {
    Row {
        key: b"/jobs/1",
        value: b"running",
        create_revision: Revision(3),
        mod_revision: Revision(9),
        version: 2,
        lease: 0,
    }
}

pub(crate) fn sample_outcome() -> Outcome<'static> {
    Outcome {
        code: OutcomeCode::Done,
        revision: Revision(10),
        number: Some(-7),
        previous: Some(sample_row()),
        detail: None,
    }
}

fn sample_txn() -> Structured<'static> {
    Structured::Txn(Txn {
        compares: vec![Compare::existence(b"/jobs/1", Existence::Absent)],
        then: vec![
            Operation::Mutation(Command::put(NAMESPACE, b"/jobs/1", b"running")),
            Operation::DeleteRange(KeyRange::children(b"/jobs/", b'/')),
        ],
        otherwise: vec![Operation::Get(b"/jobs/1")],
    })
}

fn sample_commit() -> Structured<'static> {
    Structured::Commit(Commit {
        read_revision: Revision(9),
        read_keys: vec![b"/jobs/1"],
        read_ranges: vec![KeyRange::children(b"/jobs/", b'/')],
        mutations: vec![Command::delete(NAMESPACE, b"/jobs/1")],
    })
}

/// An outcome with a detail, from the bytes that PROTOCOL.md draws: a transaction whose second list read one key.
fn sample_txn_outcome(bytes: &mut Vec<u8>) -> Outcome<'_> {
    bytes.extend_from_slice(&[0, 0, 4, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[1, 0, 0, 0, 16 + 54, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
    bytes.extend_from_slice(&[1, 0, 0, 0, 54, 0, 0, 0]);
    sample_row().encode_into(bytes);
    Outcome::decode(bytes).expect("a sound outcome").0
}

pub(crate) fn sample_hello_info() -> HelloInfo {
    HelloInfo {
        cluster_id: CLUSTER,
        node_id: 1,
        core_index: 2,
        core_count: 4,
        first_port: 7400,
        map_epoch: 5,
        server_version: "0.1.0".to_owned(),
    }
}

pub(crate) fn sample_error() -> WireError {
    WireError {
        code: ErrorCode::Conflict,
        happened: Happened::Unknown,
        message: "changed".to_owned(),
        limit: 1,
        actual: 2,
        retry_after_ms: 3,
        revision: Revision(4),
        epoch: 5,
        hint: "10.0.0.1:7400".to_owned(),
        keys: vec![b"/a".to_vec(), b"\xff".to_vec()],
    }
}

pub(crate) fn sample_status() -> StatusReply {
    StatusReply {
        cluster_id: CLUSTER,
        node_id: 1,
        version: "0.1.0".to_owned(),
        uptime_ms: 1234,
        core_index: 2,
        shards: 1,
        connections: 3,
        log: LogStatus {
            durable_writes: 1,
            marks: 2,
            record_bytes: 3,
            entry_bytes: 4,
            segments: 5,
            spares: 6,
            watermark: 7,
            epoch: 8,
            budget_bytes: 9,
            used_bytes: 10,
            space_state: "ok".to_owned(),
            flush_method: "dsync".to_owned(),
        },
        counters: vec![Counter {
            name: "requests".to_owned(),
            value: 11,
        }],
        stages: vec![StageStatus {
            name: "flush".to_owned(),
            count: 1,
            p50_ns: 2,
            p99_ns: 3,
            p999_ns: 0,
            max_ns: 4,
            mean_ns: 5,
        }],
        replicas: vec![ReplicaStatus {
            shard: 1,
            replica: 2,
            role: ReplicaRole::Leader,
            term: 3,
            commit: 4,
            applied: 5,
            last: 6,
            keys: 7,
            state_bytes: 8,
            history_bytes: 9,
            revision: 10,
            leader: 2,
            state_hash: 11,
            voters: 3,
            learners: 12,
        }],
    }
}

pub(crate) fn sample_shard_map() -> ShardMapReply {
    let place = |shard, first, last| ShardPlace {
        shard,
        slots: vec![SlotRange { first, last }],
        node_id: 1,
        core_index: shard as u16,
        address: format!("127.0.0.1:{}", 7400 + shard),
        follower_nodes: (0..shard).collect(),
        followers: (0..shard)
            .map(|follower| format!("127.0.0.2:{}", 7400 + follower))
            .collect(),
    };
    ShardMapReply {
        epoch: 5,
        slot_count: 16384,
        shards: vec![place(0, 0, 8191), place(1, 8192, 16383)],
    }
}

/// One of each action, and of those with choices one of each.
pub(crate) fn sample_admin_requests() -> Vec<AdminRequest<'static>> {
    let (shard, replica) = (7, 11);
    let home = ReplicaHome {
        node_id: 4,
        core_index: 1,
    };
    let change = |promoted, removed, spare| AdminRequest::ChangeVoters {
        shard,
        promoted,
        removed,
        spare,
    };
    vec![
        AdminRequest::Members { shard },
        AdminRequest::CreateReplica { shard, replica },
        AdminRequest::AddLearner {
            shard,
            replica,
            home,
        },
        AdminRequest::RemoveLearner { shard, replica },
        change(Some(replica), Some(3), SpareVoter::GivenUp),
        change(Some(replica), None, SpareVoter::Kept),
        change(None, Some(3), SpareVoter::Kept),
        AdminRequest::TransferLeader { shard, to: None },
        AdminRequest::TransferLeader {
            shard,
            to: Some(replica),
        },
        AdminRequest::RemovedReplica { shard, replica },
        AdminRequest::Nodes,
        AdminRequest::AddNode(NodeEntry {
            node_id: 4,
            cores: 2,
            clients: "db4:7400",
            peers: "db4:7500",
            data_id: 0x4142_4344_4546_4748,
            standing: NodeStanding::Member,
        }),
        AdminRequest::ForgetNode { node_id: 4 },
    ]
}

pub(crate) fn sample_admin_reply() -> AdminReply {
    let parts = [
        MemberPart::Voter,
        MemberPart::Learner,
        MemberPart::Incoming,
        MemberPart::Outgoing,
    ];
    let members = (1..).zip(parts).map(|(replica, part)| ShardMember {
        replica,
        home: ReplicaHome {
            node_id: replica as u32 + 4,
            core_index: 1,
        },
        part,
        matched: 90 + replica,
        is_healthy: replica == 2,
    });
    AdminReply {
        index: 99,
        replica: 2,
        leader: 3,
        newest: 4,
        is_settled: true,
        members: members.collect(),
        nodes: vec![OwnedNodeEntry {
            node_id: 4,
            cores: 2,
            clients: "db4:7400".to_owned(),
            peers: "db4:7500".to_owned(),
            data_id: 0x4142_4344_4546_4748,
            standing: NodeStanding::Gone,
        }],
    }
}

pub(crate) fn sample_range() -> RangeRequest<'static> {
    RangeRequest {
        query: RangeQuery {
            namespace: NAMESPACE,
            prefix: b"/jobs/",
            start: b"/jobs/1",
            end: b"/jobs/9",
            scope: Scope::Children { separator: b'/' },
            delimiter: None,
            direction: Direction::Reverse,
            projection: Projection::KeysOnly,
            at: Some(Revision(9)),
            limit: 100,
        },
        chunk_bytes: 65536,
        shards: ShardList::ALL,
    }
}

pub(crate) fn sample_count() -> CountRequest<'static> {
    CountRequest {
        query: RangeQuery {
            delimiter: Some(b'/'),
            ..RangeRequest::subtree(NAMESPACE, b"/jobs/").query
        },
        shards: ShardList::ALL,
    }
}

pub(crate) fn sample_count_reply() -> CountReply {
    CountReply {
        count: 1_000_000,
        revisions: vec![ShardRevision {
            shard: 6,
            revision: Revision(12),
        }],
    }
}

pub(crate) fn sample_get() -> GetRequest<'static> {
    GetRequest {
        query: GetQuery {
            namespace: NAMESPACE,
            key: b"/jobs/1",
            at: Some(Revision(9)),
        },
        consistency: Consistency::Stale,
    }
}

/// One request of every kind, each from a connection of its own, so that all have the first id.
pub(crate) fn requests() -> Vec<Sample> {
    let sample = |name, send: &dyn Fn(&mut ClientConnection)| {
        let mut connection = ClientConnection::new(&ClientOptions {
            deadline_ms: 250,
            ..ClientOptions::default()
        });
        send(&mut connection);
        Sample {
            name,
            bytes: std::mem::take(connection.outbound()),
        }
    };
    vec![
        sample("hello", &|client| {
            client.hello(&HelloRequest::new("test", Some(CLUSTER)));
        }),
        sample("ping", &|client| {
            client.ping();
        }),
        sample("get", &|client| {
            client.get(&sample_get());
        }),
        sample("get_many", &|client| {
            let keys: [&[u8]; 2] = [b"/a", b"/bc"];
            client.get_many(NAMESPACE, None, Consistency::Linearizable, &keys);
        }),
        sample("put", &|client| {
            client.put(NAMESPACE, b"/jobs/1", b"running");
        }),
        sample("delete", &|client| {
            client.delete(NAMESPACE, b"/jobs/1");
        }),
        sample("command", &|client| {
            let command = Command::put(NAMESPACE, b"/jobs/1", b"done");
            let command = command.with_expected_revision(Revision(9));
            client.command(&command.with_return_previous());
        }),
        sample("txn", &|client| {
            client.structured(NAMESPACE, b"/jobs/1", &sample_txn());
        }),
        sample("commit", &|client| {
            client.structured(NAMESPACE, b"/jobs/1", &sample_commit());
        }),
        sample("delete_range", &|client| {
            let range = KeyRange::subtree(b"/jobs/");
            client.structured(NAMESPACE, b"/jobs/", &Structured::DeleteRange(range));
        }),
        sample("compact", &|client| {
            client.structured(NAMESPACE, b"/jobs/1", &Structured::Compact(Revision(9)));
        }),
        sample("batch", &|client| {
            let add = 5_i64.to_le_bytes();
            client.batch(&[
                Command::add_i64(NAMESPACE, b"/n", &add),
                Command::append(NAMESPACE, b"/log", b"x"),
            ]);
        }),
        sample("range", &|client| {
            client.range(&sample_range());
        }),
        sample("range-delimiter", &|client| {
            client.range(&RangeRequest {
                query: sample_count().query,
                chunk_bytes: 0,
                shards: ShardList::ALL,
            });
        }),
        sample("range-shards", &|client| {
            let shards = [7_u32.to_le_bytes(), 300_u32.to_le_bytes()].concat();
            client.range(&RangeRequest {
                shards: ShardList::new(&shards).expect("they ascend"),
                ..sample_range()
            });
        }),
        sample("admin", &|client| {
            client.admin(&sample_admin_requests()[4]);
        }),
        sample("count", &|client| {
            client.count(&sample_count());
        }),
        sample("cancel", &|client| {
            client.cancel(RequestId(42));
        }),
        sample("status", &|client| {
            client.status();
        }),
        sample("shard_map", &|client| {
            client.shard_map();
        }),
    ]
}

/// One response of every kind, to the first id of a connection.
pub(crate) fn responses() -> Vec<Sample> {
    let id = RequestId(1 << 32);
    let position = ReadPosition {
        shard: 6,
        revision: Revision(12),
    };
    let sample = |name, write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        Sample { name, bytes }
    };
    vec![
        sample("hello", &|out| {
            let reply = HelloReply {
                version: PROTOCOL_VERSION,
                info: sample_hello_info(),
                limits: ServerLimits::default(),
            };
            append_hello(out, id, &reply);
        }),
        sample("pong", &|out| append_pong(out, id)),
        sample("get", &|out| {
            append_get(out, id, position, Some(sample_row()));
        }),
        sample("get-absent", &|out| append_get(out, id, position, None)),
        sample("get_many", &|out| {
            append_get_many(out, id, position, |rows| {
                rows.row(Some(&sample_row()));
                rows.row(None);
            });
        }),
        sample("command", &|out| {
            append_outcome(out, id, &sample_outcome());
        }),
        sample("put", &|out| {
            let outcome = Outcome {
                number: None,
                previous: None,
                ..sample_outcome()
            };
            append_outcome(out, id, &outcome);
        }),
        sample("txn", &|out| {
            let mut bytes = Vec::new();
            append_outcome(out, id, &sample_txn_outcome(&mut bytes));
        }),
        sample("commit-conflict", &|out| {
            let outcome = Outcome {
                code: OutcomeCode::Conflict,
                number: None,
                previous: None,
                detail: Some(Detail::ConflictPrefix(b"/jobs/")),
                ..sample_outcome()
            };
            append_outcome(out, id, &outcome);
        }),
        sample("delete_range", &|out| {
            let revisions = [6, 7].map(|shard| ShardRevision {
                shard,
                revision: Revision(12),
            });
            let mut bytes = Vec::new();
            let revisions = ShardRevisions::encode(revisions, &mut bytes);
            let outcome = Outcome {
                revision: Revision(0),
                number: Some(1000),
                previous: None,
                detail: Some(Detail::ShardRevisions(revisions)),
                ..sample_outcome()
            };
            append_outcome(out, id, &outcome);
        }),
        sample("batch", &|out| {
            append_batch(out, id, |items| {
                items.outcome(&sample_outcome());
                items.error(&WireError::too_large(8, 9));
            });
        }),
        sample("range-more", &|out| {
            append_chunk(out, id, ChunkEnd::More, |rows| rows.row(&sample_row()));
        }),
        sample("range-last", &|out| {
            let revisions = [ShardRevision {
                shard: 6,
                revision: Revision(12),
            }];
            append_chunk(out, id, ChunkEnd::Last(&revisions), |rows| {
                rows.row(&sample_row());
                rows.row(&sample_row());
            });
        }),
        sample("admin", &|out| append_admin(out, id, &sample_admin_reply())),
        sample("count", &|out| append_count(out, id, &sample_count_reply())),
        sample("cancel", &|out| append_cancelled(out, id)),
        sample("status", &|out| append_status(out, id, &sample_status())),
        sample("status-slices", &|out| {
            let slices = StageStatus {
                name: "slice range".to_owned(),
                p999_ns: 6,
                ..sample_status().stages.remove(0)
            };
            let status = StatusReply {
                stages: vec![slices],
                ..sample_status()
            };
            append_status(out, id, &status);
        }),
        sample("shard_map", &|out| {
            append_shard_map(out, id, &sample_shard_map());
        }),
        sample("error", &|out| {
            append_error(out, FrameKind::Command, id, &sample_error());
        }),
    ]
}
