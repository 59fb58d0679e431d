//! Rounds in which somebody else takes the last free byte of the disk, and gives it back.
//!
//! When that happens is drawn: under load, between a kill and the next start, or while a server starts. So is how often
//! the server is killed meanwhile, and whether what the store has given back in the meantime is taken as well.

use std::path::Path;
use std::time::Duration;

use metastore_net::blocking::Client;
use metastore_sim::random::Random;

use crate::failure::Cause;
use crate::load::Clock;
use crate::report::{Kill, Report};
use crate::server::Server;
use crate::siege::Siege;
use crate::small_disk::SmallDisk;
use crate::store::{Life, Store};

/// When the disk is filled, or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While clients load a server.
    UnderLoad,
    /// Between a kill and the next start.
    Down,
    /// While a server starts.
    Starting,
}

/// What happens in a round, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// How often the disk is filled and freed before, under load and without a kill.
    cycles: u64,
    fill: When,
    /// How often a server is started and killed before the last start of the round, which sees the disk freed.
    kills: u64,
    free: When,
}

/// One round.
pub(crate) struct FullDiskRound<'a> {
    program: &'a Path,
    store: &'a mut Store,
    clock: &'a Clock,
    report: &'a mut Report,
    disk: &'a mut SmallDisk,
    random: Random,
    acknowledged_min: u64,
    /// Whether the next start has a segment for certain, because the server before it took writes.
    start: Start,
}

/// What the next start on the full disk may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// It must serve: the server before it took writes, so there is a segment left for it.
    MustServe,
    /// It may wait for room: the start before it took the segment, and perhaps none has been released since.
    MayWait,
}

/// How long a start that may wait is watched before there is room.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// A server that is killed while it starts, or right after the disk was filled, is killed within such times.
const START_US: u64 = 100_000;
const AT_ONCE_US: u64 = 20_000;

impl Plan {
    fn draw(random: &mut Random) -> Plan {
        let fill = random.weighted(&[(4, When::UnderLoad), (1, When::Down), (1, When::Starting)]);
        let kills_min = u64::from(fill == When::Starting);
        Plan {
            cycles: random.weighted(&[(2, 0), (1, 1), (1, 2)]),
            fill,
            kills: random.between(kills_min, 3),
            free: random.weighted(&[(2, When::UnderLoad), (1, When::Down), (1, When::Starting)]),
        }
    }
}

impl<'a> FullDiskRound<'a> {
    pub(crate) fn new(
        program: &'a Path,
        store: &'a mut Store,
        disk: &'a mut SmallDisk,
        (clock, report): (&'a Clock, &'a mut Report),
        random: Random,
        acknowledged_min: u64,
    ) -> FullDiskRound<'a> {
        FullDiskRound {
            program,
            store,
            clock,
            report,
            disk,
            random,
            acknowledged_min,
            start: Start::MustServe,
        }
    }

    pub(crate) fn run(mut self) -> Result<(), Cause> {
        let plan = Plan::draw(&mut self.random);
        self.report.full_disk.rounds += 1;
        self.disk.free()?;
        self.live_until_full(&plan)?;
        for kill in 0..plan.kills {
            self.live_without_room(&plan, kill)?;
        }
        self.live_until_free(&plan)?;
        let mut server = self.store.start(self.program)?;
        let client = server.connect()?;
        self.audit(client)?;
        self.report.kills_after_check += 1;
        Ok(server.kill()?)
    }

    /// The first life: there is room, and at its end there is none.
    fn live_until_full(&mut self, plan: &Plan) -> Result<(), Cause> {
        let mut server = self.store.start(self.program)?;
        server.connect()?;
        let wanted = self.acknowledged_min + self.random.below(self.acknowledged_min + 1);
        let is_at_once = self.random.chance(300);
        self.live(server, |siege, life| {
            siege.wait_for_load(life, wanted)?;
            for _ in 0..plan.cycles {
                siege.fill()?;
                siege.hold(life)?;
                siege.lift(life)?;
            }
            if plan.fill == When::UnderLoad {
                siege.fill()?;
                if is_at_once {
                    siege.sleep_up_to_us(AT_ONCE_US);
                } else {
                    siege.hold(life)?;
                }
            }
            Ok(())
        })?;
        if plan.fill == When::Down {
            self.fill()?;
        }
        Ok(())
    }

    /// A life between two kills, on a full disk.
    fn live_without_room(&mut self, plan: &Plan, kill: u64) -> Result<(), Cause> {
        let is_filled_now = kill == 0 && plan.fill == When::Starting;
        if self.start == Start::MustServe && !is_filled_now && self.random.chance(500) {
            // What the store has given back since it was filled.
            self.fill()?;
        }
        let mut server = self.store.start(self.program)?;
        if is_filled_now {
            self.sleep_up_to_us(START_US);
            self.fill()?;
        }
        if self.random.chance(300) {
            self.sleep_up_to_us(START_US);
            self.start = Start::MayWait;
            *self.report.kills.entry(Kill::FullDisk).or_default() += 1;
            return Ok(server.kill()?);
        }
        match self.connect_without_room(&mut server)? {
            Some(client) => {
                if self.random.chance(500) {
                    self.audit(client)?;
                }
                self.live(server, |siege, life| siege.hold(life))
            }
            None => {
                self.wait_for_room(server)?;
                self.fill()
            }
        }
    }

    /// The last life: at its end there is room.
    fn live_until_free(&mut self, plan: &Plan) -> Result<(), Cause> {
        let is_full = plan.free != When::Down;
        if !is_full {
            self.disk.free()?;
        }
        let mut server = self.store.start(self.program)?;
        if plan.free == When::Starting {
            self.sleep_up_to_us(START_US);
            self.disk.free()?;
        }
        if plan.free == When::UnderLoad && self.connect_without_room(&mut server)?.is_none() {
            return self.wait_for_room(server);
        }
        server.connect()?;
        let wanted = self.random.between(1, self.acknowledged_min);
        self.live(server, |siege, life| {
            if plan.free == When::UnderLoad {
                siege.hold(life)?;
                siege.lift(life)?;
            } else {
                siege.expect_writes(life)?;
            }
            siege.wait_for_load(life, wanted)
        })
    }

    /// A server that has started without a free byte, or `None` if it may wait for room and does.
    fn connect_without_room(&mut self, server: &mut Server) -> Result<Option<Client>, Cause> {
        let start = std::mem::replace(&mut self.start, Start::MayWait);
        let connected = match start {
            Start::MustServe => Some(server.connect()?),
            Start::MayWait => server.connect_within(START_PATIENCE)?,
        };
        self.report.full_disk.starts += u64::from(connected.is_some());
        Ok(connected)
    }

    /// A server that has started and waits goes on by itself when there is room.
    fn wait_for_room(&mut self, mut server: Server) -> Result<(), Cause> {
        self.report.full_disk.starts_waited += 1;
        self.disk.free()?;
        server.connect()?;
        self.start = Start::MustServe;
        self.live(server, |siege, life| siege.lift(life))
    }

    /// Loads a server that serves, and kills it in the end.
    fn live(
        &mut self,
        server: Server,
        decide: impl FnOnce(&mut Siege<'_>, &mut Life<'_>) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let report = &mut *self.report;
        let random = self.random.fork();
        let mut siege = Siege::new(self.disk, random, &mut report.full_disk);
        *report.kills.entry(Kill::FullDisk).or_default() += 1;
        let load = &mut report.load;
        let ended = self
            .store
            .live(self.clock, load, server, |life| decide(&mut siege, life));
        ended.into_result()
    }

    /// Holds everything that a server has, which nobody has asked for anything since it started, against what clients
    /// were told.
    fn audit(&mut self, mut client: Client) -> Result<(), Cause> {
        self.store.audit(&mut client, &mut self.report.load)
    }

    fn fill(&mut self) -> Result<(), Cause> {
        let random = self.random.fork();
        Siege::new(self.disk, random, &mut self.report.full_disk).fill()
    }

    fn sleep_up_to_us(&mut self, microseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(microseconds)));
    }
}
