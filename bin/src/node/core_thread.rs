//! One core's thread, from its log to its last answer.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use glommio::timer::Timer;
use metastore_engine::{CoreBuilder, CoreConfig, LogHistory, MemoryPool, MemoryShare, ShardId};
use metastore_net::server::{self, Bell, Listener, Readiness, ServerOptions};
use metastore_wal::device::{self, DirectorySource, Fault, FlushMethod, Ring, RingOptions};
use metastore_wal::recovery::{self, Recovered, Standing};

use super::StartError;
use super::board::Board;
use super::clock::Clock;
use super::disk_space::DiskWatch;
use super::driver::{Driver, DriverParts, PeersSetup};
use super::keeper::NodeKeeper;
use super::log_files::LogFiles;
use super::mesh::{self, MeshEnds};
use super::outgoing::MeshSender;
use super::phase::{NodePhase, PHASE_POLL, Phase};
use super::snapshot_files::{self, Replay};
use super::stop::{self, StopOutcome};
use super::wire::CoreFacts;
use crate::log::raft_logger;

/// What a core needs to run; it is made on the main thread.
pub(crate) struct CoreSetup {
    pub(crate) config: CoreConfig,
    pub(crate) history: LogHistory,
    pub(crate) data: PathBuf,
    pub(crate) keeper: NodeKeeper,
    pub(crate) log_directory: PathBuf,
    pub(crate) flush_method: FlushMethod,
    pub(crate) idle_wait_max: Duration,
    pub(crate) fault: Option<Fault>,
    pub(crate) memory: Arc<MemoryPool>,
    pub(crate) snapshot_bytes_per_second_max: u64,
    pub(crate) server: ServerOptions,
    pub(crate) facts: CoreFacts,
    pub(crate) clock: Clock,
    pub(crate) disk: DiskWatch,
    pub(crate) board: Board,
    pub(crate) mesh: Option<MeshEnds>,
    /// Of a node that is not alone.
    pub(crate) peers: Option<PeersSetup>,
    pub(crate) phase: NodePhase,
    /// Told once, when the core could answer, or why it cannot.
    pub(crate) ready: mpsc::Sender<(u16, Result<CoreReport, StartError>)>,
    /// Told once, when a core that served stops; held until it has ended.
    pub(crate) stopped: mpsc::Sender<StopOutcome>,
}

/// What recovery found, for the operator.
#[derive(Debug)]
pub(crate) struct CoreReport {
    /// A tail that was cut off and replicas that are damaged, in words.
    pub(crate) warnings: Vec<String>,
}

/// Runs a core until the node stops. On an error before it is ready, the main thread is told why.
pub(crate) async fn run(mut setup: CoreSetup, listener: TcpListener) {
    let core = setup.config.identity.core.0;
    let (ready, stopped) = (setup.ready.clone(), setup.stopped.clone());
    let (mesh_ends, peers) = (setup.mesh.take(), setup.peers.take());
    let phase = setup.phase.clone();
    let options = setup.server;
    let board = setup.board.clone();
    // Every core joins the mesh, also one that then fails, or the others would wait for it.
    let (mesh, receivers) = match mesh_ends {
        Some(ends) => {
            let (mesh, receivers) = mesh::join(ends).await;
            (Some(Box::new(mesh) as Box<dyn MeshSender>), receivers)
        }
        None => (None, Vec::new()),
    };
    let damages = match peers {
        Some(_) => Damages::PeersMayRepair,
        None => Damages::Refuse,
    };
    let started = start(setup, mesh, damages).and_then(|(driver, wake, report)| {
        let sockets = Sockets::watch(&driver, listener, wake, peers);
        let sockets = sockets.map_err(|source| StartError::Listener { source })?;
        Ok((driver, report, sockets))
    });
    let (driver, report, sockets) = match started {
        Ok(started) => started,
        Err(error) => {
            // When nobody listens any more the node is going down already.
            let _ = ready.send((core, Err(error)));
            return;
        }
    };
    let Sockets {
        readiness,
        listener,
        wake,
    } = sockets;
    glommio::spawn_local(Rc::clone(&driver).drive_turns()).detach();
    glommio::spawn_local(Rc::clone(&driver).drive_log(wake)).detach();
    glommio::spawn_local(Rc::clone(&driver).drive_submissions()).detach();
    let idle = Rc::clone(&driver);
    glommio::spawn_local(readiness.watch(move || idle.idle_wait())).detach();
    glommio::spawn_local(Rc::clone(&driver).drive_snapshots()).detach();
    for (from, receiver) in receivers {
        glommio::spawn_local(mesh::drive(Rc::clone(&driver), from, receiver)).detach();
    }
    driver.run_turn();
    glommio::spawn_local(Rc::clone(&driver).drive_time()).detach();
    glommio::spawn_local(Rc::clone(&driver).drive_board(board)).detach();
    while !driver.is_ready() {
        Timer::new(PHASE_POLL).await;
    }
    if ready.send((core, Ok(report))).is_err() {
        return;
    }
    phase.reach(Phase::Serving).await;
    driver.meet_peers();
    let connections = driver.connections().clone();
    let serving = server::serve(listener, Rc::clone(&driver), connections, options);
    let accepting = glommio::spawn_local(serving);
    phase.reach(Phase::Stopping).await;
    let outcome = stop::stop(&driver, &phase, accepting).await;
    // The main thread may have given up waiting.
    let _ = stopped.send(outcome);
}

/// What wakes a core from outside.
struct Sockets {
    readiness: Readiness,
    listener: Listener,
    /// Where the log's ring says that there is something to take.
    wake: Bell,
}

impl Sockets {
    fn watch(
        driver: &Rc<Driver>,
        listener: TcpListener,
        wake: StdUnixStream,
        peers: Option<PeersSetup>,
    ) -> io::Result<Sockets> {
        let readiness = Readiness::new()?;
        if let Some(peers) = peers {
            driver.join_peers(peers, &readiness)?;
        }
        Ok(Sockets {
            listener: Listener::new(listener, readiness.clone())?,
            wake: readiness.add_bell(wake)?,
            readiness,
        })
    }
}

/// What becomes of damage that recovery finds at or below the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damages {
    /// The start is refused: nobody else has what is lost.
    Refuse,
    /// Replicas that have others wait for a snapshot of theirs.
    PeersMayRepair,
}

type Started = (Rc<Driver>, StdUnixStream, CoreReport);

/// Recovers the log and builds the driver. It blocks its thread: nobody is answered yet.
fn start(
    setup: CoreSetup,
    mesh: Option<Box<dyn MeshSender>>,
    damages: Damages,
) -> Result<Started, StartError> {
    let CoreSetup {
        config,
        history,
        data,
        keeper,
        log_directory,
        flush_method,
        idle_wait_max,
        fault,
        memory,
        snapshot_bytes_per_second_max,
        facts,
        clock,
        disk,
        ..
    } = setup;
    let core = config.identity.core.0;
    let failed = |cause: String| StartError::Recovery {
        core,
        data: data.clone(),
        cause,
    };
    let log_options = config.log.clone();
    let identity = config.identity;
    // Also those of which a replica has come and gone since the data was formatted.
    let places = config.shard_map.shards().iter();
    let here = places.filter(|place| place.core == config.identity.core);
    let shards: Vec<ShardId> = here.map(|place| place.shard).collect();
    let mut source = DirectorySource::open(&log_directory)?;
    let builder = CoreBuilder::new(config)
        .map_err(|error| failed(error.to_string()))?
        .with_logger(raft_logger(core));
    let mut replay = Replay::new(&data, builder);
    let recover = match damages {
        Damages::Refuse => recovery::recover,
        Damages::PeersMayRepair => recovery::recover_among_peers,
    };
    let recovered = recover(&mut source, &identity, log_options.seal, &mut |event| {
        replay.on_event(event);
    })
    .map_err(|error| failed(error.to_string()))?;
    drop(source);
    let (builder, snapshots) = replay.finish()?;
    let report = CoreReport {
        warnings: describe_torn(&log_directory, &recovered)
            .into_iter()
            .chain(describe_damages(&log_directory, &recovered))
            .collect(),
    };
    let buffers = log_options.new_buffers();
    let (signal, wake) = StdUnixStream::pair().map_err(|source| StartError::File {
        path: log_directory.clone(),
        source,
    })?;
    let log_files = LogFiles::find(&log_directory, log_options.segment_bytes)?;
    let ring_options = RingOptions {
        wake: Some(signal.into()),
        files_max: log_files.count_max(&log_options),
        fault,
        ..RingOptions::new(flush_method)
    };
    let mut ring = Ring::new(ring_options, &buffers)?;
    log_files.register(&mut ring)?;
    let core = builder
        .build(clock.now(), recovered, buffers, history)
        .map_err(|error| failed(error.to_string()))?;
    // Only now: a start that was refused has changed nothing.
    snapshot_files::tidy(&data, &shards, &snapshots)?;
    let driver = Driver::new(DriverParts {
        core,
        ring,
        log_directory,
        data: data.clone(),
        keeper,
        snapshot_bytes_per_second_max,
        clock,
        facts,
        disk,
        mesh,
        memory: MemoryShare::new(memory),
        idle_wait_max,
    });
    Ok((Rc::new(driver), wake, report))
}

fn describe_torn(log_directory: &Path, recovered: &Recovered) -> Option<String> {
    recovered.torn.as_ref().map(|torn| {
        format!(
            "{}: cut off what was written at offset {} and behind it, which was never acknowledged (record {}, shards {:?})",
            device::segment_path(log_directory, torn.file).display(),
            torn.offset,
            torn.sequence,
            torn.shards().iter().map(|shard| shard.0).collect::<Vec<_>>(),
        )
    })
}

/// What is damaged, and which replicas take no part for it until another node has repaired them.
fn describe_damages(log_directory: &Path, recovered: &Recovered) -> Vec<String> {
    let findings = recovered.findings.iter().map(|damage| {
        let place = match damage.file {
            Some(file) => device::segment_path(log_directory, file),
            None => log_directory.to_owned(),
        };
        format!(
            "{}: what was durable at offset {} is damaged or lost; metastore wal verify says what",
            place.display(),
            damage.offset,
        )
    });
    let replicas = recovered.replicas.iter().filter_map(|known| {
        let (replica, shard) = (known.replica, known.shard);
        let what = match known.standing {
            Standing::Whole => return None,
            Standing::Damaged => "it takes no part until the leader has sent a snapshot",
            Standing::Lost => "what it had promised is lost too: a new replica must take its place",
        };
        Some(format!(
            "replica {replica} of shard {shard} has lost a part of its log: {what}"
        ))
    });
    findings.chain(replicas).collect()
}
