use super::*;

const MARK: FileName = FileName::Mark;
const LATENCY: Latency = Latency {
    min_ns: 1,
    usual_max_ns: 1,
    slow_per_mille: 0,
    slow_max_ns: 1,
};

fn disk(seed: u64) -> Disk {
    let mut disk = Disk::new(Random::new(seed), LATENCY);
    disk.format_file(MARK, 4 * SECTOR_BYTES);
    disk
}

#[test]
fn a_completed_durable_write_survives_every_crash() {
    for seed in 0..50 {
        let mut disk = disk(seed);
        let write = disk.submit_write(MARK, 512, &[7; 1024], WriteMode::Durable);
        assert_eq!(disk.complete(write), Ok(IoEnd::Done));
        disk.crash(CrashKind::PowerLoss);
        assert!(disk.is_durable(MARK, 512, &[7; 1024]));
    }
}

#[test]
fn a_cached_write_survives_a_killed_process_and_may_not_survive_the_loss_of_power() {
    let mut survivors = 0;
    for seed in 0..50 {
        let mut disk = disk(seed);
        let write = disk.submit_write(MARK, 0, &[7; 512], WriteMode::Cached);
        assert_eq!(disk.complete(write), Ok(IoEnd::Done));
        disk.crash(CrashKind::ProcessKilled);
        assert!(!disk.is_durable(MARK, 0, &[7; 512]));
        let mut read = [0; 512];
        disk.files[&MARK].read(0, &mut read);
        assert_eq!(read, [7; 512]);
        disk.crash(CrashKind::PowerLoss);
        survivors += u32::from(disk.is_durable(MARK, 0, &[7; 512]));
    }
    assert!((5..45).contains(&survivors), "{survivors}");
}

#[test]
fn a_flush_covers_only_what_was_written_before_it_was_submitted() {
    let mut disk = disk(1);
    let first = disk.submit_write(MARK, 0, &[1; 512], WriteMode::Cached);
    let second = disk.submit_write(MARK, 512, &[2; 512], WriteMode::Cached);
    assert_eq!(disk.complete(first), Ok(IoEnd::Done));
    let flush = disk.submit_flush(MARK);
    assert_eq!(disk.complete(second), Ok(IoEnd::Done));
    assert_eq!(disk.complete(flush), Ok(IoEnd::Done));
    assert!(disk.is_durable(MARK, 0, &[1; 512]));
    assert!(!disk.is_durable(MARK, 512, &[2; 512]));
}

#[test]
fn a_write_that_did_not_complete_may_leave_anything_between_old_and_new() {
    let (mut old, mut new, mut other) = (0, 0, 0);
    for seed in 0..200 {
        let mut disk = disk(seed);
        disk.submit_write(MARK, 0, &[9; 2048], WriteMode::Durable);
        disk.crash(CrashKind::PowerLoss);
        match &disk.files[&MARK].durable {
            bytes if bytes.iter().all(|&byte| byte == 0) => old += 1,
            bytes if bytes.iter().all(|&byte| byte == 9) => new += 1,
            _ => other += 1,
        }
    }
    assert!(
        old > 20 && new > 20 && other > 20,
        "{old} old, {new} new, {other} between"
    );
}

#[test]
fn nothing_is_durable_while_something_is_on_its_way_to_its_place() {
    let mut disk = disk(1);
    assert!(disk.is_durable(MARK, 0, &[0; 1024]));
    let write = disk.submit_write(MARK, 512, &[0; 512], WriteMode::Durable);
    assert!(!disk.is_durable(MARK, 0, &[0; 1024]));
    assert!(disk.is_durable(MARK, 0, &[0; 512]));
    assert_eq!(disk.complete(write), Ok(IoEnd::Done));
    assert!(disk.is_durable(MARK, 0, &[0; 1024]));
}

#[test]
fn a_full_disk_refuses_a_file_and_keeps_what_it_has() {
    let mut disk = disk(1);
    disk.set_capacity(10_000);
    let segment = FileName::Segment(FileNumber(1));
    assert_eq!(
        disk.begin_prepare(segment, 8192),
        Err(DiskError::Full { bytes: 8192 })
    );
    disk.set_capacity(20_000);
    assert_eq!(disk.begin_prepare(segment, 8192), Ok(()));
    disk.complete_prepare(segment);
    assert_eq!(disk.used_bytes(), 8192 + 2048);
}
