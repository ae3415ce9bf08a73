//! Keys and values of `__consumer_offsets`, in Kafka's own formats.
//! Owner: nobody, pure functions over bytes.
//! Invariant: every length is checked against what remains; an unknown version reads as nothing.
//! Not here: batches (`wire`), what offsets mean (`offsets.rs`).

use ringway_wire::ids::TopicUuid;

/// OffsetCommitKey: version 0 and 1 have the same fields, Kafka writes 1.
const KEY_VERSION: i16 = 1;
/// OffsetCommitValue 4: as 3, flexible, with the topic's id in tag 0 (Kafka 4.1).
const VALUE_VERSION: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;

/// Key of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OffsetKey {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}

/// Value of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OffsetValue {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
    pub(super) commit_ms: i64,
    /// Absent in versions below 4.
    pub(super) topic: Option<TopicUuid>,
}

impl OffsetKey {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&KEY_VERSION.to_be_bytes());
        put_string(into, &self.group);
        put_string(into, &self.topic);
        into.extend_from_slice(&self.partition.to_be_bytes());
    }

    /// `None` for keys of another kind (group metadata) and for damage.
    pub(super) fn decode(bytes: &[u8]) -> Option<OffsetKey> {
        let mut bytes = Bytes(bytes);
        if !(0..=KEY_VERSION).contains(&i16::from_be_bytes(bytes.take()?)) {
            return None;
        }
        Some(OffsetKey {
            group: bytes.string()?,
            topic: bytes.string()?,
            partition: i32::from_be_bytes(bytes.take()?),
        })
    }
}

impl OffsetValue {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&VALUE_VERSION.to_be_bytes());
        into.extend_from_slice(&self.offset.to_be_bytes());
        into.extend_from_slice(&self.leader_epoch.to_be_bytes());
        put_uvarint(into, self.metadata.len() + 1);
        into.extend_from_slice(self.metadata.as_bytes());
        into.extend_from_slice(&self.commit_ms.to_be_bytes());
        match self.topic {
            None => into.push(0),
            Some(uuid) => {
                into.extend_from_slice(&[1, 0, 16]);
                into.extend_from_slice(&uuid.0);
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<OffsetValue> {
        let mut bytes = Bytes(bytes);
        let version = i16::from_be_bytes(bytes.take()?);
        if !(0..=VALUE_VERSION).contains(&version) {
            return None;
        }
        let offset = i64::from_be_bytes(bytes.take()?);
        let leader_epoch = if version >= 3 { i32::from_be_bytes(bytes.take()?) } else { -1 };
        let metadata = if version >= 4 { bytes.compact_string()? } else { bytes.string()? };
        let commit_ms = i64::from_be_bytes(bytes.take()?);
        let topic = if version >= 4 { bytes.topic_tag()? } else { None };
        Some(OffsetValue { offset, leader_epoch, metadata, commit_ms, topic })
    }
}

fn put_string(into: &mut Vec<u8>, text: &str) {
    // Names and group ids are bounded far below 32 KiB before they come here.
    let len = i16::try_from(text.len()).unwrap_or(i16::MAX);
    into.extend_from_slice(&len.to_be_bytes());
    into.extend_from_slice(&text.as_bytes()[..usize::try_from(len).unwrap_or(0)]);
}

fn put_uvarint(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap_or(0));
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn string(&mut self) -> Option<String> {
        let len = usize::try_from(i16::from_be_bytes(self.take()?)).ok()?;
        String::from_utf8(self.slice(len)?.to_vec()).ok()
    }

    fn uvarint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take::<1>()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn compact_string(&mut self) -> Option<String> {
        let len = self.uvarint()?.checked_sub(1)?;
        String::from_utf8(self.slice(len as usize)?.to_vec()).ok()
    }

    fn topic_tag(&mut self) -> Option<Option<TopicUuid>> {
        let mut found = None;
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()?;
            let field = self.slice(len as usize)?;
            if tag == TOPIC_ID_TAG {
                found = Some(TopicUuid(field.try_into().ok()?));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_kafkas_bytes() {
        let key = OffsetKey { group: "g".into(), topic: "to".into(), partition: 7 };
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        assert_eq!(bytes, [0, 1, 0, 1, b'g', 0, 2, b't', b'o', 0, 0, 0, 7]);
        assert_eq!(OffsetKey::decode(&bytes), Some(key));
        let value = OffsetValue {
            offset: 258,
            leader_epoch: 3,
            metadata: "m".into(),
            commit_ms: 5,
            topic: Some(TopicUuid([9; 16])),
        };
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let mut golden = vec![0, 4, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 2, b'm'];
        golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 16]);
        golden.extend_from_slice(&[9; 16]);
        assert_eq!(bytes, golden);
        assert_eq!(OffsetValue::decode(&bytes), Some(value));
        for len in 0..bytes.len() {
            assert_eq!(OffsetValue::decode(&bytes[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn values_of_version_three_and_one_are_read() {
        let three = [
            &[0u8, 3][..],
            &9i64.to_be_bytes(),
            &2i32.to_be_bytes(),
            &[0, 1, b'x'],
            &4i64.to_be_bytes(),
        ]
        .concat();
        let read = OffsetValue::decode(&three).expect("version 3");
        assert_eq!((read.offset, read.leader_epoch, read.metadata.as_str()), (9, 2, "x"));
        let group_metadata = [0u8, 2, 0, 1, b'g'];
        assert_eq!(OffsetKey::decode(&group_metadata), None);
    }
}
