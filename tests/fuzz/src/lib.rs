//! What the fuzz targets share: dice for mutators, a measure of memory, planted canaries.
//! Owner: one process, one thread.
//! Invariant: a mutator is a pure function of its input and seed, so that every find can be replayed.
//! Not here: the targets (`targets/`), product code: it is never patched for fuzzing.

pub mod broker;
pub mod disk;
pub mod memory;
pub mod node;
pub mod process;
pub mod requests;
pub mod written;

use std::sync::OnceLock;

/// Numbers from a seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// From the seed libFuzzer gives.
    pub fn new(seed: u32) -> Dice {
        Dice(u64::from(seed) << 1 | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Lets libFuzzer change `input` in place, growing it to at most `len_max`.
pub fn libfuzzer_mutate(input: &mut Vec<u8>, len_max: usize) {
    let size = input.len();
    let room = len_max.max(size);
    input.resize(room, 0);
    let new = libfuzzer_sys::fuzzer_mutate(input, size, room);
    input.truncate(new);
}

/// Copies a mutated input into libFuzzer's buffer and returns its size.
pub fn give_back(mutated: &[u8], data: &mut [u8], max_size: usize) -> usize {
    let size = mutated.len().min(max_size).min(data.len());
    data[..size].copy_from_slice(&mutated[..size]);
    size
}

/// A planted bug: the gate demands that each is found. Only `RINGWAY_CANARY=1` arms it, so that one binary
/// serves both runs.
pub fn canary(name: &str) {
    static ARMED: OnceLock<bool> = OnceLock::new();
    if *ARMED.get_or_init(|| std::env::var_os("RINGWAY_CANARY").is_some()) {
        panic!("canary found: {name}");
    }
}
