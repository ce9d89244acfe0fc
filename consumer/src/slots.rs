//! How much a worker may hold: slots to run in, and a share of them for each queue.
//!
//! Invariant: a running handler holds a permit until it has really ended, also a blocking one whose
//! task is long settled. Reservations keep two queues from claiming the same free slot. Fewer slots are a debt that
//! permits pay when they come back: nothing that runs is stopped for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::turns::{Standing, Turns};

/// For so long a queue may keep a slot that is another's by turns ...
const BURST: Duration = Duration::from_millis(3);
/// ... and for so many tasks.
const LONGEST_BURST: usize = 64;

/// How queues of one worker share its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueOrder {
    /// An earlier queue goes first: a later one gets tasks only while all earlier ones are empty.
    #[default]
    Strict,
    /// Queues that have work share the slots by their weights.
    Weighted,
}

/// The rank of a queue that is not served, or not any more.
const NONE: usize = usize::MAX;

/// One queue's standing among those of the worker.
#[derive(Debug)]
struct Share {
    /// Its place in the order of the queues, or [`NONE`].
    rank: AtomicUsize,
    weight: AtomicUsize,
    /// Nothing was left at the last claim.
    dry: AtomicBool,
    /// Claimed or being claimed, not finished.
    held: AtomicUsize,
    /// Of these, those that wait for a slot of their own kind, and have no use for one of the worker's.
    parked: AtomicUsize,
}

impl Share {
    fn new() -> Self {
        Self {
            rank: AtomicUsize::new(NONE),
            weight: AtomicUsize::new(1),
            // Nobody waits for it before its first claim has brought something: it may be of no use for long.
            dry: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
        }
    }

    fn rank(&self) -> usize {
        self.rank.load(Ordering::Relaxed)
    }

    /// How many of the worker's slots it has use for; in its own view all that it holds counts.
    fn wants(&self, own: bool) -> usize {
        let held = self.held.load(Ordering::Relaxed);
        match own {
            true => held,
            false => held.saturating_sub(self.parked.load(Ordering::Relaxed)),
        }
    }
}

/// The slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    running: Arc<Semaphore>,
    total: AtomicUsize,
    /// Permits to be taken away as soon as they are free.
    debt: AtomicUsize,
    /// Of the total, how many the limits of the kinds leave to be used.
    usable: AtomicUsize,
    order: QueueOrder,
    /// Tasks that a queue may run in the slot of another whose turn it is.
    burst: AtomicUsize,
    /// By the numbers of the lanes. Taken before `reserving` where both are, and only a reload writes it.
    shares: RwLock<Vec<Share>>,
    /// Serialises reservations, and says whose turn it is; held for nanoseconds, never over an await.
    reserving: Mutex<Turns>,
    /// A slot was freed or a queue ran dry: others may have their turn.
    pub(crate) freed: Notify,
}

impl Slots {
    /// For no queue yet: see [`Self::enlist`].
    pub(crate) fn new(total: usize, order: QueueOrder) -> Self {
        Self {
            running: Arc::new(Semaphore::new(total)),
            total: AtomicUsize::new(total),
            debt: AtomicUsize::new(0),
            usable: AtomicUsize::new(total),
            order,
            burst: AtomicUsize::new(0),
            shares: RwLock::default(),
            reserving: Mutex::new(Turns::default()),
            freed: Notify::new(),
        }
    }

    /// For queues of these weights, each of which may have work.
    #[cfg(test)]
    pub(crate) fn of(total: usize, order: QueueOrder, weights: &[usize]) -> Self {
        let slots = Self::new(total, order);
        let lanes: Vec<_> = weights.iter().map(|weight| (slots.enlist(None), *weight)).collect();
        slots.rank(&lanes);
        for (lane, _) in lanes {
            slots.set_dry(lane, false);
        }
        slots
    }

    fn shares(&self) -> RwLockReadGuard<'_, Vec<Share>> {
        self.shares.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a lane that begins, which has no turn before it is given a rank; that of one that has ended, or a new one.
    pub(crate) fn enlist(&self, ended: Option<usize>) -> usize {
        let mut shares = self.shares.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = ended {
            shares[lane] = Share::new();
            return lane;
        }
        shares.push(Share::new());
        shares.len() - 1
    }

    /// Which lanes are served now, in the order of their queues, with their weights. What others hold they may finish.
    pub(crate) fn rank(&self, lanes: &[(usize, usize)]) {
        let shares = self.shares();
        let mut turns = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        for (lane, share) in shares.iter().enumerate() {
            let place = lanes.iter().position(|(served, _)| *served == lane);
            share.rank.store(place.unwrap_or(NONE), Ordering::Relaxed);
            match place {
                Some(place) => share.weight.store(lanes[place].1, Ordering::Relaxed),
                None => turns.rests(lane),
            }
        }
        drop((turns, shares));
        self.freed.notify_waiters();
    }

    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// More or fewer slots; at once, but what runs goes on.
    pub(crate) fn resize(&self, total: usize, usable: usize) {
        let guard = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.total.swap(total, Ordering::Relaxed);
        let debt = self.debt.load(Ordering::Relaxed);
        let grown = total.saturating_sub(before);
        self.running.add_permits(grown.saturating_sub(debt));
        self.debt.store(
            debt.saturating_sub(grown) + before.saturating_sub(total),
            Ordering::Relaxed,
        );
        self.usable.store(usable.min(total), Ordering::Relaxed);
        self.pay();
        drop(guard);
        self.freed.notify_waiters();
    }

    /// Takes free permits away while there is a debt; under the lock.
    fn pay(&self) {
        while self.debt.load(Ordering::Relaxed) > 0 {
            let Ok(permit) = self.running.try_acquire() else { return };
            permit.forget();
            self.debt.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many tasks this worker can run at once now: what it claims for, and its capacity in reports.
    pub(crate) fn usable(&self) -> usize {
        self.usable.load(Ordering::Relaxed)
    }

    pub(crate) fn set_usable(&self, slots: usize) {
        self.usable.store(slots.min(self.total()), Ordering::Relaxed);
    }

    /// Slots in use by handlers that have not ended.
    pub(crate) fn running(&self) -> usize {
        let permits = self.total() + self.debt.load(Ordering::Relaxed);
        permits.saturating_sub(self.running.available_permits())
    }

    /// Whether one is free.
    pub(crate) fn has_free(&self) -> bool {
        self.running.available_permits() > self.debt.load(Ordering::Relaxed)
    }

    pub(crate) fn try_run(&self) -> Option<OwnedSemaphorePermit> {
        if self.debt.load(Ordering::Relaxed) > 0 {
            let guard = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
            self.pay();
            drop(guard);
        }
        Arc::clone(&self.running).try_acquire_owned().ok()
    }

    /// How this queue stands among those of the worker.
    pub(crate) fn standing(&self, lane: usize) -> Standing {
        self.standing_among(&self.shares(), lane)
    }

    fn standing_among(&self, shares: &[Share], lane: usize) -> Standing {
        let mut others = shares.iter().enumerate().filter(|(of, _)| *of != lane);
        Standing {
            lane,
            rank: shares[lane].rank(),
            weight: shares[lane].weight.load(Ordering::Relaxed),
            order: self.order,
            alone: others.all(|(_, share)| share.rank() == NONE),
            burst: self.burst.load(Ordering::Relaxed),
        }
    }

    /// How long a run takes here, on average: so many are a burst.
    pub(crate) fn runs_take(&self, mean: Duration) {
        let tasks = BURST.as_nanos() / mean.as_nanos().max(1);
        self.burst.store(
            usize::try_from(tasks).unwrap_or(LONGEST_BURST).min(LONGEST_BURST),
            Ordering::Relaxed,
        );
    }

    /// Reserves up to `ahead` more than the free slots for a queue; 0 if it is not its turn. Where slots come free one at a time
    /// nobody takes the one that another, whose turn it is, has asked for in vain.
    pub(crate) fn reserve(&self, lane: usize, ahead: usize, most: usize) -> usize {
        let shares = self.shares();
        let (who, now) = (self.standing_among(&shares, lane), Instant::now());
        let mut turns = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        // What another queue has parked keeps no slot from this one; its own does, or it would claim ever more of the same.
        let all = shares.iter().enumerate();
        let held: usize = all.map(|(of, share)| share.wants(of == lane)).sum();
        // Blocking handlers that outlived their task hold a permit, but no task.
        let lost = self.running().saturating_sub(held);
        let room = (self.usable() + ahead).saturating_sub(held + lost);
        let allowed = self.allowance(&shares, who, ahead).min(most);
        let mut n = room.min(allowed);
        if !who.alone {
            n = match (turns.before(who, now), self.order) {
                (0, _) => n,
                (_, QueueOrder::Strict) => 0,
                (before, QueueOrder::Weighted) => room.saturating_sub(before).min(allowed),
            };
            // One that has its share already, or its hands full of what cannot start, waits for nobody's slot.
            if n == 0 && allowed > 0 && !self.is_stuck(&shares[lane]) {
                turns.waits(who, now);
            }
        }
        shares[lane].held.fetch_add(n, Ordering::Relaxed);
        drop(turns);
        n
    }

    /// A claim brought a queue so many tasks.
    pub(crate) fn served(&self, lane: usize, tasks: usize) {
        let who = self.standing(lane);
        if !who.alone {
            let mut turns = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
            turns.served(who, tasks, Instant::now());
        }
    }

    fn allowance(&self, shares: &[Share], who: Standing, ahead: usize) -> usize {
        let others = shares.iter().enumerate().filter(|(lane, _)| *lane != who.lane);
        let mut wet = others.map(|(_, share)| share).filter(|share| {
            let is_served = share.rank() != NONE;
            is_served && !share.dry.load(Ordering::Relaxed) && !self.is_stuck(share)
        });
        match self.order {
            QueueOrder::Strict if wet.any(|share| share.rank() < who.rank) => 0,
            QueueOrder::Strict => usize::MAX,
            QueueOrder::Weighted => {
                let others: usize = wet.map(|share| share.weight.load(Ordering::Relaxed)).sum();
                let share = ((self.usable() + ahead) * who.weight)
                    .div_ceil(who.weight + others)
                    .max(1);
                share.saturating_sub(shares[who.lane].held.load(Ordering::Relaxed))
            }
        }
    }

    /// Gives back `n` of a queue's reservations or finished tasks.
    pub(crate) fn unreserve(&self, lane: usize, n: usize) {
        if n > 0 {
            let shares = self.shares();
            shares[lane].held.fetch_sub(n, Ordering::Relaxed);
            if shares.len() > 1 {
                self.freed.notify_waiters();
            }
        }
    }

    /// So many of what a queue holds wait for slots of their kinds.
    pub(crate) fn park(&self, lane: usize, tasks: usize) {
        let shares = self.shares();
        if shares.len() == 1 {
            return;
        }
        let before = self.is_stuck(&shares[lane]);
        shares[lane].parked.store(tasks, Ordering::Relaxed);
        if self.is_stuck(&shares[lane]) && !before {
            self.freed.notify_waiters();
        }
    }

    /// Whether a queue's hands are full of what waits for slots of its kinds: it claims nothing then, whatever else it has, and
    /// the worker's free slots are the others'.
    fn is_stuck(&self, share: &Share) -> bool {
        share.parked.load(Ordering::Relaxed) * 2 >= self.usable().max(1)
    }

    pub(crate) fn set_dry(&self, lane: usize, dry: bool) {
        let shares = self.shares();
        if dry && shares.len() > 1 {
            self.reserving
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .rests(lane);
        }
        let was = shares[lane].dry.swap(dry, Ordering::Relaxed);
        if was != dry && shares.len() > 1 {
            self.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_queue_waits_until_all_earlier_ones_are_dry() {
        let slots = Slots::of(4, QueueOrder::Strict, &[1, 1]);
        assert_eq!(slots.reserve(1, 0, 100), 0);
        assert_eq!(slots.reserve(0, 0, 3), 3);
        slots.set_dry(0, true);
        assert_eq!(slots.reserve(1, 0, 100), 1);
        slots.unreserve(0, 3);
        assert_eq!(slots.reserve(1, 2, 100), 5);
    }

    #[test]
    fn what_waits_for_slots_of_its_kind_keeps_none_of_the_workers_from_other_queues() {
        let slots = Slots::of(4, QueueOrder::Strict, &[1, 1]);
        assert_eq!(slots.reserve(0, 0, 100), 4);
        assert_eq!(slots.reserve(1, 0, 100), 0);
        // One runs, three wait for it.
        slots.park(0, 3);
        assert_eq!(slots.reserve(0, 0, 100), 0, "its hands are full");
        assert_eq!(slots.reserve(1, 0, 100), 3);
        slots.unreserve(1, 3);
        slots.park(0, 1);
        assert_eq!(slots.reserve(1, 0, 100), 0, "it goes first again");
    }

    #[test]
    fn fewer_slots_are_taken_away_as_they_come_back_and_more_are_there_at_once() {
        let slots = Slots::of(3, QueueOrder::Strict, &[1]);
        let held: Vec<_> = (0..3).filter_map(|_| slots.try_run()).collect();
        slots.resize(1, 1);
        assert_eq!((held.len(), slots.running(), slots.total()), (3, 3, 1));
        drop(held);
        let one = slots.try_run();
        assert!(one.is_some() && slots.try_run().is_none(), "one slot, not three");
        assert_eq!(slots.running(), 1);
        slots.resize(2, 2);
        assert!(slots.try_run().is_some());
        let held = (slots.try_run(), slots.try_run());
        assert!(held.0.is_some() && held.1.is_none());
        // Smaller and larger again while all are held: the debt is forgiven first.
        slots.resize(1, 1);
        slots.resize(2, 2);
        drop((one, held));
        assert_eq!((slots.running(), slots.reserve(0, 0, 9)), (0, 2));
    }

    #[test]
    fn a_queue_that_is_left_keeps_what_it_holds_and_nobody_waits_for_its_turn() {
        let slots = Slots::of(4, QueueOrder::Strict, &[1, 1]);
        assert_eq!((slots.reserve(0, 0, 3), slots.reserve(1, 0, 100)), (3, 0));
        slots.rank(&[(1, 1)]);
        assert_eq!(slots.reserve(1, 0, 100), 1, "three run on");
        slots.unreserve(0, 3);
        assert_eq!(slots.reserve(1, 0, 100), 3);
        slots.unreserve(1, 4);
        // Another takes its number, and goes behind.
        assert_eq!(slots.enlist(Some(0)), 0);
        slots.rank(&[(1, 1), (0, 1)]);
        assert_eq!(slots.reserve(0, 0, 100), 0, "the first may have work");
        slots.set_dry(0, false);
        assert_eq!(slots.reserve(1, 0, 100), 4);
        slots.rank(&[(0, 1), (1, 1)]);
        slots.unreserve(1, 4);
        assert_eq!(
            (slots.reserve(1, 0, 100), slots.reserve(0, 0, 100)),
            (0, 4),
            "now it is the first"
        );
    }

    #[test]
    fn weighted_queues_with_work_share_by_weight_and_alone_take_all() {
        let slots = Slots::of(8, QueueOrder::Weighted, &[3, 1]);
        assert_eq!(slots.reserve(0, 0, 100), 6);
        assert_eq!(slots.reserve(1, 0, 100), 2);
        slots.unreserve(0, 6);
        slots.set_dry(0, true);
        assert_eq!(slots.reserve(1, 0, 100), 6);
    }

    #[test]
    fn what_the_limits_of_kinds_leave_unused_is_not_claimed_for() {
        let slots = Slots::of(8, QueueOrder::Strict, &[1]);
        slots.set_usable(3);
        assert_eq!(slots.reserve(0, 0, 100), 3);
        slots.set_usable(2);
        assert_eq!(slots.reserve(0, 0, 100), 0, "more is held than may be");
        slots.unreserve(0, 2);
        assert_eq!(slots.reserve(0, 0, 100), 1);
        slots.set_usable(100);
        assert_eq!(slots.reserve(0, 0, 100), 6);
    }
}
