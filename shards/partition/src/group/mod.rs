//! Consumer groups: membership and committed offsets of the groups this shard coordinates.
//! Owner: `Shard`.
//! Invariant: a group lives on the shard that owns its partition of `__consumer_offsets` (kafka.md B7).
//! Not here: frames (`doors`).

mod classic;
pub(crate) mod coordinator;
pub(crate) mod held_calls;
mod member;
mod offset_records;
mod offsets;

/// Where offsets are committed.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// What it is made with: segments roll early, so that compaction finds sealed ones.
pub const OFFSETS_CONFIGS: [(&str, &str); 2] =
    [("cleanup.policy", "compact"), ("segment.bytes", "16777216")];

/// The partition of `__consumer_offsets` that holds a group: the absolute value of Java's string hash,
/// modulo the partitions.
#[must_use]
pub fn partition_of_group(group: &str, partitions: u32) -> u32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `abs` maps the smallest number to 0.
    hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_groups_hash_as_in_java() {
        // Java: "abc".hashCode() = 96354, "polygenelubricants".hashCode() = Integer.MIN_VALUE.
        assert_eq!(partition_of_group("abc", 50), 96354 % 50);
        assert_eq!(partition_of_group("polygenelubricants", 50), 0);
        assert_eq!(partition_of_group("", 50), 0);
    }
}
