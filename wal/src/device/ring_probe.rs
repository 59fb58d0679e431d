//! Whether io_uring can be used here, and if not, what to do about it.

use std::fs;
use std::io;

use io_uring::{Probe, opcode};

use super::error::{DeviceError, Errno, RingRefusal};
use super::queue::new_ring;

const SETTING_PATH: &str = "/proc/sys/kernel/io_uring_disabled";

/// Checks that the kernel offers io_uring to this process, with every operation that a [`Ring`](super::Ring) uses.
///
/// A runtime that is built on io_uring panics where this returns an error, so call it first.
///
/// # Errors
/// [`DeviceError::NoRing`] with the reason.
pub fn probe_io_uring() -> Result<(), DeviceError> {
    let ring = new_ring(4).map_err(|error| DeviceError::NoRing(refusal_of(&error)))?;
    if !ring.params().is_feature_skip_cqe_on_success() {
        return Err(DeviceError::NoRing(RingRefusal::TooOld));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| DeviceError::NoRing(refusal_of(&error)))?;
    let operations = [
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("SEND", opcode::Send::CODE),
    ];
    match operations
        .into_iter()
        .find(|&(_, code)| !probe.is_supported(code))
    {
        Some((name, _)) => Err(DeviceError::NoRing(RingRefusal::Operation { name })),
        None => Ok(()),
    }
}

/// What the kernel means when it does not set up a ring.
pub(super) fn refusal_of(error: &io::Error) -> RingRefusal {
    refusal(Errno::of(error), disabled_setting())
}

/// | errno | `kernel.io_uring_disabled` | meaning |
/// |---|---|---|
/// | ENOSYS | | the kernel was built without it, or a filter says so |
/// | EINVAL | | the kernel does not know a flag: it is too old |
/// | EPERM, EACCES | 1, 2 | the setting |
/// | EPERM, EACCES | 0, none | a filter |
fn refusal(errno: Errno, setting: Option<u8>) -> RingRefusal {
    match (errno.0, setting) {
        (libc::ENOSYS, _) => RingRefusal::Missing,
        (libc::EINVAL, _) => RingRefusal::TooOld,
        (libc::EPERM | libc::EACCES, Some(setting @ 1..)) => RingRefusal::Disabled { setting },
        (libc::EPERM | libc::EACCES, _) => RingRefusal::Forbidden,
        _ => RingRefusal::Other(errno),
    }
}

fn disabled_setting() -> Option<u8> {
    fs::read_to_string(SETTING_PATH).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_what_to_change() {
        let cases = [
            (libc::ENOSYS, Some(0), "Linux 6.0"),
            (libc::EINVAL, None, "older than Linux 6.0"),
            (libc::EPERM, Some(2), "kernel.io_uring_disabled is 2"),
            (libc::EPERM, Some(1), "kernel.io_uring_group"),
            (libc::EPERM, Some(0), "seccomp"),
            (libc::EACCES, None, "seccomp"),
            (libc::ENFILE, None, "files"),
        ];
        for (number, setting, expected) in cases {
            let text = DeviceError::NoRing(refusal(Errno(number), setting)).to_string();
            assert!(text.contains(expected), "{text} does not say {expected}");
        }
    }

    #[test]
    fn a_machine_that_runs_these_tests_has_io_uring() {
        assert_eq!(probe_io_uring(), Ok(()));
    }
}
