//! Requests under way by number; numbers are used again, but not soon for the same row.
//! Owner: one native connection.
//! Invariant: a number names one request or nothing; an old number never names a newer request until a row
//! was used 65,536 times over.
//! Not here: what is asked.

struct Row<T> {
    generation: u16,
    body: Option<T>,
}

/// Requests under way. Answers may come in any order, so they are no queue.
pub(crate) struct Rows<T> {
    rows: Vec<Row<T>>,
    free: Vec<u16>,
}

impl<T> Rows<T> {
    /// None under way.
    pub(crate) fn new() -> Rows<T> {
        Rows { rows: Vec::new(), free: Vec::new() }
    }

    /// Requests under way.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// Keeps `body` under a number, or gives it back when all 65,536 rows are used.
    pub(crate) fn insert(&mut self, body: T) -> Result<u32, T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => match u16::try_from(self.rows.len()) {
                Ok(index) => {
                    self.rows.push(Row { generation: 0, body: None });
                    index
                }
                Err(_) => return Err(body),
            },
        };
        let row = &mut self.rows[usize::from(index)];
        row.body = Some(body);
        Ok(u32::from(row.generation) << 16 | u32::from(index))
    }

    /// Takes the request with this number out.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let [high, low, ..] = id.to_be_bytes();
        let generation = u16::from_be_bytes([high, low]);
        let [.., high, low] = id.to_be_bytes();
        let index = u16::from_be_bytes([high, low]);
        let row = self.rows.get_mut(usize::from(index))?;
        if row.generation != generation {
            return None;
        }
        let body = row.body.take()?;
        row.generation = row.generation.wrapping_add(1);
        self.free.push(index);
        Some(body)
    }

    /// Empties it and names every number that was under way.
    pub(crate) fn clear(&mut self, mut each: impl FnMut(u32)) {
        for (index, row) in (0u32..).zip(&self.rows) {
            if row.body.is_some() {
                each(u32::from(row.generation) << 16 | index);
            }
        }
        self.rows.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_once() {
        let mut rows = Rows::new();
        let first = rows.insert('a').expect("room");
        assert_eq!(rows.remove(first), Some('a'));
        let second = rows.insert('b').expect("room");
        assert_ne!(first, second);
        assert_eq!((rows.remove(first), rows.len()), (None, 1));
        assert_eq!(rows.remove(u32::MAX), None);
        let mut left = Vec::new();
        rows.clear(|id| left.push(id));
        assert_eq!((left, rows.len()), (vec![second], 0));
    }

    #[test]
    fn rows_are_bounded() {
        let mut rows = Rows::new();
        for at in 0..65_536 {
            assert!(rows.insert(at).is_ok());
        }
        assert_eq!(rows.insert(7), Err(7));
    }
}
