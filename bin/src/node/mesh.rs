//! Channels between the cores of a node: one in each direction for every pair.

use std::rc::Rc;
use std::time::Duration;

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};
use glommio::timer::Timer;
use glommio::{GlommioError, ResourceType};
use metastore_engine::{CoreId, MeshBatch};

use super::driver::Driver;
use super::outgoing::{MeshSender, Unsent};

/// Turns that one core may be ahead of another before its messages wait on its own side.
const CHANNEL_BATCHES: usize = 1_024;
/// Batches that are taken from one core before other tasks run: a channel that never runs dry does not make its task wait.
const BATCHES_BEFORE_YIELD: usize = 16;
/// How often a core looks whether the others have joined.
const JOIN_POLL: Duration = Duration::from_millis(1);

/// One core's ends of the channels, before its executor runs.
#[derive(Default)]
pub(crate) struct MeshEnds {
    senders: Vec<Option<SharedSender<MeshBatch>>>,
    receivers: Vec<Option<SharedReceiver<MeshBatch>>>,
}

/// The channels of a node: for every core, its ends.
pub(crate) fn build(cores: usize) -> Vec<MeshEnds> {
    let mut ends: Vec<MeshEnds> = (0..cores)
        .map(|_| MeshEnds {
            senders: (0..cores).map(|_| None).collect(),
            receivers: (0..cores).map(|_| None).collect(),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (sender, receiver) = new_bounded(CHANNEL_BATCHES);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

/// One core's channels once every core has joined.
pub(crate) struct Mesh {
    senders: Vec<Option<ConnectedSender<MeshBatch>>>,
}

impl MeshSender for Mesh {
    fn try_send(&self, core: CoreId, batch: MeshBatch) -> Result<(), Unsent> {
        let sender = self.senders[usize::from(core.0)]
            .as_ref()
            .expect("a channel to every other core");
        match sender.try_send(batch) {
            Ok(()) => Ok(()),
            Err(GlommioError::WouldBlock(ResourceType::Channel(batch))) => Err(Unsent::Full(batch)),
            Err(GlommioError::Closed(_)) => Err(Unsent::Closed),
            Err(other) => unreachable!("a channel is full or closed: {other}"),
        }
    }
}

/// Connects a core's ends; waits until every other core does the same.
pub(crate) async fn join(ends: MeshEnds) -> (Mesh, Vec<(CoreId, ConnectedReceiver<MeshBatch>)>) {
    // An end that connects does not notify its peer (glommio 0.9), and on a busy machine a core was seen asleep for ever
    // with all its peers connected: nobody may sleep for long before everybody has joined.
    let awake = glommio::spawn_local(async {
        loop {
            Timer::new(JOIN_POLL).await;
        }
    });
    // Each connects in a task of its own: an end waits for its peer, whose core may be waiting for another of ours.
    let connect_sender = |sender: SharedSender<MeshBatch>| glommio::spawn_local(sender.connect());
    let connecting: Vec<_> = ends
        .senders
        .into_iter()
        .map(|sender| sender.map(connect_sender))
        .collect();
    let connect_receiver =
        |receiver: SharedReceiver<MeshBatch>| glommio::spawn_local(receiver.connect());
    let mut receivers = Vec::new();
    let listening: Vec<_> = ends
        .receivers
        .into_iter()
        .map(|receiver| receiver.map(connect_receiver))
        .collect();
    let mut senders = Vec::new();
    for sender in connecting {
        senders.push(match sender {
            Some(task) => Some(task.await),
            None => None,
        });
    }
    for (core, receiver) in (0..).map(CoreId).zip(listening) {
        if let Some(task) = receiver {
            receivers.push((core, task.await));
        }
    }
    awake.cancel().await;
    (Mesh { senders }, receivers)
}

/// Hands everything that arrives from one core to the driver.
pub(crate) async fn drive(
    driver: Rc<Driver>,
    from: CoreId,
    receiver: ConnectedReceiver<MeshBatch>,
) {
    let mut taken = 0_usize;
    while let Some(batch) = receiver.recv().await {
        driver.on_mesh(from, batch);
        taken += 1;
        if taken.is_multiple_of(BATCHES_BEFORE_YIELD) {
            glommio::executor().yield_task_queue_now().await;
        }
    }
}
