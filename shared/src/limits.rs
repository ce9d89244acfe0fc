//! Every limit of the protocol in one place; what exceeds one is refused with a clear error.

/// Longest payload of a task, in bytes (1 MiB).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest result of a task, in bytes (1 MiB).
pub const MAX_RESULT_BYTES: usize = 1 << 20;
/// Longest payload or result that can be sealed, in bytes: as base64, with what goes beside it, it has 1 MiB.
pub const MAX_SEALED_BYTES: usize = 786_000;
/// Longest error text kept with a task, in bytes; longer ones are cut.
pub const MAX_ERROR_BYTES: usize = 4096;
/// Longest task id: visible ASCII characters.
pub const MAX_ID_BYTES: usize = 128;
/// Longest queue name: `[A-Za-z0-9._-]`.
pub const MAX_QUEUE_BYTES: usize = 64;
/// Longest kind: `[A-Za-z0-9._:-]`.
pub const MAX_KIND_BYTES: usize = 128;
/// Longest headers and unknown fields of one task together, in bytes of JSON (64 KiB).
pub const MAX_EXTRA_BYTES: usize = 64 << 10;
/// Most tasks in one enqueue, claim or settle call.
pub const MAX_BATCH: usize = 1000;
/// Most bytes of records that one claim hands out (one larger task alone still goes).
pub const MAX_CLAIM_BYTES: usize = 1 << 20;
/// Lowest-urgency priority; 0 is the most urgent.
pub const MAX_PRIORITY: u8 = 255;
/// Largest `max_attempts`.
pub const MAX_ATTEMPTS: u32 = 1000;
/// Largest duration anywhere in an envelope, in milliseconds (10 years).
pub const MAX_DURATION_MS: u64 = 315_360_000_000;
