//! Ringway's deterministic simulator: the shipped wire, log, partition and doors code over a made-up
//! disk, network and clock, and a checker of D1–D9.
//! Owner: nobody; a run belongs to its seed.
//! Invariant: a run is a pure function of its seed and profile.
//! Not here: real I/O, threads, the clock of the host (`main.rs` alone counts seconds).
#![forbid(unsafe_code)]

pub mod arguments;
pub mod around;
pub mod checker;
pub mod client;
pub mod clock;
pub mod committer;
pub mod consumer;
pub mod control;
pub mod counters;
pub mod damage;
pub mod device;
pub mod dialect;
pub mod disk;
pub mod enumerate;
pub mod exhaustive;
pub mod faults;
pub mod file;
pub mod flip;
pub mod history;
pub mod ledger;
pub mod member;
pub mod mutant;
pub mod names;
pub mod network;
pub mod node;
pub mod passing;
pub mod places;
pub mod plan;
pub mod process;
pub mod producer;
pub mod queue;
pub mod reader;
pub mod rng;
pub mod room;
pub mod rot;
pub mod scenarios;
pub mod seeds;
pub mod shrink;
pub mod stand;
pub mod tally;
pub mod teams;
pub mod trace;
pub mod watch;
pub mod workload;
pub mod world;
