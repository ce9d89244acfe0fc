//! A queue as far as waiting goes: what is pending, who is parked, and the calls that change it.

#![expect(missing_docs, reason = "fields are named as what they are")]

use super::Mutant;

/// How many one call wakes at most: 8 in truth, and with more consumers than that this is what happens.
pub(super) const MOST_WOKEN: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Up,
    Draining,
    /// Its session is still there.
    Dead,
    Gone,
}

/// A claim on its way back: how many it brings, and whether it left the consumer parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reply {
    pub granted: u8,
    pub short: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Consumer {
    pub life: Life,
    pub hears: bool,
    /// A message on its way to it.
    pub message: bool,
    /// It will claim when it has room: at its start, woken, or after it finished something.
    pub hungry: bool,
    /// It was woken since it sent its last claim.
    pub woken: bool,
    pub reply: Option<Reply>,
    /// What Redis says it holds, and what it knows of.
    pub held: u8,
    pub running: u8,
    /// An empty claim was answered, the call that parks comes next: of [`Mutant::ParkLater`].
    pub about_to_park: bool,
    /// Another queue has one of its slots.
    pub crowded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub pending: u8,
    pub parked: Vec<usize>,
    pub consumers: Vec<Consumer>,
    pub paused: bool,
    pub tasks_left: u8,
    pub crashes_left: u8,
    pub drains_left: u8,
    pub pauses_left: u8,
    pub deaf_left: u8,
    pub polls_left: u8,
    pub crowds_left: u8,
    /// Told of, not there yet: of [`Mutant::WakeBeforeAdd`].
    pub coming: u8,
}

impl Consumer {
    pub(super) fn room(&self, slots: u8) -> u8 {
        slots.saturating_sub(self.running + u8::from(self.crowded))
    }
}

impl State {
    pub(super) fn wake(&mut self, n: u8) {
        let mut n = n.min(MOST_WOKEN);
        while n > 0 && !self.parked.is_empty() {
            let first = self.parked.remove(0);
            let consumer = &mut self.consumers[first];
            let received = consumer.hears && matches!(consumer.life, Life::Up | Life::Draining);
            consumer.message |= received;
            n -= u8::from(received);
        }
    }

    pub(super) fn tell(&mut self, n: u8) {
        if self.pending > 0 && !self.paused {
            self.wake(n);
        }
    }

    pub(super) fn claim(&mut self, c: usize, slots: u8, mutant: Option<Mutant>) {
        let most = self.consumers[c].room(slots);
        let taken = if self.paused { 0 } else { most.min(self.pending) };
        self.pending -= taken;
        let short = taken < most;
        if short && mutant == Some(Mutant::ParkLater) {
            self.consumers[c].about_to_park = true;
        } else if short {
            self.park(c);
        } else {
            // A hint only: a wake-up that meets a full consumer is passed on by it.
            self.parked.retain(|p| *p != c);
            if mutant != Some(Mutant::NoPassOn) {
                self.tell(1);
            }
        }
        let consumer = &mut self.consumers[c];
        consumer.held += taken;
        consumer.woken = false;
        consumer.reply = Some(Reply { granted: taken, short });
    }

    pub(super) fn park(&mut self, c: usize) {
        self.parked.retain(|p| *p != c);
        self.parked.push(c);
    }

    pub(super) fn answer(&mut self, c: usize, mutant: Option<Mutant>) {
        let consumer = &mut self.consumers[c];
        let Some(reply) = consumer.reply.take() else { return };
        consumer.running += reply.granted;
        // With less than it asked for it rests, unless it was woken behind the question.
        let woken = consumer.woken && mutant != Some(Mutant::RestOnOldAnswer);
        consumer.hungry = woken || (consumer.hungry && !reply.short);
    }

    pub(super) fn leave(&mut self, c: usize, life: Life, mutant: Option<Mutant>) {
        self.parked.retain(|p| *p != c);
        let consumer = &mut self.consumers[c];
        let back = std::mem::take(&mut consumer.held);
        (consumer.life, consumer.running) = (life, 0);
        self.pending += back;
        let silent = if life == Life::Gone {
            Mutant::ReclaimIsSilent
        } else {
            Mutant::DrainIsSilent
        };
        if mutant != Some(silent) {
            self.tell(back.max(1));
        }
    }
}
