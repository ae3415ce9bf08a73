//! Runs seeds.
#![forbid(unsafe_code)]

fn main() {}
