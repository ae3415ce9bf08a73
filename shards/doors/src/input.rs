//! Puts frames together out of received slices.
//! Owner: one `Session`.
//! Invariant: a slice pushed is released exactly once; a frame is named only when it lies whole and contiguous in one block.
//! Not here: what a frame says (`kafka.rs`, `native.rs`), sockets.

use crate::door::{Close, ReceiveInto};
use ringway_log::blocks::{Blocks, Slice};
use std::collections::VecDeque;

/// Bytes from which every dialect knows its frame's length.
pub(crate) const HEAD_BYTES: usize = 128;

/// What the bytes at hand amount to.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole frame; [`Input`] keeps its hold until [`Input::consume`].
    Frame(Slice),
    /// More must be received first.
    More,
    /// No memory for a large frame now: ask again later.
    Starved,
    /// The bytes are no frame.
    Refused(Close),
}

struct Large {
    block: u32,
    from: u32,
    to: u32,
}

/// Received bytes that were not parsed yet.
pub(crate) struct Input {
    queue: VecDeque<Slice>,
    /// The first bytes of a frame that did not fit into the end of a slice.
    head: [u8; HEAD_BYTES],
    have: usize,
    large: Option<Large>,
}

impl Input {
    /// Nothing received.
    pub(crate) fn new() -> Input {
        Input { queue: VecDeque::new(), head: [0; HEAD_BYTES], have: 0, large: None }
    }

    /// Takes over `data` with its hold.
    pub(crate) fn push(&mut self, data: Slice, blocks: &mut Blocks) {
        if data.is_empty() {
            blocks.release(data);
        } else {
            self.queue.push_back(data);
        }
    }

    /// `bytes` more lie in the large block.
    ///
    /// # Panics
    /// When more came than the large block was asked for: the receiver wrote past its target.
    pub(crate) fn landed(&mut self, bytes: u32) {
        if let Some(large) = &mut self.large {
            large.from += bytes;
            assert!(
                large.from <= large.to,
                "received past the frame: {} > {}",
                large.from,
                large.to
            );
        }
    }

    /// The next frame, as `measure` tells its length from its first bytes (`None`: too few to tell).
    pub(crate) fn next(
        &mut self,
        measure: impl Fn(&[u8]) -> Result<Option<usize>, Close>,
        blocks: &mut Blocks,
    ) -> Next {
        loop {
            if self.large.is_some() {
                if !self.fill_large(blocks) {
                    return Next::More;
                }
                continue;
            }
            if self.have > 0 {
                match measure(&self.head[..self.have]) {
                    Err(close) => return Next::Refused(close),
                    Ok(Some(total)) => {
                        let first = self.head;
                        if !self.begin_large(&first[..self.have], total, blocks) {
                            return Next::Starved;
                        }
                        self.have = 0;
                    }
                    Ok(None) if !self.take_head_byte(blocks) => return Next::More,
                    Ok(None) => {}
                }
                continue;
            }
            let Some(&front) = self.queue.front() else { return Next::More };
            let bytes = blocks.bytes(front);
            match measure(bytes) {
                Err(close) => return Next::Refused(close),
                Ok(Some(total)) if total <= bytes.len() => {
                    return Next::Frame(front.part(0, total));
                }
                Ok(Some(total)) => {
                    // Copied first so that the block can be borrowed for writing; once per frame
                    // that is cut by the end of a receive, never for frames inside one.
                    let Some(block) = blocks.take_large(total) else { return Next::Starved };
                    self.large = Some(Large { block, from: 0, to: length(total) });
                }
                Ok(None) => {
                    let few = bytes.len().min(HEAD_BYTES);
                    self.head[..few].copy_from_slice(&bytes[..few]);
                    self.have = few;
                    self.consume(few, blocks);
                }
            }
        }
    }

    /// The first `bytes` of the front slice are done with.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn consume(&mut self, bytes: usize, blocks: &mut Blocks) {
        let Some(front) = self.queue.front_mut() else { return };
        let rest = front.part(bytes, front.len());
        if rest.is_empty() {
            blocks.release(rest);
            self.queue.pop_front();
        } else {
            *front = rest;
        }
    }

    /// Where the next bytes belong, when the session wants any.
    pub(crate) fn receive_into(&self) -> ReceiveInto {
        match &self.large {
            Some(large) => {
                ReceiveInto::Large { block: large.block, from: large.from, to: large.to }
            }
            None => ReceiveInto::Provided,
        }
    }

    /// Whether bytes wait to be parsed.
    pub(crate) fn has_unparsed(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Length of the frame of which a part has come, when one is under way (head only: 0).
    pub(crate) fn partial(&self) -> Option<u32> {
        match &self.large {
            Some(large) => Some(large.to),
            None => (self.have > 0).then_some(0),
        }
    }

    /// Gives every hold back.
    pub(crate) fn release(&mut self, blocks: &mut Blocks) {
        for slice in self.queue.drain(..) {
            blocks.release(slice);
        }
        if let Some(large) = self.large.take() {
            blocks.release_block(large.block);
        }
        self.have = 0;
    }

    fn begin_large(&mut self, first: &[u8], total: usize, blocks: &mut Blocks) -> bool {
        let Some(block) = blocks.take_large(total) else { return false };
        blocks.tail_mut(block)[..first.len()].copy_from_slice(first);
        self.large = Some(Large { block, from: length(first.len()), to: length(total) });
        true
    }

    /// Moves waiting bytes into the large block; a full one becomes the front of the queue.
    fn fill_large(&mut self, blocks: &mut Blocks) -> bool {
        let Some(large) = &mut self.large else { return false };
        while large.from < large.to {
            let Some(&front) = self.queue.front() else { return false };
            let missing = (large.to - large.from) as usize;
            let taken = front.len().min(missing);
            blocks.copy(front.part(0, taken), large.block, large.from);
            large.from += length(taken);
            let rest = front.part(taken, front.len());
            if rest.is_empty() {
                blocks.release(rest);
                self.queue.pop_front();
            } else if let Some(slot) = self.queue.front_mut() {
                *slot = rest;
            }
        }
        let whole = blocks.freeze(large.block, 0, large.to);
        blocks.release_block(large.block);
        self.large = None;
        self.queue.push_front(whole);
        true
    }

    fn take_head_byte(&mut self, blocks: &mut Blocks) -> bool {
        let Some(&front) = self.queue.front() else { return false };
        let byte = blocks.bytes(front).first().copied();
        let (Some(byte), Some(slot)) = (byte, self.head.get_mut(self.have)) else { return false };
        *slot = byte;
        self.have += 1;
        self.consume(1, blocks);
        true
    }
}

/// Frames are bounded far below 4 GiB by the settings.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
