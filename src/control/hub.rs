//! Between the shards and the control plane: hands metadata questions to their thread, publishes
//! snapshots before answers, and passes everything else on to whoever runs the start and the stop.

use super::meta::topics::Metadata;
use crate::report::{self, Level};
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{MetaAnswer, MetaOp, Notice, RequestId};
use ringway_runtime::mesh::{ControlEnds, FromShard, ToShard};
use ringway_runtime::ring::EventFd;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::ShardId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Metadata questions that may wait; above it a client is told to come back.
const QUESTIONS_MAX: usize = 1_024;
/// A shard whose queue is full is tried again after this.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// What start and stop wait for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard has recovered its logs.
    Recovered(Recovered),
    /// A shard accepts connections.
    DoorsOpen,
    /// A shard has checkpointed for the last time, in this generation.
    Checkpointed(ShardId, u64),
    /// A shard has nothing in flight any more.
    Stopped,
    /// A shard ended by an error.
    Failed(ShardId, String),
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Logs.
    pub(crate) logs: u32,
    /// Batches dropped as torn tails.
    pub(crate) dropped_batches: u64,
    /// Offset ranges quarantined.
    pub(crate) quarantined: u64,
    /// Bytes read.
    pub(crate) scanned_bytes: u64,
}

struct Question {
    shard: ShardId,
    id: RequestId,
    op: MetaOp,
}

struct Answered {
    shard: ShardId,
    id: RequestId,
    answer: MetaAnswer,
    catalog: Option<Arc<Catalog>>,
}

/// The control plane's end of every shard.
pub(crate) struct Hub {
    ends: ControlEnds,
    event: AsyncFd<Arc<EventFd>>,
    outboxes: Vec<VecDeque<ToShard>>,
    questions: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Answered>,
}

impl Hub {
    /// Starts the metadata thread; to be called within the control runtime.
    ///
    /// # Errors
    /// The thread or the event cannot be had.
    pub(crate) fn new(ends: ControlEnds, metadata: Metadata) -> std::io::Result<Hub> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an EventFd keeps one descriptor for as long as it lives"
        )]
        let event = AsyncFd::new(ends.event())?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (answered, answers) = mpsc::channel(QUESTIONS_MAX);
        std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || answer_questions(metadata, asked, &answered))?;
        let outboxes = (0..ends.shards()).map(|_| VecDeque::new()).collect();
        Ok(Hub { ends, event, outboxes, questions, answers })
    }

    /// Tells every shard the same.
    pub(crate) fn tell_all(&mut self, word: impl Fn() -> ToShard) {
        for shard in 0..self.ends.shards() {
            self.tell(shard, word());
        }
    }

    /// The next thing that start or stop should know; metadata is served meanwhile.
    /// Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            self.send_waiting();
            while let Some((shard, word)) = self.ends.try_recv() {
                if let Some(event) = self.take(shard, word) {
                    return event;
                }
            }
            let waiting = self.outboxes.iter().any(|outbox| !outbox.is_empty());
            tokio::select! {
                ready = self.event.readable() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    self.ends.clear_event();
                }
                Some(answered) = self.answers.recv() => self.publish(answered),
                () = tokio::time::sleep(RETRY_AFTER), if waiting => {}
            }
        }
    }

    fn take(&mut self, shard: ShardId, word: FromShard) -> Option<Event> {
        match word {
            FromShard::Meta(id, op) => self.ask(Question { shard, id, op }),
            FromShard::DoorsOpen => return Some(Event::DoorsOpen),
            FromShard::Stopped => return Some(Event::Stopped),
            FromShard::Failed(cause) => return Some(Event::Failed(shard, cause)),
            FromShard::Notice(notice) => return take_notice(shard, notice),
        }
        None
    }

    fn ask(&mut self, question: Question) {
        let Err(refused) = self.questions.try_send(question) else { return };
        let question = refused.into_inner();
        let answer = MetaAnswer::Failed {
            code: ErrorCode::ThrottlingQuotaExceeded,
            message: format!("{QUESTIONS_MAX} metadata changes wait already"),
        };
        self.tell(question.shard, ToShard::Meta(question.id, answer));
    }

    /// The snapshot goes first, to everybody: who is told "created" finds the topic on every shard.
    fn publish(&mut self, answered: Answered) {
        if let Some(catalog) = answered.catalog {
            self.tell_all(|| ToShard::Catalog(Arc::clone(&catalog)));
        }
        self.tell(answered.shard, ToShard::Meta(answered.id, answered.answer));
    }

    fn tell(&mut self, shard: ShardId, word: ToShard) {
        let Some(outbox) = self.outboxes.get_mut(shard as usize) else { return };
        outbox.push_back(word);
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        for (shard, outbox) in (0..).zip(&mut self.outboxes) {
            while let Some(word) = outbox.pop_front() {
                if let Err(word) = self.ends.send(shard, word) {
                    outbox.push_front(word);
                    break;
                }
            }
        }
    }
}

fn take_notice(shard: ShardId, notice: Notice) -> Option<Event> {
    let fields = [("shard", shard.into())];
    match notice {
        Notice::Recovered { logs, dropped_batches, quarantined, scanned_bytes } => {
            let found = Recovered { logs, dropped_batches, quarantined, scanned_bytes };
            Some(Event::Recovered(found))
        }
        Notice::Stopped { checkpoint_generation } => {
            Some(Event::Checkpointed(shard, checkpoint_generation))
        }
        Notice::Warning(text) => {
            report::log(Level::Warn, "shard", &text, &fields);
            None
        }
        Notice::Poisoned { key, cause } => {
            let text = format!(
                "log {key} takes nothing more until a restart: {cause}; look after the disk, then \
                 restart"
            );
            report::log(Level::Error, "log", &text, &fields);
            None
        }
    }
}

fn answer_questions(
    mut metadata: Metadata,
    mut asked: mpsc::Receiver<Question>,
    answered: &mpsc::Sender<Answered>,
) {
    while let Some(Question { shard, id, op }) = asked.blocking_recv() {
        let (answer, catalog) = metadata.apply(op);
        let done = Answered { shard, id, answer, catalog };
        if answered.blocking_send(done).is_err() {
            return;
        }
    }
}
