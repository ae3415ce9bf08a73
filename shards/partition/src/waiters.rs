//! Lists of rows that wait for a partition: linked through one slab, so that waiting allocates nothing.
//! Owner: `Fetches` owns the slab, each partition its head.
//! Invariant: a node is in exactly one list until it is removed.
//! Not here: what a row waits for (`fetch.rs`).

const NONE: u32 = u32::MAX;

/// Where a partition's list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitHead(u32);

impl Default for WaitHead {
    fn default() -> WaitHead {
        WaitHead(NONE)
    }
}

#[derive(Clone, Copy)]
struct Node {
    row: u32,
    part: u32,
    prev: u32,
    next: u32,
}

/// Names a node, to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitNode(u32);

/// The slab of all lists.
#[derive(Default)]
pub(crate) struct WaitLists {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl WaitLists {
    /// Puts part `part` of `row` at the front.
    pub(crate) fn insert(&mut self, head: &mut WaitHead, row: u32, part: u32) -> WaitNode {
        let node = Node { row, part, prev: NONE, next: head.0 };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        assert_ne!(at, NONE, "more waiting parts than a u32 counts");
        if head.0 != NONE {
            self.nodes[head.0 as usize].prev = at;
        }
        head.0 = at;
        WaitNode(at)
    }

    /// Takes a node out of the list that `head` begins.
    pub(crate) fn remove(&mut self, head: &mut WaitHead, node: WaitNode) {
        let Node { prev, next, .. } = self.nodes[node.0 as usize];
        if prev == NONE {
            assert_eq!(head.0, node.0, "a node without predecessor is its list's head");
            head.0 = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        self.free.push(node.0);
    }

    /// Row and part of every node in the list.
    pub(crate) fn iter(&self, head: WaitHead) -> impl Iterator<Item = (u32, u32)> {
        let mut at = head.0;
        std::iter::from_fn(move || {
            if at == NONE {
                return None;
            }
            let node = self.nodes[at as usize];
            at = node.next;
            Some((node.row, node.part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_leave_from_front_middle_and_end_and_are_used_again() {
        let mut lists = WaitLists::default();
        let mut head = WaitHead::default();
        let nodes: Vec<WaitNode> = (0..4).map(|row| lists.insert(&mut head, row, 0)).collect();
        let rows = |lists: &WaitLists, head| lists.iter(head).map(|n| n.0).collect::<Vec<_>>();
        assert_eq!(rows(&lists, head), [3, 2, 1, 0]);
        lists.remove(&mut head, nodes[2]);
        lists.remove(&mut head, nodes[3]);
        lists.remove(&mut head, nodes[0]);
        assert_eq!(rows(&lists, head), [1]);
        lists.remove(&mut head, nodes[1]);
        assert_eq!(head, WaitHead::default());
        for row in 0..4 {
            lists.insert(&mut head, row, 1);
        }
        assert_eq!(lists.nodes.len(), 4);
    }
}
