//! Interaction scripts: what is done to a group, and what each step leads to.
//!
//! A script is a text. A line at its beginning is a step, the lines below it that are indented by two spaces are what
//! the step led to; comments begin with `#`. With `METASTORE_REWRITE_GOLDEN` set, the indented lines are written anew.
//!
//! | step | what it does |
//! |---|---|
//! | `start <nodes> [sleepy]` | nodes of one core, one shard with a voter on each, which falls asleep when it has been idle for two ticks |
//! | `tick <node> [times]` | time passes on a node |
//! | `campaign <node>` | time passes on a node until it says something |
//! | `elect <node>` | time passes on a node until it leads; everything is delivered and written |
//! | `put <node> <key> <value>`, `get <node> <key>` | a request |
//! | `write <node>` | the oldest write of a node is durable |
//! | `deliver <from> <to>`, `lose <from> <to>` | everything on its way between two nodes arrives, or never does |
//! | `hand-over <node> <to>` | a leader is told to let another lead |
//! | `drain <node>` | a node is told to stop |
//! | `settle` | everything is delivered and written until nothing moves |
//! | `crash <node>`, `restart <node>` | a node loses its power, and starts again |
//! | `partition <nodes> <nodes>`, `heal` | nothing passes between nodes named like `1,2`; everything passes again |
//! | `status` | what each replica knows |
//! | `add-node` | a node more, on which nothing lives |
//! | `create <node> <replica>`, `discard <node> <replica>` | a replica is to live on a node, or is not wanted |
//! | `learn <leader> <replica> <node>`, `unlearn <leader> <replica>` | a replica is to join, or to go |
//! | `voters <leader> [+replica] [-replica]` | replicas are to vote, or to go, in one change |
//! | `members <node>` | who belongs to the group, as a node knows it |

use std::fmt::Write as _;
use std::path::Path;

use metastore_engine::{MembersChange, MembersEffect, ReplicaId, Spare, describe_batch};

use super::cluster::{NodeNumber, TestCluster};
use crate::harness::Answer;

/// Runs a script and compares what it leads to.
pub(crate) fn run(path: &Path) {
    let script = std::fs::read_to_string(path).expect("the script can be read");
    let mut player = Player::default();
    let mut played = String::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        played.push_str(line);
        played.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            for led_to in player.play(line) {
                writeln!(played, "  {led_to}").expect("a string takes everything");
            }
        }
    }
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(path, &played).expect("the repository can be written");
        return;
    }
    assert!(
        played == script,
        "{} leads to something else:\n{played}",
        path.display()
    );
}

#[derive(Default)]
struct Player {
    cluster: Option<TestCluster>,
    requests: u64,
    /// Batches that were on their way and told of.
    told: Vec<(NodeNumber, NodeNumber, Vec<u8>)>,
    /// Of what nodes said about members.
    members_told: usize,
}

impl Player {
    fn cluster(&mut self) -> &mut TestCluster {
        self.cluster.as_mut().expect("a script begins with `start`")
    }

    fn play(&mut self, step: &str) -> Vec<String> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let number = |word: &str| -> NodeNumber { word.parse().expect("a number") };
        let id = |word: &str| ReplicaId(word.parse().expect("a number"));
        let nodes = |word: &str| -> Vec<NodeNumber> { word.split(',').map(number).collect() };
        match words[..] {
            ["start", count] => self.cluster = Some(TestCluster::new(number(count), 1)),
            ["start", count, "sleepy"] => {
                let mut cluster = TestCluster::with(number(count), 1, |config| {
                    config.settings.raft.idle.sleep_ticks = Some(2);
                });
                cluster.carries_beats = true;
                self.cluster = Some(cluster);
            }
            ["tick", node] => self.cluster().tick(number(node)),
            ["tick", node, times] => {
                for _ in 0..number(times) {
                    self.cluster().tick(number(node));
                }
            }
            ["campaign", node] => self.cluster().campaign(number(node)),
            ["elect", node] => {
                self.cluster().elect(number(node));
                return self.status();
            }
            ["put", node, key, value] => {
                self.requests += 1;
                let request = self.requests;
                self.cluster().put(number(node), request, key, value);
            }
            ["get", node, key] => {
                self.requests += 1;
                let request = self.requests;
                self.cluster().get(number(node), request, key);
            }
            ["write", node] => {
                if !self.cluster().complete_write(number(node)) {
                    return vec!["it writes nothing".to_owned()];
                }
            }
            ["deliver", from, to] => {
                self.forget(number(from), number(to));
                if self.cluster().deliver(number(from), number(to)) == 0 {
                    return vec!["nothing is on its way".to_owned()];
                }
            }
            ["lose", from, to] => {
                self.forget(number(from), number(to));
                self.cluster().lose(number(from), number(to));
            }
            ["hand-over", node, to] => self.cluster().hand_over(number(node), number(to)),
            ["drain", node] => self.cluster().drain(number(node)),
            ["settle"] => self.cluster().settle(),
            ["crash", node] => self.cluster().crash(number(node)),
            ["restart", node] => self.cluster().start(number(node)),
            ["partition", one, other] => self.cluster().partition(&nodes(one), &nodes(other)),
            ["heal"] => self.cluster().heal(),
            ["status"] => return self.status(),
            ["add-node"] => drop(self.cluster().add_node()),
            ["create", node, replica] => self.cluster().create(number(node), id(replica).0),
            ["discard", node, replica] => self.cluster().discard(number(node), id(replica).0),
            ["learn", leader, replica, node] => {
                let learner = TestCluster::member(id(replica).0, number(node));
                let change = MembersChange::AddLearner(learner);
                self.cluster().change(number(leader), change);
            }
            ["unlearn", leader, replica] => {
                let change = MembersChange::RemoveLearner(id(replica));
                self.cluster().change(number(leader), change);
            }
            ["voters", leader, ..] => {
                let marked = |mark| {
                    let ids = words[2..].iter().filter_map(|word| word.strip_prefix(mark));
                    ids.map(id).collect()
                };
                let change = MembersChange::ChangeVoters {
                    promote: marked('+'),
                    remove: marked('-'),
                    spare: Spare::Kept,
                };
                self.cluster().change(number(leader), change);
            }
            ["members", node] => {
                let members = self.cluster().members(number(node));
                let line = |status: &metastore_engine::MemberStatus| {
                    let (member, part) = (status.member, status.part);
                    let node = member.home.node;
                    format!("replica {} on node {node}: {part:?}", member.replica)
                };
                return members.iter().map(line).collect();
            }
            _ => panic!("no such step: {step}"),
        }
        self.news()
    }

    fn forget(&mut self, from: NodeNumber, to: NodeNumber) {
        self.told.retain(|told| (told.0, told.1) != (from, to));
    }

    /// What has begun since the last step: messages, writes, answers.
    fn news(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let on_the_way: Vec<(NodeNumber, NodeNumber, Vec<u8>)> = self
            .cluster()
            .on_the_way()
            .map(|(from, to, batch)| (from, to, batch.to_vec()))
            .collect();
        for sent in &on_the_way {
            if !self.told.contains(sent) {
                lines.extend(describe_batch(&sent.2).expect("an intact batch"));
            }
        }
        self.told = on_the_way;
        let told = self.members_told;
        let effects = self.cluster().members_told()[told..].to_vec();
        self.members_told += effects.len();
        lines.extend(effects.iter().map(|(node, effect)| match effect {
            MembersEffect::Changed {
                result: Ok(index), ..
            } => format!("node {node}: the members are changed at {index}"),
            MembersEffect::Changed {
                result: Err(refused),
                ..
            } => format!("node {node}: {refused}"),
            MembersEffect::Created {
                replica,
                result: Ok(()),
                ..
            } => format!("node {node}: replica {replica} is created"),
            MembersEffect::Created {
                result: Err(refused),
                ..
            } => format!("node {node}: {refused}"),
            MembersEffect::Unlist { replica, .. } => {
                format!("node {node}: replica {replica} is to be taken off the list")
            }
            MembersEffect::Removed { replica, .. } => {
                format!("node {node}: replica {replica} is removed")
            }
        }));
        let cluster = self.cluster();
        for node in cluster
            .numbers()
            .filter(|&node| cluster.is_up(node))
            .collect::<Vec<_>>()
        {
            if cluster.has_begun_write(node) {
                lines.push(format!("node {node} writes its log"));
            }
            for (request, answer) in cluster.take_answers(node) {
                lines.push(format!(
                    "node {node} answers {request}: {}",
                    in_words(&answer)
                ));
            }
        }
        lines
    }

    fn status(&mut self) -> Vec<String> {
        let mut lines = self.news();
        lines.retain(|line| line.contains("answers"));
        let cluster = self.cluster();
        for node in cluster.numbers() {
            if !cluster.is_up(node) {
                lines.push(format!("node {node} is down"));
                continue;
            }
            if cluster.replicas(node) == 0 {
                lines.push(format!("node {node} has no replica"));
                continue;
            }
            let status = cluster.status(node);
            let leader = status.leader.map_or(0, |leader| leader.0);
            let asleep = if status.is_asleep { " asleep" } else { "" };
            lines.push(format!(
                "node {node} {:?} leader {leader} term {} committed {} applied {} last {}{asleep}",
                status.role, status.term, status.committed, status.applied, status.last
            ));
        }
        lines
    }
}

fn in_words(answer: &Answer) -> String {
    match answer {
        Answer::Outcome(code, revision, _) => format!("{code:?} at revision {revision}"),
        Answer::Rows(rows) if rows.is_empty() => "nothing there".to_owned(),
        Answer::Rows(rows) => {
            let row = |(key, value): &(Vec<u8>, Vec<u8>)| {
                format!("{} = {}", key.escape_ascii(), value.escape_ascii())
            };
            rows.iter().map(row).collect::<Vec<_>>().join(", ")
        }
        Answer::Error(error) => format!("{error:?}"),
        Answer::Detailed(..)
        | Answer::Batch(_)
        | Answer::Chunk(..)
        | Answer::Count(_)
        | Answer::Other => format!("{answer:?}"),
    }
}
