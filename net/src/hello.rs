//! The first exchange on every connection: who is there, what it allows.

use crate::body_error::BodyError;
use crate::frame::{FRAME_BYTES_MAX_DEFAULT, PROTOCOL_VERSION};
use crate::generated::messages;
use crate::table::{TableBudget, append_root, read_root};

/// What a client says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloRequest<'a> {
    /// The oldest version of the protocol that the client speaks.
    pub version_min: u16,
    /// The newest version of the protocol that the client speaks.
    pub version_max: u16,
    /// For the server's logs; may be empty.
    pub client_name: &'a str,
    /// The cluster that the client means to reach, if it knows it.
    pub cluster_id: Option<u128>,
}

impl<'a> HelloRequest<'a> {
    /// The hello of this crate's client.
    pub fn new(client_name: &'a str, cluster_id: Option<u128>) -> HelloRequest<'a> {
        HelloRequest {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            client_name,
            cluster_id,
        }
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| {
            let client_name = Some(builder.create_string(self.client_name));
            let cluster_id = self.cluster_id.map(cluster_id_to_wire);
            let cluster_id = cluster_id.as_ref();
            let arguments = messages::HelloArgs {
                version_min: self.version_min,
                version_max: self.version_max,
                client_name,
                cluster_id,
            };
            messages::Hello::create(builder, &arguments)
        });
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<HelloRequest<'a>, BodyError> {
        let table = read_root::<messages::Hello<'a>>(body, TableBudget::Small)?;
        Ok(HelloRequest {
            version_min: table.version_min(),
            version_max: table.version_max(),
            client_name: table.client_name().unwrap_or_default(),
            cluster_id: table.cluster_id().map(cluster_id_from_wire),
        })
    }
}

/// What a server allows on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Longest frame, header included.
    pub frame_bytes: u32,
    /// Longest key.
    pub key_bytes: u32,
    /// Longest value.
    pub value_bytes: u32,
    /// Requests without a last answer on one connection; beyond it the connection is not read.
    pub commands_in_flight: u32,
    /// Commands in one `batch`.
    pub batch_commands: u32,
    /// Keys in one `get_many`.
    pub get_many_keys: u32,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            frame_bytes: FRAME_BYTES_MAX_DEFAULT as u32,
            key_bytes: 4096,
            value_bytes: 1536 * 1024,
            commands_in_flight: 1024,
            batch_commands: 1024,
            get_many_keys: 1024,
        }
    }
}

/// Who a server is. Its answer to a hello adds the protocol's version and the limits, which this crate enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloInfo {
    /// The cluster's identity, fixed when it was formatted.
    pub cluster_id: u128,
    /// The node that answers.
    pub node_id: u32,
    /// The core that answers, counted from 0.
    pub core_index: u16,
    /// How many cores the node has.
    pub core_count: u16,
    /// The port of core 0; core `n` listens on the port `n` above it.
    pub first_port: u16,
    /// The epoch of the shard map that the node holds.
    pub map_epoch: u64,
    /// The server's version, for people.
    pub server_version: String,
}

/// A server's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloReply {
    /// The version that both ends speak from now on.
    pub version: u16,
    /// Who answers.
    pub info: HelloInfo,
    /// What the server allows.
    pub limits: ServerLimits,
}

impl HelloReply {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| {
            let info = &self.info;
            let limits = messages::Limits::create(
                builder,
                &messages::LimitsArgs {
                    frame_bytes: self.limits.frame_bytes,
                    key_bytes: self.limits.key_bytes,
                    value_bytes: self.limits.value_bytes,
                    commands_in_flight: self.limits.commands_in_flight,
                    batch_commands: self.limits.batch_commands,
                    get_many_keys: self.limits.get_many_keys,
                },
            );
            let server_version = builder.create_string(&info.server_version);
            let cluster_id = cluster_id_to_wire(info.cluster_id);
            messages::HelloReply::create(
                builder,
                &messages::HelloReplyArgs {
                    version: self.version,
                    cluster_id: Some(&cluster_id),
                    node_id: info.node_id,
                    core_index: info.core_index,
                    core_count: info.core_count,
                    first_port: info.first_port,
                    map_epoch: info.map_epoch,
                    limits: Some(limits),
                    server_version: Some(server_version),
                },
            )
        });
    }

    pub(crate) fn decode(body: &[u8]) -> Result<HelloReply, BodyError> {
        let table = read_root::<messages::HelloReply<'_>>(body, TableBudget::Small)?;
        let limits = table.limits();
        Ok(HelloReply {
            version: table.version(),
            info: HelloInfo {
                cluster_id: cluster_id_from_wire(table.cluster_id()),
                node_id: table.node_id(),
                core_index: table.core_index(),
                core_count: table.core_count(),
                first_port: table.first_port(),
                map_epoch: table.map_epoch(),
                server_version: table.server_version().to_owned(),
            },
            limits: ServerLimits {
                frame_bytes: limits.frame_bytes(),
                key_bytes: limits.key_bytes(),
                value_bytes: limits.value_bytes(),
                commands_in_flight: limits.commands_in_flight(),
                batch_commands: limits.batch_commands(),
                get_many_keys: limits.get_many_keys(),
            },
        })
    }
}

/// The cluster id as two halves, the low one first.
pub(crate) fn cluster_id_to_wire(id: u128) -> messages::ClusterId {
    messages::ClusterId::new(id as u64, (id >> 64) as u64)
}

/// The reverse of [`cluster_id_to_wire`].
pub(crate) fn cluster_id_from_wire(id: &messages::ClusterId) -> u128 {
    u128::from(id.low()) | u128::from(id.high()) << 64
}
