//! Which connection serves which partitions: each goes to one leader.

use crate::setup::Place;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Leader of all its partitions.
    pub(crate) address: SocketAddr,
    /// Indexes into the layout's places.
    pub(crate) partitions: Vec<usize>,
}

/// `connections` links (at least one per leader) that cover every partition. With `share`, connections
/// beyond the number of partitions share some; otherwise each partition has exactly one.
pub(crate) fn links(places: &[Place], connections: usize, share: bool) -> Vec<Link> {
    let mut by_leader: BTreeMap<SocketAddr, Vec<usize>> = BTreeMap::new();
    for (index, place) in places.iter().enumerate() {
        by_leader.entry(place.address).or_default().push(index);
    }
    let leaders = by_leader.len();
    let mut links = Vec::new();
    for (at, (address, partitions)) in by_leader.into_iter().enumerate() {
        // The first leaders take what does not divide.
        let mine = (connections + leaders - 1 - at) / leaders;
        let mine = if share { mine } else { mine.min(partitions.len()) };
        for link in 0..mine.max(1) {
            let own: Vec<usize> =
                partitions.iter().skip(link).step_by(mine.max(1)).copied().collect();
            let partitions =
                if own.is_empty() { vec![partitions[link % partitions.len()]] } else { own };
            links.push(Link { address, partitions });
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Position;
    use bytes::Bytes;

    fn places(leaders: &[u16]) -> Vec<Place> {
        leaders
            .iter()
            .map(|&port| Place {
                address: SocketAddr::from(([127, 0, 0, 1], port)),
                from: Position {
                    partition: 0,
                    offset: 0,
                    id: Bytes::new(),
                    asked: false,
                    not_before_ns: 0,
                },
                end_offset: 0,
                end_id: Bytes::new(),
            })
            .collect()
    }

    fn covered(links: &[Link]) -> Vec<usize> {
        let mut all: Vec<usize> = links.iter().flat_map(|l| l.partitions.clone()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_partition_is_covered_once_without_sharing() {
        for connections in 1..20 {
            let places = places(&[1, 2, 1, 2, 1, 2, 3, 3]);
            let links = links(&places, connections, false);
            assert_eq!(covered(&links), (0..8).collect::<Vec<_>>(), "{connections}");
            for link in &links {
                for &index in &link.partitions {
                    assert_eq!(places[index].address, link.address);
                }
            }
        }
    }

    #[test]
    fn connections_are_as_many_as_asked_when_shared() {
        let places = places(&[1, 2, 1]);
        for connections in 2..20 {
            let links = links(&places, connections, true);
            assert_eq!(links.len(), connections);
            let mut all = covered(&links);
            all.dedup();
            assert_eq!(all, [0, 1, 2]);
        }
        assert_eq!(links(&places, 1, true).len(), 2, "one per leader at least");
    }
}
