//! Faults that `tests/sanitize memory` must see, in the harness and with the flags of the unit tests.

use std::hint::black_box;

/// Bytes of each allocation.
const BYTES: usize = 100;

#[test]
fn nothing() {
    drop(black_box(vec![0u8; BYTES]));
}

#[test]
fn leak() {
    black_box(Box::leak(vec![0u8; BYTES].into_boxed_slice()));
}

#[test]
fn use_after_free() {
    let bytes = black_box(vec![0u8; BYTES]);
    let first = bytes.as_ptr();
    drop(bytes);
    // SAFETY: none, that is the point.
    black_box(unsafe { first.read_volatile() });
}

#[test]
fn out_of_bounds() {
    let bytes = black_box(vec![0u8; BYTES]);
    // SAFETY: none, that is the point.
    black_box(unsafe { bytes.as_ptr().add(BYTES).read_volatile() });
}
