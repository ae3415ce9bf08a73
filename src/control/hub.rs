//! Between the shards and the control plane: hands metadata questions to their thread, publishes
//! snapshots before answers, and passes everything else on to whoever runs the start and the stop.

use super::http::{Poison, Poisoned};
use super::meta::topics::Metadata;
use crate::report::{self, Level};
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{MetaAnswer, MetaOp, Notice, RequestId};
use ringway_runtime::mesh::{ControlEnds, FromShard, ToShard};
use ringway_runtime::ring::EventFd;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, ShardId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Metadata questions that may wait; above it a client is told to come back.
const QUESTIONS_MAX: usize = 1_024;
/// Poisoned logs that are listed; more are counted by their shards alone.
const POISONED_MAX: usize = 1_000;
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
    /// Why nothing can be changed any more.
    poison: Option<String>,
}

/// The control plane's end of every shard.
pub(crate) struct Hub {
    ends: ControlEnds,
    event: AsyncFd<Arc<EventFd>>,
    outboxes: Vec<VecDeque<ToShard>>,
    questions: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Answered>,
    /// For the names of topics.
    catalog: Arc<Catalog>,
    poisoned: watch::Sender<Poison>,
}

impl Hub {
    /// Starts the metadata thread; to be called within the control runtime.
    ///
    /// # Errors
    /// The thread or the event cannot be had.
    pub(crate) fn new(
        ends: ControlEnds,
        metadata: Metadata,
        poisoned: watch::Sender<Poison>,
    ) -> std::io::Result<Hub> {
        let catalog = metadata.catalog();
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
        Ok(Hub { ends, event, outboxes, questions, answers, catalog, poisoned })
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
            FromShard::Notice(Notice::Poisoned { key, cause }) => self.take_poisoned(key, cause),
            FromShard::Notice(notice) => return take_notice(shard, notice),
        }
        None
    }

    /// One line for the operator, and an entry for `/readyz` and the metric (P14).
    fn take_poisoned(&self, key: LogKey, cause: String) {
        let name = self.catalog.by_id.get(&key.topic_id).map(|topic| topic.name.clone());
        let topic = name.unwrap_or_else(|| key.topic_id.to_string());
        let text = format!(
            "log {topic}/{} takes nothing more until a restart: {cause}; look after the disk, then \
             restart",
            key.partition
        );
        report::log(Level::Error, "log", &text, &[]);
        self.poisoned.send_if_modified(|poison| {
            let room = poison.logs.len() < POISONED_MAX;
            if room {
                poison.logs.push(Poisoned { topic, partition: key.partition, cause });
            }
            room
        });
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

    /// One line for the operator, and a sentence for `/readyz` and the metric.
    fn take_metadata_poison(&self, cause: String) {
        self.poisoned.send_if_modified(|poison| {
            if poison.metadata.is_some() {
                return false;
            }
            let text = format!(
                "metadata takes no changes until a restart: {cause}; look after the disk, then restart"
            );
            report::log(Level::Error, "metadata", &text, &[]);
            poison.metadata = Some(cause);
            true
        });
    }

    /// The snapshot goes first, to everybody: who is told "created" finds the topic on every shard.
    fn publish(&mut self, answered: Answered) {
        if let Some(cause) = answered.poison {
            self.take_metadata_poison(cause);
        }
        if let Some(catalog) = answered.catalog {
            self.catalog = Arc::clone(&catalog);
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
        Notice::Poisoned { .. } => None,
    }
}

fn answer_questions(
    mut metadata: Metadata,
    mut asked: mpsc::Receiver<Question>,
    answered: &mpsc::Sender<Answered>,
) {
    while let Some(Question { shard, id, op }) = asked.blocking_recv() {
        let (answer, catalog) = metadata.apply(op);
        let poison = metadata.poison().map(str::to_owned);
        let done = Answered { shard, id, answer, catalog, poison };
        if answered.blocking_send(done).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meta::catalog::Identity;
    use super::super::meta::local::LocalStore;
    use super::super::meta::topics::TopicRules;
    use super::*;
    use ringway_runtime::mesh::{ShardEnds, links};

    fn hub(directory: &tempfile::TempDir, shards: u32) -> (Hub, Vec<ShardEnds>) {
        let store = LocalStore::open(&directory.path().join("metastore.redb")).expect("opens");
        let rules = TopicRules { partitions: 1, draw_uuid: || [7; 16] };
        let metadata =
            Metadata::open(Box::new(store), Identity::default(), rules, 0).expect("opens");
        let (shard_ends, ends) = links(shards).expect("links");
        let (poisoned, _) = watch::channel(Poison::default());
        (Hub::new(ends, metadata, poisoned).expect("starts"), shard_ends)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(future)
    }

    fn create(name: &str) -> MetaOp {
        MetaOp::CreateTopic {
            name: name.to_owned(),
            partitions: 1,
            replication_factor: -1,
            configs: Vec::new(),
            validate_only: false,
            internal: false,
        }
    }

    #[test]
    fn every_shard_has_the_snapshot_before_the_asker_is_answered() {
        let directory = tempfile::tempdir().expect("temporary directory");
        run(async {
            let (mut hub, mut shards) = hub(&directory, 2);
            let id = RequestId { connection: 4, request: 2 };
            shards[1].control.send(FromShard::Meta(id, create("t")));
            // The doors' word comes back once the answer is out: it was sent after it was given.
            let told = tokio::time::timeout(Duration::from_secs(10), async {
                loop {
                    tokio::select! {
                        event = hub.next() => panic!("{event:?}"),
                        () = tokio::time::sleep(Duration::from_millis(5)) => {}
                    }
                    if let Some(first) = shards[1].control.receive() {
                        return first;
                    }
                }
            });
            let ToShard::Catalog(catalog) = told.await.expect("in time") else {
                panic!("the snapshot comes first")
            };
            assert!(catalog.topics.contains_key("t"));
            let Some(ToShard::Meta(answered, MetaAnswer::Created { topic_id: 1, .. })) =
                shards[1].control.receive()
            else {
                panic!("then the answer")
            };
            assert_eq!(answered, id);
            assert!(matches!(shards[0].control.receive(), Some(ToShard::Catalog(_))));
            assert!(shards[0].control.receive().is_none());
        });
    }

    #[test]
    fn words_beyond_a_full_queue_wait_and_keep_their_order() {
        let directory = tempfile::tempdir().expect("temporary directory");
        run(async {
            let (mut hub, mut shards) = hub(&directory, 1);
            let words = u32::try_from(ringway_runtime::mesh::CONTROL_CAPACITY).expect("small") + 10;
            for request in 0..words {
                let id = RequestId { connection: 0, request };
                hub.tell(0, ToShard::Meta(id, MetaAnswer::Deleted));
            }
            for request in 0..words {
                hub.send_waiting();
                let Some(ToShard::Meta(id, _)) = shards[0].control.receive() else {
                    panic!("word {request} is lost")
                };
                assert_eq!(id.request, request);
            }
        });
    }

    #[test]
    fn recovery_and_stops_are_told_as_events() {
        let directory = tempfile::tempdir().expect("temporary directory");
        run(async {
            let (mut hub, mut shards) = hub(&directory, 1);
            let words = [
                FromShard::Notice(Notice::Warning("for the log".to_owned())),
                FromShard::Notice(Notice::Stopped { checkpoint_generation: 9 }),
                FromShard::Stopped,
            ];
            for word in words {
                shards[0].control.send(word);
            }
            assert!(matches!(hub.next().await, Event::Checkpointed(0, 9)));
            assert!(matches!(hub.next().await, Event::Stopped));
        });
    }

    #[test]
    fn p14_a_poisoned_log_is_listed_by_the_name_of_its_topic() {
        let directory = tempfile::tempdir().expect("temporary directory");
        run(async {
            let (mut hub, mut shards) = hub(&directory, 1);
            let mut listed = hub.poisoned.subscribe();
            let id = RequestId { connection: 4, request: 2 };
            shards[0].control.send(FromShard::Meta(id, create("t")));
            while !hub.catalog.topics.contains_key("t") {
                let waited = tokio::time::timeout(Duration::from_millis(5), hub.next()).await;
                assert!(waited.is_err(), "{waited:?}");
            }
            for (topic_id, cause) in [(1, "known"), (77, "unknown")] {
                let (key, cause) = (LogKey { topic_id, partition: 2 }, cause.to_owned());
                shards[0].control.send(FromShard::Notice(Notice::Poisoned { key, cause }));
            }
            shards[0].control.send(FromShard::Stopped);
            assert!(matches!(hub.next().await, Event::Stopped));
            let listed = listed.borrow_and_update();
            let logs = &listed.logs;
            let names: Vec<&str> = logs.iter().map(|log| log.topic.as_str()).collect();
            assert_eq!(names, ["t", "77"]);
            assert_eq!((logs[0].partition, logs[0].cause.as_str()), (2, "known"));
        });
    }
}
