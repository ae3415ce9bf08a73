//! What the members of a seed's group were told of its generations, and what they committed.
//! Owner: `Checker`.
//! Invariant: a generation has one leader, and each partition one owner in it. A group that everybody has left
//! counts its generations anew, with other members; committed offsets stay.
//! Not here: calls (`member.rs`).

use std::collections::BTreeMap;

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct TeamCounts {
    /// Generations that somebody was told of.
    pub generations: u64,
    /// … with two members or more.
    pub shared: u64,
    /// Shares that a member got, all right.
    pub syncs: u64,
    /// Heartbeats that succeeded.
    pub heartbeats: u64,
    /// Calls that were sent back to join again.
    pub rebalances: u64,
    /// Members that left.
    pub leaves: u64,
    /// Calls of generations or members that were over, refused.
    pub fenced: u64,
    /// Commits of owners, acknowledged.
    pub commits: u64,
    /// Committed offsets that a member found.
    pub found: u64,
}

/// What is known of one partition's committed offset.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Greatest acknowledged.
    durable: Option<u64>,
    /// Greatest sent.
    sent: u64,
}

/// The group, as told.
#[derive(Clone, Debug, Default)]
pub struct Teams {
    life: u32,
    /// Members that were in one generation together, or followed one another: in which run of generations.
    runs: BTreeMap<String, usize>,
    /// The newest generation of each run.
    newest: Vec<i32>,
    /// By run and generation.
    leaders: BTreeMap<(usize, i32), String>,
    /// What leaders handed out: partitions by generation and member.
    shares: BTreeMap<(i32, String), Vec<usize>>,
    places: BTreeMap<usize, Place>,
    /// Counts.
    pub counts: TeamCounts,
}

impl Teams {
    /// Another process serves: groups start anew.
    pub fn life_begins(&mut self, life: u32) {
        self.life = life;
        self.runs.clear();
        self.newest.clear();
        self.leaders.clear();
        self.shares.clear();
    }

    /// A member was told that it is in a generation, its leader who else is; false when it had another leader.
    pub fn joined(
        &mut self,
        generation: i32,
        leader: &str,
        member: &str,
        roster: &[String],
    ) -> bool {
        let told = || [leader, member].into_iter().chain(roster.iter().map(String::as_str));
        let run = told().find_map(|id| self.runs.get(id).copied()).unwrap_or(self.newest.len());
        if run == self.newest.len() {
            self.newest.push(generation);
        }
        self.newest[run] = self.newest[run].max(generation);
        self.runs.extend(told().map(|id| (id.to_owned(), run)));
        self.counts.shared += u64::from(roster.len() > 1);
        let known = self.leaders.entry((run, generation)).or_insert_with(|| {
            self.counts.generations += 1;
            leader.to_owned()
        });
        known == leader
    }

    /// The newest generation known to have followed those of a member, or its own.
    #[must_use]
    pub fn newest(&self, member: &str) -> i32 {
        self.runs.get(member).map_or(0, |run| self.newest[*run])
    }

    /// The leader of a generation hands `partitions` out, each to one member.
    pub fn deal(
        &mut self,
        generation: i32,
        roster: &[String],
        partitions: usize,
    ) -> Vec<(String, Vec<u8>)> {
        let mut members: Vec<&String> = roster.iter().collect();
        members.sort_unstable();
        let mut dealt = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let owned: Vec<usize> = (place..partitions).step_by(members.len()).collect();
            dealt.push(((*member).clone(), self.written(generation, member, &owned)));
            self.shares.insert((generation, (*member).clone()), owned);
        }
        dealt
    }

    /// As the leader writes it.
    fn written(&self, generation: i32, member: &str, owned: &[usize]) -> Vec<u8> {
        format!("life {} generation {generation} {member} owns {owned:?}", self.life).into_bytes()
    }

    /// A member got a share: what it owns now, unless its leader gave it another one.
    pub fn synced(&mut self, generation: i32, member: &str, share: &[u8]) -> Option<Vec<usize>> {
        self.counts.syncs += 1;
        let owned = self.shares.get(&(generation, member.to_owned()))?;
        (share == self.written(generation, member, owned)).then(|| owned.clone())
    }

    /// The next offset worth committing.
    pub fn next_offset(&mut self, partition: usize, step: u64) -> u64 {
        let place = self.places.entry(partition).or_default();
        place.sent += step;
        place.sent
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, partition: usize, offset: u64) {
        self.counts.commits += 1;
        let place = self.places.entry(partition).or_default();
        place.durable = place.durable.max(Some(offset));
    }

    /// The greatest offset acknowledged so far.
    #[must_use]
    pub fn durable(&self, partition: usize) -> Option<u64> {
        self.places.get(&partition).and_then(|place| place.durable)
    }

    /// Whether `found` may be what is committed, if `owed` was durable when it was asked for. `promises`: nothing
    /// may be lost.
    pub fn found(
        &mut self,
        partition: usize,
        owed: Option<u64>,
        found: Option<u64>,
        promises: bool,
    ) -> bool {
        self.counts.found += u64::from(found.is_some());
        let sent = self.places.get(&partition).map_or(0, |place| place.sent);
        let lost = promises && found < owed;
        !lost && found.is_none_or(|found| found <= sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_generation_are_found() {
        let mut teams = Teams::default();
        let both = ["a".to_owned(), "b".to_owned()];
        assert!(teams.joined(1, "a", "a", &both) && teams.joined(1, "a", "b", &[]));
        assert!(teams.joined(2, "b", "b", &both[1..]));
        assert_eq!((teams.newest("a"), teams.newest("c")), (2, 0), "b has followed a");
        assert!(!teams.joined(1, "b", "b", &[]));
        assert!(teams.joined(1, "c", "c", &["c".to_owned()]), "all have left before");
        assert_eq!((teams.newest("a"), teams.newest("c")), (2, 1));
        teams.life_begins(2);
        assert!(teams.joined(1, "b", "b", &[]));
    }

    #[test]
    fn a_share_of_another_member_or_generation_is_found() {
        let mut teams = Teams::default();
        let dealt = teams.deal(3, &["b".to_owned(), "a".to_owned()], 3);
        let of = |name: &str| dealt.iter().find(|(member, _)| member == name).unwrap().1.clone();
        assert_eq!(teams.synced(3, "a", &of("a")), Some(vec![0, 2]));
        assert_eq!(teams.synced(3, "b", &of("b")), Some(vec![1]));
        assert_eq!(teams.synced(3, "b", &of("a")), None);
        assert_eq!(teams.synced(4, "a", &of("a")), None);
        assert_eq!(teams.synced(3, "c", &[]), None);
    }

    #[test]
    fn a_lost_and_a_made_up_offset_are_found() {
        let mut teams = Teams::default();
        let offset = teams.next_offset(0, 5);
        assert!(teams.found(0, None, None, true) && teams.found(0, None, Some(offset), true));
        teams.committed(0, offset);
        let owed = teams.durable(0);
        assert!(!teams.found(0, owed, None, true) && !teams.found(0, owed, Some(4), true));
        assert!(teams.found(0, owed, None, false), "the device lies");
        assert!(!teams.found(0, owed, Some(6), false), "nobody sent it");
    }
}
