use super::*;
use crate::memory;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn piece(executions: u64) -> Piece {
    Piece {
        seed: 1,
        from: 0,
        executions,
    }
}

#[test]
fn accepted_inputs_are_counted() {
    let target = Target::new("even", |input| input.len() % 2 == 0, vec![vec![1, 2, 3, 4]]);
    let outcome = run_piece(&target, piece(1000)).unwrap();
    assert!((100..900).contains(&outcome.accepted), "{outcome:?}");
    assert_eq!(
        run_piece(&target, piece(1000)).unwrap().accepted,
        outcome.accepted
    );
}

#[test]
fn a_panic_is_reported_with_its_input_and_replayed_by_its_number() {
    let run: fn(&[u8]) -> bool = |input| {
        assert!(input.first() != Some(&0x80), "there it is");
        true
    };
    let target = Target::new("trap", run, vec![vec![1, 2, 3]]);
    let failure = run_piece(&target, piece(100_000)).unwrap_err();
    let text = failure.to_string();
    let Failure::Execution { number, input, .. } = failure else {
        panic!("{text}");
    };
    assert_eq!(input[0], 0x80);
    assert!(text.contains("there it is") && text.contains(&format!("--at {number}")));
    let alone = Piece {
        seed: 1,
        from: number,
        executions: 1,
    };
    assert!(run_piece(&target, alone).is_err());
}

#[test]
fn memory_beyond_the_limit_is_reported() {
    let run: fn(&[u8]) -> bool = |input| {
        let claimed = usize::from(u16::from_le_bytes([input[0], input[1]]));
        Vec::<u8>::with_capacity(claimed).is_empty()
    };
    let target = Target::new("claims", run, vec![vec![9, 0]]).keeping(2);
    let outcome = run_piece(&target, piece(10)).unwrap();
    assert_eq!(outcome.memory_bytes, 9);
    let target = Target::new("claims", run, vec![vec![0, 2]])
        .keeping(2)
        .holding(511);
    let failure = run_piece(&target, piece(10)).unwrap_err().to_string();
    assert!(failure.contains("held 512 bytes"), "{failure}");
}
