//! One clock for all processes of a test.

/// Milliseconds of the machine's monotonic clock: the same for every process, and nobody moves it.
#[must_use]
pub fn monotonic_ms() -> u64 {
    // The system call itself: a preloaded clock shim does not see it.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or_default()
}
