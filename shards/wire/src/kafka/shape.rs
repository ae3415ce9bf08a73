//! Walks a whole request of a cold API before `kafka-protocol` may decode it: that crate allocates by counts.
//! Owner: nobody, a table and a walker.
//! Invariant: every count ≤ remaining / least element size, tags ascend, nothing is left over (C1, S08).
//! Not here: Produce and Fetch, which have walkers of their own; values.

use super::api::{
    API_VERSIONS, Api, CREATE_TOPICS, DELETE_TOPICS, DESCRIBE_CONFIGS, FIND_COORDINATOR, HEARTBEAT,
    INIT_PRODUCER_ID, JOIN_GROUP, LEAVE_GROUP, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH,
    SYNC_GROUP,
};
use super::primitives::{DecodeError, Reader};

/// What a field is on the wire.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A number or id of so many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Bytes,
    /// Structs.
    Structs(&'static [Field]),
    /// Numbers of so many bytes.
    Numbers(usize),
    /// Strings.
    Texts,
}

/// A field and the versions that have it.
#[derive(Clone, Copy, Debug)]
struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

impl Field {
    const fn is_in(&self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

const fn always(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

const fn since(from: i16, kind: Kind) -> Field {
    Field { from, to: i16::MAX, kind }
}

const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const TEXT: Kind = Kind::Text;

/// Fields of the request of each cold API, in order.
const TABLE: &[(i16, &[Field])] = &[
    (API_VERSIONS, &[since(3, TEXT), since(3, TEXT)]),
    (
        METADATA,
        &[
            always(Kind::Structs(&[since(10, UUID), always(TEXT)])),
            since(4, I8),
            between(8, 10, I8),
            since(8, I8),
        ],
    ),
    (
        LIST_OFFSETS,
        &[
            always(I32),
            since(2, I8),
            always(Kind::Structs(&[
                always(TEXT),
                always(Kind::Structs(&[always(I32), since(4, I32), always(I64)])),
            ])),
            since(10, I32),
        ],
    ),
    (FIND_COORDINATOR, &[between(0, 3, TEXT), since(1, I8), since(4, Kind::Texts)]),
    (
        JOIN_GROUP,
        &[
            always(TEXT),
            always(I32),
            since(1, I32),
            always(TEXT),
            since(5, TEXT),
            always(TEXT),
            always(Kind::Structs(&[always(TEXT), always(Kind::Bytes)])),
            since(8, TEXT),
        ],
    ),
    (
        SYNC_GROUP,
        &[
            always(TEXT),
            always(I32),
            always(TEXT),
            since(3, TEXT),
            since(5, TEXT),
            since(5, TEXT),
            always(Kind::Structs(&[always(TEXT), always(Kind::Bytes)])),
        ],
    ),
    (HEARTBEAT, &[always(TEXT), always(I32), always(TEXT), since(3, TEXT)]),
    (
        LEAVE_GROUP,
        &[
            always(TEXT),
            between(0, 2, TEXT),
            since(3, Kind::Structs(&[always(TEXT), always(TEXT), since(5, TEXT)])),
        ],
    ),
    (
        OFFSET_COMMIT,
        &[
            always(TEXT),
            since(1, I32),
            since(1, TEXT),
            since(7, TEXT),
            between(2, 4, I64),
            always(Kind::Structs(&[
                always(TEXT),
                always(Kind::Structs(&[always(I32), always(I64), since(6, I32), always(TEXT)])),
            ])),
        ],
    ),
    (
        OFFSET_FETCH,
        &[
            between(0, 7, TEXT),
            between(0, 7, Kind::Structs(OFFSET_FETCH_TOPIC)),
            since(
                8,
                Kind::Structs(&[
                    always(TEXT),
                    since(9, TEXT),
                    since(9, I32),
                    always(Kind::Structs(OFFSET_FETCH_TOPIC)),
                ]),
            ),
            since(7, I8),
        ],
    ),
    (INIT_PRODUCER_ID, &[always(TEXT), always(I32), since(3, I64), since(3, I16)]),
    (
        CREATE_TOPICS,
        &[
            always(Kind::Structs(&[
                always(TEXT),
                always(I32),
                always(I16),
                always(Kind::Structs(&[always(I32), always(Kind::Numbers(4))])),
                always(Kind::Structs(&[always(TEXT), always(TEXT)])),
            ])),
            always(I32),
            since(1, I8),
        ],
    ),
    (
        DELETE_TOPICS,
        &[
            since(6, Kind::Structs(&[always(TEXT), always(UUID)])),
            between(0, 5, Kind::Texts),
            always(I32),
        ],
    ),
    (
        DESCRIBE_CONFIGS,
        &[
            always(Kind::Structs(&[always(I8), always(TEXT), always(Kind::Texts)])),
            since(1, I8),
            since(3, I8),
        ],
    ),
];

fn fields_of(key: i16) -> Option<&'static [Field]> {
    TABLE.iter().find(|row| row.0 == key).map(|row| row.1)
}

const OFFSET_FETCH_TOPIC: &[Field] = &[always(TEXT), always(Kind::Numbers(4))];

/// Walks the body of a request of a cold API, at byte `at` of `frame`, with at most `elements_max` array
/// elements and tagged fields over all levels. Only what passes may be decoded by `kafka-protocol`.
///
/// # Errors
/// [`DecodeError`]: the connection is to be closed.
pub fn check_shape(
    frame: &[u8],
    at: usize,
    key: i16,
    version: i16,
    elements_max: u32,
) -> Result<(), DecodeError> {
    let not_served = DecodeError::NotServed { key, version };
    let api = Api::of(key).filter(|api| api.serves(version)).ok_or(not_served)?;
    let fields = fields_of(key).ok_or(not_served)?;
    let flexible = api.is_flexible(version);
    let reader = Reader::new(frame, at);
    let mut walk = Walk { reader, version, flexible, elements_max, elements_left: elements_max };
    walk.fields(fields)?;
    walk.reader.end()
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements_max: u32,
    elements_left: u32,
}

impl Walk<'_> {
    // The table's own depth, four at most, bounds the recursion.
    fn fields(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.field(field.kind)?;
        }
        if !self.flexible {
            return Ok(());
        }
        let mut tags = 0u32;
        self.reader.tags(|_, _| tags = tags.saturating_add(1))?;
        self.spend(tags)
    }

    fn field(&mut self, kind: Kind) -> Result<(), DecodeError> {
        match kind {
            Kind::Fixed(bytes) => self.reader.take("field", bytes).map(|_| ()),
            Kind::Text => self.reader.nullable_string(self.flexible).map(|_| ()),
            Kind::Bytes => self.reader.bytes_range(self.flexible).map(|_| ()),
            Kind::Structs(fields) => {
                let least = self.least_of_struct(fields);
                for _ in 0..self.count(least)? {
                    self.fields(fields)?;
                }
                Ok(())
            }
            Kind::Numbers(bytes) => {
                for _ in 0..self.count(bytes)? {
                    self.reader.take("number", bytes)?;
                }
                Ok(())
            }
            Kind::Texts => {
                for _ in 0..self.count(self.least(Kind::Text))? {
                    self.reader.nullable_string(self.flexible)?;
                }
                Ok(())
            }
        }
    }

    fn count(&mut self, least: usize) -> Result<u32, DecodeError> {
        let count = self.reader.count(self.flexible, least)?.unwrap_or(0);
        self.spend(count)?;
        Ok(count)
    }

    fn spend(&mut self, elements: u32) -> Result<(), DecodeError> {
        let too_many = DecodeError::Elements { limit: self.elements_max, at: self.reader.at() };
        self.elements_left = self.elements_left.checked_sub(elements).ok_or(too_many)?;
        Ok(())
    }

    fn least_of_struct(&self, fields: &[Field]) -> usize {
        let tags = usize::from(self.flexible);
        fields
            .iter()
            .filter(|field| field.is_in(self.version))
            .fold(tags, |least, field| least.saturating_add(self.least(field.kind)))
    }

    fn least(&self, kind: Kind) -> usize {
        match (kind, self.flexible) {
            (Kind::Fixed(bytes), _) => bytes,
            (Kind::Text, false) => 2,
            (Kind::Bytes | Kind::Structs(_) | Kind::Numbers(_) | Kind::Texts, false) => 4,
            (_, true) => 1,
        }
    }
}

#[cfg(test)]
mod tests;
