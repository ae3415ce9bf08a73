//! The topics and clients of a seed, and whether it scrubs.
//! Owner: the world.
//! Invariant: drawn once, before anything happens.
//! Not here: what they do (`client.rs`).

use crate::client::{Client, Role};
use crate::clock::{MS, SECOND};
use crate::committer::Committer;
use crate::consumer::Consumer;
use crate::control::Control;
use crate::dialect::Dialect;
use crate::member::Member;
use crate::passing::Passing;
use crate::process::Scrubbing;
use crate::producer::Producer;
use crate::rng::Rng;
use crate::workload::Target;
use ringway_client::kafka::KafkaSession;
use ringway_client::native::NativeSession;
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::ids::LogKey;

/// `skips` is a stream of its own: the seeds stay as they were but for what readers get where damage lies.
pub(super) fn make_topics(rng: &mut Rng, skips: &mut Rng, control: &mut Control) -> Vec<Target> {
    let mut targets = Vec::new();
    let topics = rng.within(1, 3);
    for number in 0..topics {
        let partitions = rng.within(1, if topics == 1 { 8 } else { 3 });
        let mut config = TopicConfig::default();
        config.segment_bytes = rng.pick(&[64 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20]);
        let retained = rng.percent(20);
        if retained {
            config.retention_bytes = Some(config.segment_bytes * rng.within(1, 3));
        }
        let log_append_time = rng.percent(15);
        config.log_append_time = log_append_time;
        config.skip_quarantined = skips.percent(40);
        let topic = format!("topic-{number}");
        let count = u32::try_from(partitions).unwrap_or(1);
        let topic_id = control.insert(&topic, count, config, false);
        for partition in 0..count {
            let key = LogKey { topic_id, partition };
            let partition = i32::try_from(partition).unwrap_or(0);
            let topic = topic.clone();
            targets.push(Target { topic, partition, key, retained, log_append_time });
        }
    }
    targets
}

/// `later` is a stream of its own: what came to the generator later leaves the seeds without it as they were.
pub(super) fn make_clients(rng: &mut Rng, later: &mut Rng, targets: usize) -> Vec<Client> {
    let producers = rng.within(1, 4);
    let consumers = rng.within(1, 2);
    let mut clients = Vec::new();
    for number in 0..producers {
        let kafka = rng.percent(65);
        let idempotent = rng.percent(75);
        let producer = Producer::new(number + 1, idempotent, rng, targets);
        clients.push(Client::new(clients.len(), Role::Producer(producer), dialect(kafka)));
    }
    for _ in 0..consumers {
        let kafka = rng.percent(60);
        let consumer = Consumer::new(rng, targets, later.percent(40));
        clients.push(Client::new(clients.len(), Role::Consumer(consumer), dialect(kafka)));
    }
    if rng.percent(35) {
        let committer = Committer::new(clients.len(), rng, targets);
        clients.push(Client::new(clients.len(), Role::Committer(committer), dialect(true)));
    }
    if later.percent(25) {
        for _ in 0..later.within(1, 3) {
            let member = Member::new(later);
            clients.push(Client::new(clients.len(), Role::Member(member), dialect(true)));
        }
    }
    if later.percent(25) {
        let passing = Passing::new(clients.len());
        clients.push(Client::new(clients.len(), Role::Passing(passing), dialect(true)));
    }
    clients
}

/// `rng` is a stream of its own: seeds that do not scrub stay as they were.
pub(super) fn make_scrubbing(rng: &mut Rng) -> Option<Scrubbing> {
    let scrubbing = Scrubbing {
        // Most lives last less than 60 ms: a pass begins with each, and again only in some.
        interval_ns: rng.pick(&[50 * MS, 200 * MS, SECOND]),
        // A segment takes from one millisecond to a whole life.
        bytes_per_s: rng.pick(&[4 << 20, 16 << 20, 64 << 20]),
    };
    rng.percent(30).then_some(scrubbing)
}

fn dialect(kafka: bool) -> Dialect {
    if kafka {
        Dialect::Kafka(KafkaSession::new("sim"))
    } else {
        Dialect::Native(NativeSession::new())
    }
}
