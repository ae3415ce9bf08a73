//! The store of a node whose own is lost, made anew from what its log directories say of themselves.

use super::{
    Op, PRODUCER_ID_NEXT, SLOT_PREFIX, TOPIC_ID_NEXT, TOPIC_PREFIX, VERSION, VersionRow, base64_22,
    names,
};
use crate::control::meta::catalog::TopicRow;
use crate::control::meta::store::{MetaStore, Outcome, StoreError, TXN_PARTS_MAX, Txn, read_row};
use ringway_partition::group::{OFFSETS_CONFIGS, OFFSETS_TOPIC};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// Producer ids for each millisecond since 1970: no node gives out so many, so that what is given from now on
/// lies above all that was, by whatever store, as long as the clock does not go back behind an earlier one.
const PRODUCER_IDS_PER_MS: u64 = 1 << 16;

/// What a log says of itself: its topic's name and uuid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Topic.
    pub(crate) topic: String,
    /// Kafka's topic id.
    pub(crate) uuid: [u8; 16],
}

/// Everything the new store will hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remade {
    /// By name.
    pub(crate) topics: BTreeMap<String, TopicRow>,
    /// Topics whose logs are there and that nothing names: they stay on the disk, unknown to the broker.
    pub(crate) nameless: Vec<u64>,
    topic_id_next: u64,
}

impl Remade {
    /// From every log there is or was (`names`: what its directory says, when it can be read).
    ///
    /// # Errors
    /// What contradicts itself, with the values.
    pub(crate) fn new(logs: &BTreeMap<LogKey, Option<Named>>) -> Result<Remade, String> {
        let mut remade = Remade { topic_id_next: 1, ..Remade::default() };
        let mut named: BTreeMap<u64, (Option<&Named>, u32)> = BTreeMap::new();
        for (key, name) in logs {
            let (known, partitions) = named.entry(key.topic_id).or_default();
            if let (Some(one), Some(other)) = (*known, name)
                && one != other
            {
                return Err(format!(
                    "the partitions of t/{} do not agree: one is of topic {} ({}), another of {} ({})",
                    key.topic_id,
                    one.topic,
                    base64_22(one.uuid),
                    other.topic,
                    base64_22(other.uuid)
                ));
            }
            *known = known.or(name.as_ref());
            *partitions = (*partitions).max(key.partition.saturating_add(1));
            remade.topic_id_next = remade.topic_id_next.max(key.topic_id.saturating_add(1));
        }
        for (topic_id, (name, partitions)) in named {
            match name {
                Some(name) => remade.add(topic_id, name, partitions)?,
                None => remade.nameless.push(topic_id),
            }
        }
        Ok(remade)
    }

    fn add(&mut self, topic_id: u64, named: &Named, partitions: u32) -> Result<(), String> {
        let name = &named.topic;
        if let Some(why) = names::refusal(name) {
            return Err(format!("t/{topic_id}: {why}"));
        }
        let taken = self.topics.iter().find(|(other, _)| names::slot(other) == names::slot(name));
        if let Some((other, row)) = taken {
            return Err(format!(
                "t/{} is topic {other} and t/{topic_id} is topic {name}: one of them may be what is left of a topic \
                 that was deleted; move it out of the directory and run this again",
                row.topic_id
            ));
        }
        let internal = name == OFFSETS_TOPIC;
        let given = OFFSETS_CONFIGS.iter().filter(|_| internal);
        let configs = given.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let row = TopicRow { topic_id, uuid: named.uuid, partitions, internal, configs };
        self.topics.insert(name.clone(), row);
        Ok(())
    }

    /// Fills an empty store. Without a `cluster_id` a new one is made of `uuid`.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn fill(
        &self,
        store: &mut dyn MetaStore,
        cluster_id: Option<String>,
        uuid: [u8; 16],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let cluster_id = cluster_id.unwrap_or_else(|| base64_22(uuid));
        let json = |value: serde_json::Result<Vec<u8>>| {
            value.map_err(|cause| StoreError::Refused(cause.to_string()))
        };
        let version = json(serde_json::to_vec(&VersionRow { schema: 1, cluster_id }))?;
        let producer_id = now_ms.saturating_mul(PRODUCER_IDS_PER_MS);
        let mut rows = vec![
            Op::Put(TOPIC_ID_NEXT.to_owned(), self.topic_id_next.to_string().into_bytes()),
            Op::Put(PRODUCER_ID_NEXT.to_owned(), producer_id.to_string().into_bytes()),
        ];
        for (name, row) in &self.topics {
            rows.push(Op::Put(format!("{TOPIC_PREFIX}{name}"), json(serde_json::to_vec(row))?));
            let slot = format!("{SLOT_PREFIX}{}", names::slot(name));
            rows.push(Op::Put(slot, name.clone().into_bytes()));
        }
        // Last: a store without it counts as lost.
        rows.push(Op::Put(VERSION.to_owned(), version));
        for then in rows.chunks(TXN_PARTS_MAX) {
            let txn = Txn { then: then.to_vec(), ..Txn::default() };
            if store.txn(&txn)? == Outcome::Unknown {
                let cause = store.poison().unwrap_or("no answer");
                return Err(StoreError::Refused(format!("a commit failed: {cause}")));
            }
        }
        Ok(())
    }
}

/// The cluster's identity, if the store still tells it.
pub(crate) fn stored_cluster_id(store: &dyn MetaStore) -> Option<String> {
    let row = read_row(store, VERSION).ok()??;
    let version: VersionRow = serde_json::from_slice(&row.value).ok()?;
    Some(version.cluster_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::meta::local::LocalStore;
    use crate::control::meta::topics::tests::open;

    fn named(topic: &str, byte: u8) -> Option<Named> {
        Some(Named { topic: topic.to_owned(), uuid: [byte; 16] })
    }

    fn logs(rows: &[(u64, u32, Option<Named>)]) -> BTreeMap<LogKey, Option<Named>> {
        let key = |topic_id, partition| LogKey { topic_id, partition };
        rows.iter().map(|(id, at, name)| (key(*id, *at), name.clone())).collect()
    }

    #[test]
    fn topics_come_back_under_their_names_and_no_number_is_given_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let found = logs(&[
            (3, 0, named("a", 1)),
            (3, 4, None),
            (7, 1, named(OFFSETS_TOPIC, 2)),
            (9, 0, None),
        ]);
        let remade = Remade::new(&found).expect("agrees");
        assert_eq!(remade.nameless, [9]);
        let path = directory.path().join("metastore.redb");
        let mut store = LocalStore::open(&path).expect("opens");
        remade.fill(&mut store, None, [5; 16], 1_700_000_000_000).expect("fills");
        assert_eq!(stored_cluster_id(&store), Some(base64_22([5; 16])));
        drop(store);
        let mut metadata = open(directory.path(), 0);
        let catalog = metadata.catalog();
        let told = |name: &str| {
            let topic = &catalog.topics[name];
            (topic.id, topic.uuid.0, topic.partitions, topic.internal)
        };
        assert_eq!(told("a"), (3, [1; 16], 5, false));
        assert_eq!(told(OFFSETS_TOPIC), (7, [2; 16], 2, true));
        let (answer, _) = metadata.apply(super::super::tests::create("b", 1));
        assert_eq!(answer, super::super::MetaAnswer::Created { topic_id: 10, partitions: 1 });
        let reserve = super::super::MetaOp::ReserveProducerIds { count: 10 };
        let (answer, _) = metadata.apply(reserve);
        let first = 1_700_000_000_000 << 16;
        assert_eq!(answer, super::super::MetaAnswer::ProducerIds { first, count: 10 });
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_values() {
        let two_names = logs(&[(3, 0, named("a", 1)), (3, 1, named("b", 1))]);
        let two_ids = logs(&[(3, 0, named("a", 1)), (4, 0, named("a", 2))]);
        let one_slot = logs(&[(3, 0, named("a.b", 1)), (4, 0, named("a_b", 2))]);
        let no_name = logs(&[(3, 0, named("a/b", 1))]);
        for (found, parts) in [
            (two_names, ["t/3", "topic a", "of b"]),
            (two_ids, ["t/3", "t/4", "topic a"]),
            (one_slot, ["a.b", "a_b", "move it"]),
            (no_name, ["t/3", "a/b", "characters"]),
        ] {
            let text = Remade::new(&found).expect_err("refused");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
