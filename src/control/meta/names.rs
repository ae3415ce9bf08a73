//! Which topic names are allowed, and which two would be the same metric name.

/// Longest topic name.
const NAME_BYTES_MAX: usize = 249;

/// Why `name` cannot be a topic's, `None` when it can.
pub(crate) fn refusal(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "topic names have 1 to {NAME_BYTES_MAX} bytes, this has {}",
            name.len()
        ));
    }
    if name == "." || name == ".." {
        return Some(format!("topic name {name:?} is reserved"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.bytes().all(allowed) {
        return Some(format!(
            "topic name {:?} has characters outside a-z A-Z 0-9 . _ -",
            name.escape_debug().to_string()
        ));
    }
    None
}

/// Names that differ only in `.` and `_` share a slot and collide (KAFKA's rule for metrics).
pub(crate) fn slot(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafka_s_rules() {
        for good in ["a", "a.b_c-D9", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        assert_eq!(slot("a.b"), slot("a_b"));
        assert_ne!(slot("a-b"), slot("a_b"));
    }
}
