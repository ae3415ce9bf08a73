//! Random calls on two shards: whatever happens, every request is answered once and acknowledged
//! batches are there in order.

use super::world::{World, batch, part, sequenced};
use crate::request::{
    CommittedOffset, GroupReply, GroupRequest, Input, JoinGroup, MetaOp, OffsetAt, Reply, Request,
    RequestId,
};
use ringway_wire::batch_writer::BatchOptions;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap();
        all[at].clone()
    }
}

struct Life {
    world: World,
    random: Random,
    keys: Vec<LogKey>,
    /// Requests of this life, to be given up now and then.
    open: Vec<(usize, RequestId)>,
    /// Next sequence of producer 7 per log, and what it was told.
    sequences: BTreeMap<LogKey, i32>,
    produces: Vec<(LogKey, i32, RequestId)>,
    members: Vec<String>,
    joins: Vec<RequestId>,
}

impl Life {
    fn one(&mut self) {
        let at = usize::try_from(self.random.below(2)).unwrap();
        let keys = self.keys.clone();
        let key = self.random.of(&keys);
        match self.random.below(20) {
            0..=4 => self.produce(at, key),
            5..=8 => {
                let offset = self.random.below(40);
                let mut parts = vec![part(key, offset)];
                parts.extend(keys.iter().filter(|k| **k != key).map(|k| part(*k, 0)).take(2));
                let min = u32::try_from(self.random.below(600)).unwrap();
                let wait = self.random.below(300);
                let request = self.world.fetch_request(parts, min, wait);
                self.ask(at, request);
            }
            9 => {
                let when = i64::try_from(self.random.below(2000)).unwrap();
                let when = OffsetAt::Time(self.world.wall_ms() - when);
                let all = [OffsetAt::Latest, OffsetAt::Earliest, OffsetAt::MaxTimestamp, when];
                let at_what = self.random.of(&all);
                self.ask(at, Request::ListOffsets { key, at: at_what, leader_epoch: -1 });
            }
            10 => {
                self.ask(at, Request::InitProducerId { producer_id: -1, epoch: -1 });
            }
            11..=14 => self.group(at, key),
            15 => {
                let count = self.open.len() as u64;
                if count > 0 {
                    let which = usize::try_from(self.random.below(count)).unwrap();
                    let (shard, id) = self.open.swap_remove(which);
                    self.world.gone_only(shard, id);
                }
            }
            16 => {
                let ms = 1 + self.random_ms();
                self.world.pass(ms);
            }
            17 => self.world.run(),
            18 if self.random.below(4) == 0 => {
                let topic_id = key.topic_id;
                self.world.ask_only(at, Request::Meta(MetaOp::DeleteTopic { topic_id }));
                self.world.run();
                self.keys.retain(|key| key.topic_id != topic_id);
                self.sequences.retain(|key, _| key.topic_id != topic_id);
                self.produces.retain(|(key, _, _)| key.topic_id != topic_id);
                self.topic();
            }
            _ => {
                self.world.step(at, Input::Tick);
            }
        }
    }

    fn random_ms(&mut self) -> u64 {
        let end = self.random.of(&[2, 50, 4000]);
        self.random.below(end)
    }

    fn topic(&mut self) {
        let name = format!("t{}", self.random.below(u64::MAX));
        let topic_id = self.world.topic(&name, 2, &[]);
        self.keys.extend((0..2).map(|partition| LogKey { topic_id, partition }));
    }

    fn ask(&mut self, at: usize, request: Request) -> RequestId {
        let id = self.world.ask_only(at, request);
        self.open.push((at, id));
        id
    }

    fn produce(&mut self, at: usize, key: LogKey) {
        if self.random.below(3) == 0 {
            let records = usize::try_from(1 + self.random.below(5)).unwrap();
            let bytes = batch(BatchOptions::default(), self.world.wall_ms(), records, 50);
            let acks = self.random.of(&[-1i16, 0, 1]);
            let request = self.world.produce_request(key, acks, bytes);
            self.ask(at, request);
            return;
        }
        // The same batch again now and then: a lost reply.
        let next = self.sequences.entry(key).or_insert(0);
        let again = *next > 0 && self.random.below(4) == 0;
        let sequence = if again { *next - 1 } else { *next };
        if !again {
            *next += 1;
        }
        let request = self.world.produce_request(key, -1, sequenced(7, 0, sequence, 1));
        let id = self.world.ask_only(0, request);
        self.produces.push((key, sequence, id));
        let _ = at;
    }

    fn group(&mut self, at: usize, key: LogKey) {
        let joined: Vec<RequestId> =
            self.joins.iter().filter(|id| self.world.is_answered(**id)).copied().collect();
        self.joins.retain(|id| !joined.contains(id));
        for id in joined {
            if let Some(Reply::Group(GroupReply::Joined { code, member, .. })) = self.world.peek(id)
                && [ErrorCode::None, ErrorCode::MemberIdRequired].contains(code)
            {
                self.members.push(member.clone());
            }
        }
        let member = if self.members.is_empty() {
            String::new()
        } else {
            self.random.of(&self.members.clone())
        };
        let group = "group".to_owned();
        let generation = i32::try_from(self.random.below(6)).unwrap() - 1;
        let call = match self.random.below(6) {
            0 | 1 => GroupRequest::Join(JoinGroup {
                group,
                member: if self.random.below(2) == 0 { String::new() } else { member },
                member_id_required: self.random.below(2) == 0,
                client_id: "c".to_owned(),
                client_host: "h".to_owned(),
                session_timeout_ms: 2000,
                rebalance_timeout_ms: 3000,
                protocol_type: "consumer".to_owned(),
                protocols: vec![("range".to_owned(), Vec::new())],
            }),
            2 => GroupRequest::Sync {
                group,
                generation,
                member,
                protocol: None,
                assignments: Vec::new(),
            },
            3 => GroupRequest::Heartbeat { group, generation, member },
            4 => GroupRequest::Leave { group, members: vec![member] },
            _ => {
                let offset = 5;
                let one =
                    CommittedOffset { key, offset, leader_epoch: -1, metadata: String::new() };
                GroupRequest::Commit { group, generation, member, offsets: vec![one] }
            }
        };
        let join = matches!(call, GroupRequest::Join(_));
        let id = self.world.ask_only(at, Request::Group(call));
        if join {
            self.joins.push(id);
        }
    }

    /// What producer 7 was told is what the logs hold, each sequence once and in order.
    fn check(&mut self) -> usize {
        let mut acknowledged = 0;
        for key in self.keys.clone() {
            let mut offsets: BTreeMap<i32, u64> = BTreeMap::new();
            for (_, sequence, id) in self.produces.iter().filter(|row| row.0 == key) {
                let Some(Reply::Produced { base_offset, .. }) = self.world.peek(*id) else {
                    continue;
                };
                let before = offsets.insert(*sequence, *base_offset);
                assert!(before.is_none_or(|before| before == *base_offset), "{key} {sequence}");
            }
            let mut next = 0;
            let mut stored: BTreeMap<i32, u64> = BTreeMap::new();
            let end = u64::try_from(self.world.offset(key, OffsetAt::Latest).0).unwrap();
            while next < end {
                for (base, header) in self.world.headers(key, next) {
                    assert_eq!(base, next, "{key}: offsets have no gap");
                    next = base + 1 + u64::from(header.1);
                    if header.0 >= 0 {
                        assert!(stored.insert(header.0, base).is_none(), "{key}: twice {header:?}");
                    }
                }
            }
            let bases: Vec<u64> = stored.values().copied().collect();
            assert!(bases.is_sorted(), "{key}: in order of sequence");
            acknowledged += offsets.len();
            for (sequence, base) in offsets {
                assert_eq!(stored.get(&sequence), Some(&base), "{key} {sequence}");
            }
        }
        acknowledged
    }
}

#[test]
fn whatever_comes_every_request_is_answered_once_and_what_was_acknowledged_is_there() {
    let mut acknowledged = 0;
    for seed in 1..=25 {
        let mut life = Life {
            world: World::with(2, 50, 128),
            random: Random(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed)),
            keys: Vec::new(),
            open: Vec::new(),
            sequences: BTreeMap::new(),
            produces: Vec::new(),
            members: Vec::new(),
            joins: Vec::new(),
        };
        life.topic();
        life.topic();
        for step in 0..400 {
            life.one();
            if step == 250 && seed % 2 == 0 {
                life.world.run();
                life.world.crash();
                life.open.clear();
                life.joins.clear();
            }
        }
        life.world.run();
        life.world.pass(60_000);
        acknowledged += life.check();
        for at in 0..2 {
            assert_eq!(life.world.shard(at).counts().waiting_rows, 0, "seed {seed}");
        }
        life.world.finish();
    }
    assert!(acknowledged > 200, "only {acknowledged} acknowledged batches were looked at");
}
