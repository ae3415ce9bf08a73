//! How Produce and Fetch name a topic: by name, from version 13 on by id.
//! Owner: nobody, a plain value.
//! Invariant: which of the two it is follows from the version alone.
//! Not here: which topic that is (`partition/catalog.rs`).

use super::primitives::{DecodeError, Reader};
use crate::ids::TopicUuid;

/// First version of Produce and of Fetch with topic ids.
const ID_FROM: i16 = 13;

/// A topic as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(TopicUuid),
}

impl<'a> TopicRef<'a> {
    /// Bytes of the shortest one.
    pub(super) const fn least(version: i16, flexible: bool) -> usize {
        if version >= ID_FROM {
            16
        } else if flexible {
            1
        } else {
            2
        }
    }

    #[inline]
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: i16,
        flexible: bool,
    ) -> Result<TopicRef<'a>, DecodeError> {
        if version >= ID_FROM {
            return Ok(TopicRef::Id(TopicUuid(reader.array()?)));
        }
        reader.string(flexible).map(TopicRef::Name)
    }
}
