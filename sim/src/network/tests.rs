use super::*;

const ONE: Site = Site::Node(NodeId(1));
const TWO: Site = Site::Node(NodeId(2));
const THREE: Site = Site::Node(NodeId(3));
const CLIENT: Site = Site::Client(0);
const URGENT: Traffic = Traffic::Peers(PeerLane::Urgent);
const ENTRIES: Traffic = Traffic::Peers(PeerLane::Entries);

fn network(faults: NetworkFaults) -> Network {
    Network::new(Random::new(1), faults)
}

#[test]
fn a_good_network_delivers_everything_once_and_in_order() {
    let mut network = network(NetworkFaults::NONE);
    let mut newest = Time(0);
    for step in 0..1_000 {
        let now = Time(step * 10_000);
        let Arrivals::At(arrivals) = network.send(now, ONE, TWO, URGENT) else {
            panic!("nothing is lost");
        };
        assert_eq!(arrivals.len(), 1);
        assert!(arrivals[0] >= newest && arrivals[0] > now);
        newest = arrivals[0];
    }
}

#[test]
fn a_bad_network_does_what_it_is_told() {
    let mut network = network(NetworkFaults {
        loss_per_mille: 100,
        duplicate_per_mille: 100,
        reorder_per_mille: 500,
        cut_per_mille: 100,
        slow_per_mille: 100,
        slow_max_ns: 50_000_000,
        ..NetworkFaults::NONE
    });
    let (mut newest, mut overtaken) = (Time(0), 0);
    for step in 0..2_000 {
        let now = Time(step * 10_000);
        network.send_piece(now, CLIENT, ONE);
        if let Arrivals::At(arrivals) = network.send(now, ONE, TWO, ENTRIES) {
            overtaken += u64::from(arrivals[0] < newest);
            newest = newest.max(arrivals[0]);
        }
    }
    let counters = network.counters();
    assert!((150..250).contains(&counters.lost), "{counters:?}");
    assert!((150..250).contains(&counters.duplicated), "{counters:?}");
    assert!((150..250).contains(&counters.cut), "{counters:?}");
    assert!(overtaken > 100, "{overtaken}");
}

#[test]
fn groups_are_apart_until_they_are_healed() {
    let mut network = network(NetworkFaults::NONE);
    let groups = [vec![ONE, CLIENT], vec![TWO, THREE]];
    network.split(Partition::of_groups(&groups));
    assert!(network.is_open(CLIENT, ONE, Traffic::Clients));
    assert!(network.is_open(TWO, THREE, URGENT));
    assert!(!network.is_open(ONE, TWO, URGENT) && !network.is_open(THREE, ONE, ENTRIES));
    assert_eq!(network.send(Time(0), ONE, TWO, URGENT), Arrivals::Lost);
    assert_eq!(network.send_piece(Time(0), CLIENT, TWO), None);
    network.heal();
    assert!(network.is_open(ONE, TWO, URGENT));
}

/// Each shape cuts what its name says and leaves the rest.
#[test]
fn every_shape_is_what_it_is_called() {
    let sites = [ONE, TWO, THREE, CLIENT];
    for seed in 0..200 {
        let mut random = Random::new(seed);
        for shape in PartitionShape::ALL {
            let partition = Partition::draw(&mut random, shape, &sites);
            let is_cut = |from, to| partition.cuts(from, to, URGENT);
            let of = |one: Site| {
                let others = sites.iter().filter(|&&other| other != one);
                let (hears, is_heard): (Vec<bool>, Vec<bool>) = others
                    .map(|&other| (!is_cut(other, one), !is_cut(one, other)))
                    .unzip();
                let any = |list: &[bool]| list.contains(&true);
                let all = |list: &[bool]| !list.contains(&false);
                (any(&hears), any(&is_heard), all(&hears), all(&is_heard))
            };
            let nodes = || [ONE, TWO, THREE].into_iter().map(of);
            let is_right = match shape {
                PartitionShape::Isolated => nodes().any(|of| !of.0 && !of.1),
                PartitionShape::Deaf => nodes().any(|of| !of.0 && of.1),
                PartitionShape::Mute => nodes().any(|of| of.0 && !of.1),
                PartitionShape::Bridge => nodes().any(|of| of.2 && of.3),
                PartitionShape::Halves => sites
                    .iter()
                    .all(|&from| sites.iter().all(|&to| is_cut(from, to) == is_cut(to, from))),
                PartitionShape::Random => true,
                PartitionShape::EntriesCut => {
                    pairs(&sites).all(|(from, to)| !partition.cuts(from, to, URGENT))
                }
                PartitionShape::UrgentCut => pairs(&sites).all(|(from, to)| {
                    !partition.cuts(from, to, ENTRIES)
                        && !partition.cuts(from, to, Traffic::Clients)
                }),
            };
            assert!(is_right, "{seed}: {partition:?}");
        }
    }
}
