use super::*;
use crate::protocol::Page;
use crate::random::Random;

fn puts<'a>() -> Puts<'a> {
    Puts::new(2, b"k1k2", b"onetwo")
}

/// A connection on which one request of each kind was submitted.
fn asked() -> Connection {
    let mut connection = Connection::new();
    let requests = [
        Request::Ping,
        Request::Put {
            key: b"key",
            value: b"a\r\nvalue",
        },
        Request::Get { key: b"key" },
        Request::Get { key: b"gone" },
        Request::Batch(puts()),
        Request::Put {
            key: b"key",
            value: b"",
        },
    ];
    for (number, request) in requests.iter().enumerate() {
        assert_eq!(connection.submit(request), CallId(number as u64));
    }
    connection
}

const ANSWERS: &[u8] =
    b"+PONG\r\n+OK\r\n$8\r\na\r\nvalue\r\n$-1\r\n+OK\r\n-OOM command not allowed\r\n";

/// What comes of the answers, each in a form that owns its bytes.
fn expected() -> Vec<(CallId, String)> {
    let row = FoundRow {
        value: b"a\r\nvalue",
        revision: Revision(0),
    };
    let full = Failure::Redis {
        message: "OOM command not allowed".to_owned(),
    };
    let replies = [
        Reply::Pong,
        Reply::Done,
        Reply::Row(Some(row)),
        Reply::Row(None),
        Reply::Batch { done: 2 },
        Reply::Failed(full),
    ];
    let replies = replies.iter().enumerate();
    replies
        .map(|(number, reply)| (CallId(number as u64), format!("{reply:?}")))
        .collect()
}

fn receive(
    connection: &mut Connection,
    pieces: &[&[u8]],
) -> Result<Vec<(CallId, String)>, RespError> {
    let mut found = Vec::new();
    for piece in pieces {
        connection.on_bytes(piece, |id, reply| found.push((id, format!("{reply:?}"))))?;
    }
    Ok(found)
}

#[test]
fn requests_are_arrays_of_strings() {
    let mut connection = asked();
    let expected = b"*1\r\n$4\r\nPING\r\n\
        *3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$8\r\na\r\nvalue\r\n\
        *2\r\n$3\r\nGET\r\n$3\r\nkey\r\n\
        *2\r\n$3\r\nGET\r\n$4\r\ngone\r\n\
        *5\r\n$4\r\nMSET\r\n$2\r\nk1\r\n$3\r\none\r\n$2\r\nk2\r\n$3\r\ntwo\r\n\
        *3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n";
    let outbound = connection.outbound();
    assert_eq!(
        String::from_utf8_lossy(outbound),
        String::from_utf8_lossy(expected)
    );
}

#[test]
fn answers_belong_to_requests_in_their_order_wherever_they_are_cut() {
    assert_eq!(receive(&mut asked(), &[ANSWERS]).unwrap(), expected());
    for cut in 0..=ANSWERS.len() {
        let (first, rest) = ANSWERS.split_at(cut);
        let found = receive(&mut asked(), &[first, rest]).unwrap();
        assert_eq!(found, expected(), "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = ANSWERS.chunks(1).collect();
    assert_eq!(receive(&mut asked(), &bytes).unwrap(), expected());
}

#[test]
fn an_answer_to_nothing_or_of_another_kind_is_no_success() {
    let more = [ANSWERS, b"+OK\r\n"].concat();
    let refused = receive(&mut asked(), &[&more]);
    assert_eq!(refused, Err(RespError::NotAsked));
    let mut connection = asked();
    let found = receive(&mut connection, &[b"+OK\r\n$2\r\nOK\r\n:1\r\n"]).unwrap();
    let mismatch = format!("{:?}", Reply::Failed(Failure::Mismatch));
    assert!(
        found.iter().all(|(_, reply)| *reply == mismatch),
        "{found:?}"
    );
    assert_eq!(found.len(), 3);
}

#[test]
fn damaged_answers_never_make_more_of_them_than_were_asked_for() {
    let mut random = Random::new(1);
    for _ in 0..20_000 {
        let mut bytes = ANSWERS.to_vec();
        for _ in 0..1 + random.next_u64() % 3 {
            let position = (random.next_u64() % bytes.len() as u64) as usize;
            bytes[position] = random.next_u64() as u8;
        }
        if let Ok(found) = receive(&mut asked(), &[&bytes]) {
            assert!(found.len() <= expected().len());
        }
    }
}

#[test]
#[should_panic(expected = "redis is not asked for what it lacks")]
fn what_redis_lacks_is_not_asked_for() {
    Connection::new().submit(&Request::List(Page {
        directory: b"d/",
        from: b"d/",
        rows_max: 1,
    }));
}
