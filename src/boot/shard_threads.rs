//! One thread per shard, named `shard-N`, pinned to its core, running a glommio executor.

use crate::refusal::{FAILED, Refusal};
use glommio::{LocalExecutorBuilder, Placement};
use ringway_runtime::error::RunError;
use ringway_runtime::shard_loop::{self, ShardSeed};
use std::thread::{Builder, JoinHandle};
use tokio::sync::mpsc;

/// What the executor's own ring may lock: all I/O of a shard is on the ring of `ringway-runtime`.
const EXECUTOR_IO_BYTES: usize = 64 << 10;
/// Entries of the executor's own rings.
const EXECUTOR_RING_DEPTH: usize = 16;

/// How a shard's thread ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which.
    pub(super) shard: u32,
    /// Why, unless it was stopped.
    pub(super) refusal: Option<Refusal>,
}

/// All shard threads.
pub(super) struct ShardThreads {
    handles: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<Ended>,
    /// Ends that came before anybody asked.
    finished: u32,
}

/// Starts a thread per seed, on the core of the same index.
pub(super) fn start(seeds: Vec<ShardSeed>, cores: &[usize]) -> Result<ShardThreads, Refusal> {
    let (ends, ended) = mpsc::channel(seeds.len().max(1));
    let mut handles = Vec::with_capacity(seeds.len());
    for (seed, core) in seeds.into_iter().zip(cores.iter().copied()) {
        let shard = seed.shard.shard;
        let farewell = Farewell { shard, ends: ends.clone(), refusal: None };
        let handle = Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || run(seed, core, farewell))
            .map_err(|cause| Refusal::failed(&format!("thread of shard {shard}"), &cause))?;
        handles.push(handle);
    }
    Ok(ShardThreads { handles, ended, finished: 0 })
}

fn run(seed: ShardSeed, core: usize, mut farewell: Farewell) {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .make();
    farewell.refusal = match executor {
        Ok(executor) => executor.run(shard_loop::run(seed)).err().map(refusal),
        Err(cause) => {
            Some(Refusal::failed(&format!("executor of shard {}", farewell.shard), &cause))
        }
    };
}

fn refusal(error: RunError) -> Refusal {
    match error {
        RunError::Start(error) => Refusal::from(error),
        error @ RunError::Ring { .. } => Refusal { code: FAILED, text: error.to_string() },
    }
}

/// Says good-bye however the thread ends, by a panic too.
struct Farewell {
    shard: u32,
    ends: mpsc::Sender<Ended>,
    refusal: Option<Refusal>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let refusal = match self.refusal.take() {
            None if std::thread::panicking() => {
                let text = format!("shard {} stopped on a broken invariant, see above", self.shard);
                Some(Refusal { code: FAILED, text })
            }
            refusal => refusal,
        };
        // One place per shard: there is room, unless nobody listens any more.
        drop(self.ends.try_send(Ended { shard: self.shard, refusal }));
    }
}

impl ShardThreads {
    /// The next thread that ends.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(ended) => {
                self.finished += 1;
                ended
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended.
    pub(super) async fn join(&mut self) -> Result<(), Refusal> {
        while usize::try_from(self.finished).unwrap_or(usize::MAX) < self.handles.len() {
            if let Some(refusal) = self.ended().await.refusal {
                return Err(refusal);
            }
        }
        for handle in self.handles.drain(..) {
            // It has said good-bye: only its stack is left to unwind.
            if handle.join().is_err() {
                return Err(Refusal::failed("shard", &"panicked while it stopped"));
            }
        }
        Ok(())
    }
}
