//! What becomes of bytes between two ends, under each weather.

use std::collections::BTreeSet;

use metastore_engine::PeerLane;
use metastore_sim::network::Partition;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::weather::{Cut, Harm};

const ONE: Site = Site::Node(NodeId(1));
const TWO: Site = Site::Node(NodeId(2));
/// As long as nothing comes that should not.
const QUIET: Duration = Duration::from_millis(100);

/// Two ends with a proxy between them, and the weather over it.
struct Between {
    one: TcpStream,
    two: TcpStream,
    weather: watch::Sender<Arc<Weather>>,
    counters: Arc<ProxyCounters>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("it connects"), far.expect("it accepts").0)
}

async fn between(weather: Weather) -> Between {
    let (one, from) = pair().await;
    let (to, two) = pair().await;
    let (weather, sky) = watch::channel(Arc::new(weather));
    let counters = Arc::new(ProxyCounters::default());
    let direction = Direction {
        from: ONE,
        to: TWO,
        traffic: Traffic::Peers(PeerLane::Entries),
    };
    let of_task = Arc::clone(&counters);
    tokio::spawn(async move {
        let random = Random::new(1);
        carry((from, Vec::new()), to, direction, &sky, &of_task, random).await;
    });
    Between {
        one,
        two,
        weather,
        counters,
    }
}

impl Between {
    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather
            .send_modify(|weather| change(Arc::make_mut(weather)));
    }
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.expect("they come");
    bytes
}

async fn is_quiet(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    tokio::time::timeout(QUIET, stream.read(&mut byte))
        .await
        .is_err()
}

#[tokio::test]
async fn one_direction_is_silent_until_it_heals_and_the_other_goes_on() {
    let mut between = between(Weather::default()).await;
    between.change(|weather| weather.part(1, Partition::of_links(&[(ONE, TWO)]), Cut::Silent));
    between.one.write_all(b"there").await.expect("it is taken");
    between.two.write_all(b"back").await.expect("it is taken");
    assert_eq!(read(&mut between.one, 4).await, b"back");
    assert!(is_quiet(&mut between.two).await);
    between.change(|weather| weather.end(1));
    assert_eq!(read(&mut between.two, 5).await, b"there");
}

#[tokio::test]
async fn a_reset_ends_both_ends() {
    let mut between = between(Weather::default()).await;
    between.one.write_all(b"there").await.expect("it is taken");
    assert_eq!(read(&mut between.two, 5).await, b"there");
    between.change(|weather| weather.part(1, Partition::of_links(&[(TWO, ONE)]), Cut::Reset));
    assert!(!matches!(between.one.read(&mut [0]).await, Ok(1..)));
    assert!(!matches!(between.two.read(&mut [0]).await, Ok(1..)));
    assert!(between.counters.reset.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_bit_flips_where_bytes_are_corrupted_and_nowhere_else() {
    let mut weather = Weather::default();
    let harm = Harm::Corrupt { per_mille: 1_000 };
    weather.harm(1, harm, BTreeSet::from([(ONE, TWO)]));
    let mut between = between(weather).await;
    let sent = [0x55; 64];
    between.one.write_all(&sent).await.expect("it is taken");
    between.two.write_all(&sent).await.expect("it is taken");
    assert_eq!(read(&mut between.one, 64).await, sent);
    let found = read(&mut between.two, 64).await;
    let flipped = found
        .iter()
        .zip(sent)
        .map(|(one, other)| (one ^ other).count_ones());
    let pieces = between.counters.corrupted.load(Ordering::Relaxed);
    assert_eq!(u64::from(flipped.sum::<u32>()), pieces);
    assert!(pieces > 0);
}

#[tokio::test]
async fn a_connection_breaks_within_what_is_sent() {
    let mut weather = Weather::default();
    let harm = Harm::Break { per_mille: 1_000 };
    weather.harm(1, harm, BTreeSet::from([(ONE, TWO)]));
    let mut between = between(weather).await;
    between.one.write_all(&[7; 64]).await.expect("it is taken");
    let mut found = Vec::new();
    // Whether it ends well or not, not all of it comes.
    let _ended = between.two.read_to_end(&mut found).await;
    assert!(found.len() < 64);
    assert_eq!(between.counters.broken.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_swallowed_takes_its_connection_with_it() {
    let mut weather = Weather::default();
    weather.harm(1, Harm::Swallow, BTreeSet::from([(ONE, TWO)]));
    let mut between = between(weather).await;
    between.one.write_all(b"gone").await.expect("it is taken");
    assert!(is_quiet(&mut between.two).await);
    between.change(|weather| weather.end(1));
    assert!(!matches!(between.two.read(&mut [0]).await, Ok(1..)));
    assert_eq!(between.counters.swallowed_bytes.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn one_direction_closes_and_the_other_goes_on() {
    let mut between = between(Weather::default()).await;
    between.one.shutdown().await.expect("it can be closed");
    assert_eq!(between.two.read(&mut [0]).await.expect("the end"), 0);
    between.two.write_all(b"back").await.expect("it is taken");
    assert_eq!(read(&mut between.one, 4).await, b"back");
}
