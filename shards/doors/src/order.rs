//! Slots of requests under way: which may start, which reply leaves next (W1).
//! Owner: one Kafka connection.
//! Invariant: slots leave in the order they came; ids are given in that order, without gaps.
//! Not here: what is asked and answered (`kafka/`).

use std::collections::VecDeque;

/// One request of the peer, asked of the shard in `asked` pieces.
struct Slot<S> {
    /// Id of the first piece; the others follow.
    first: u32,
    asked: u32,
    waiting: u32,
    /// Produce: others of its kind may start behind it.
    produce: bool,
    /// A bit per piece answered: the first 64, then the rest.
    answered: u64,
    answered_rest: Vec<u64>,
    body: S,
}

/// The requests of one connection that were started and not yet answered to the peer.
pub(crate) struct Order<S> {
    slots: VecDeque<Slot<S>>,
    next_id: u32,
}

impl<S> Order<S> {
    /// Nothing under way.
    pub(crate) fn new() -> Order<S> {
        Order { slots: VecDeque::new(), next_id: 0 }
    }

    /// Produce may start behind Produce (group commit needs it), anything else only alone.
    pub(crate) fn may_start(&self, produce: bool) -> bool {
        self.slots.back().is_none_or(|last| produce && last.produce)
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The id that the next piece gets.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// A request of `asked` pieces starts, with the ids from [`Order::next_id`] on.
    ///
    /// # Panics
    /// When it may not start yet.
    pub(crate) fn push(&mut self, produce: bool, asked: u32, body: S) {
        assert!(self.may_start(produce), "started before its turn");
        let first = self.next_id;
        self.next_id = first.wrapping_add(asked);
        let rest = (asked as usize).saturating_sub(64).div_ceil(64);
        self.slots.push_back(Slot {
            first,
            asked,
            waiting: asked,
            produce,
            answered: 0,
            answered_rest: vec![0; rest],
            body,
        });
    }

    /// The slot that waits for `id` and the number of the piece in it; counts it as answered.
    pub(crate) fn answer(&mut self, id: u32) -> Option<(&mut S, u32)> {
        let front = self.slots.front()?.first;
        let at = id.wrapping_sub(front);
        // Slots without pieces share their `first` with the next one, so the last candidate is it.
        let behind = self.slots.partition_point(|slot| slot.first.wrapping_sub(front) <= at);
        let slot = self.slots.get_mut(behind.checked_sub(1)?)?;
        let piece = id.wrapping_sub(slot.first);
        if piece >= slot.asked || !slot.mark(piece) {
            return None;
        }
        slot.waiting -= 1;
        Some((&mut slot.body, piece))
    }

    /// The oldest slot, once all its pieces are answered.
    pub(crate) fn pop_answered(&mut self) -> Option<S> {
        if self.slots.front()?.waiting > 0 {
            return None;
        }
        self.slots.pop_front().map(|slot| slot.body)
    }

    /// Forgets everything; `unanswered` gets the ids that still wait, `bodies` what was in the slots.
    pub(crate) fn clear(&mut self, mut unanswered: impl FnMut(u32), mut bodies: impl FnMut(S)) {
        for slot in self.slots.drain(..) {
            for piece in (0..slot.asked).filter(|&piece| !slot.marked(piece)) {
                unanswered(slot.first.wrapping_add(piece));
            }
            bodies(slot.body);
        }
    }
}

impl<S> Slot<S> {
    fn marked(&self, piece: u32) -> bool {
        let word = match (piece / 64).checked_sub(1) {
            None => self.answered,
            Some(at) => self.answered_rest.get(at as usize).copied().unwrap_or(0),
        };
        word & (1 << (piece % 64)) != 0
    }

    /// Whether the piece was not answered before.
    fn mark(&mut self, piece: u32) -> bool {
        let fresh = !self.marked(piece);
        let bit = 1 << (piece % 64);
        match (piece / 64).checked_sub(1) {
            None => self.answered |= bit,
            Some(at) => {
                if let Some(word) = self.answered_rest.get_mut(at as usize) {
                    *word |= bit;
                }
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produce_starts_behind_produce_and_others_alone() {
        let mut order = Order::new();
        assert!(order.may_start(false));
        order.push(true, 1, 'a');
        assert!(order.may_start(true));
        assert!(!order.may_start(false));
        order.answer(0);
        assert_eq!(order.pop_answered(), Some('a'));
        order.push(false, 1, 'b');
        assert!(!order.may_start(true));
    }

    #[test]
    fn slots_leave_in_order_whatever_order_the_answers_come_in() {
        let mut order = Order::new();
        order.next_id = u32::MAX;
        order.push(true, 2, 'a');
        order.push(true, 0, 'b');
        order.push(true, 130, 'c');
        for piece in (0..130).rev() {
            assert_eq!(order.answer(1 + piece), Some((&mut 'c', piece)));
            assert_eq!(order.pop_answered(), None);
        }
        assert_eq!(order.answer(0), Some((&mut 'a', 1)));
        assert_eq!(order.pop_answered(), None);
        assert_eq!(order.answer(u32::MAX), Some((&mut 'a', 0)));
        let left: Vec<_> = std::iter::from_fn(|| order.pop_answered()).collect();
        assert_eq!(left, ['a', 'b', 'c']);
    }

    #[test]
    fn an_id_is_answered_once_and_unknown_ids_are_nobodys() {
        let mut order = Order::new();
        order.push(true, 70, 'a');
        assert_eq!(order.answer(70), None);
        assert_eq!(order.answer(69), Some((&mut 'a', 69)));
        assert_eq!(order.answer(69), None);
        assert_eq!(order.answer(u32::MAX), None);
        let mut open = Vec::new();
        order.clear(|id| open.push(id), |_| {});
        assert_eq!(open, (0..69).collect::<Vec<_>>());
        assert_eq!(order.len(), 0);
    }
}
