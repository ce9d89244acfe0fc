//! Port numbers that two test servers never share.
//!
//! Invariant: a reserved port stays ours, also while no server listens on it, until the reservation is dropped; a
//! server that was killed thus finds its port free again. The reservation is a file lock, so it ends with the process
//! that holds it, however that ends, and it works between test binaries that run at the same time.
//!
//! It does not keep strangers out: a foreign program may still take the port, and the caller has to retry then.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which Linux (32768) and macOS (49152) take ports of outgoing connections: such a connection
/// could otherwise hold the port of a killed server just when the server is to come back.
const RANGE: std::ops::Range<u16> = 12_000..32_000;
const TRIES: usize = 1_000;

/// A port that no other reservation on this machine has.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    number: u16,
    /// Held, never read: closing it ends the reservation.
    _lock: File,
}

impl ReservedPort {
    /// Reserves a port that is free now, starting the search at random so that test binaries rarely meet.
    pub(crate) fn new() -> Self {
        for _ in 0..TRIES {
            let span = u64::from(RANGE.end - RANGE.start);
            // RandomState is seeded by the system; it saves a dependency on a random number crate.
            let offset = RandomState::new().hash_one(std::process::id()) % span;
            let number = RANGE.start + u16::try_from(offset).unwrap_or(0);
            if let Some(reserved) = Self::try_take(number) {
                return reserved;
            }
        }
        panic!(
            "none of {TRIES} ports tried between {} and {} is free",
            RANGE.start, RANGE.end
        );
    }

    /// The port number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn try_take(number: u16) -> Option<Self> {
        let dir = std::env::temp_dir().join("workyard-test-ports");
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
        // The file is never deleted: a lock on a deleted file would not exclude the next one who creates it.
        let path = dir.join(number.to_string());
        let lock = File::create(&path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_reserved_port_is_not_handed_out_again_until_dropped() {
        let first = ReservedPort::new();
        let number = first.number();
        assert!(ReservedPort::try_take(number).is_none(), "taken twice");
        drop(first);
        // A process that another test starts at this moment has the lock, too, from its fork until its exec.
        let begun = Instant::now();
        while ReservedPort::try_take(number).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not given back");
            std::thread::yield_now();
        }
    }
}
