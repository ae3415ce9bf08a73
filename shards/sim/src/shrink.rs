//! A part of a seed's plan, and the search for a small part that still fails.
//! Owner: `main.rs`.
//! Invariant: a part is named by a short text that gives the same run on any host.
//! Not here: what a run is (`world.rs`), what a plan is (`plan.rs`).

use crate::plan::LifePlan;
use std::fmt;

/// What is left of a plan; the default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Lives left out, by number.
    without_lives: Vec<u32>,
    /// Troubles left out: life and place.
    without_troubles: Vec<(u32, u32)>,
    /// Lives without cuts in recovery, changed clocks, limits and damage.
    calm: Vec<u32>,
    /// Lives with so many events at most.
    events: Vec<(u32, u64)>,
    /// Clients left out.
    without_clients: Vec<u32>,
}

impl Only {
    /// Reads what [`Only`] prints: `-life 1 -trouble 2.0 calm 3 events 4.120 -client 0`.
    ///
    /// # Errors
    /// The word that makes no sense.
    pub fn parse(text: &str) -> Result<Only, String> {
        let mut only = Only::default();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word}: a value is missing"))?;
            let number = |text: &str| {
                text.parse::<u32>().map_err(|_| format!("{word} {value}: not a number"))
            };
            let pair = || {
                let (a, b) = value.split_once('.').ok_or_else(|| format!("{word} {value}"))?;
                Ok::<(u32, u32), String>((number(a)?, number(b)?))
            };
            match word {
                "-life" => only.without_lives.push(number(value)?),
                "-trouble" => only.without_troubles.push(pair()?),
                "calm" => only.calm.push(number(value)?),
                "events" => {
                    let (life, events) = pair()?;
                    only.events.push((life, u64::from(events)));
                }
                "-client" => only.without_clients.push(number(value)?),
                other => return Err(format!("{other}: not a word of a part")),
            }
        }
        Ok(only)
    }

    /// The lives that are left, with their numbers.
    #[must_use]
    pub fn of(&self, plans: Vec<LifePlan>) -> Vec<(u32, LifePlan)> {
        let kept = (0u32..).zip(plans).filter(|(life, _)| !self.without_lives.contains(life));
        kept.map(|(life, plan)| (life, self.part(life, plan))).collect()
    }

    fn part(&self, life: u32, mut plan: LifePlan) -> LifePlan {
        let mut place = 0;
        plan.troubles.retain(|_| {
            place += 1;
            !self.without_troubles.contains(&(life, place - 1))
        });
        if self.calm.contains(&life) {
            plan.recovery_ends.clear();
            (plan.clock, plan.lowered, plan.damage) = (None, None, false);
        }
        for (_, events) in self.events.iter().filter(|(of, _)| *of == life) {
            plan.work_events = plan.work_events.min(*events);
        }
        plan
    }

    /// Whether a client takes part.
    #[must_use]
    pub fn has_client(&self, client: usize) -> bool {
        !self.without_clients.iter().any(|out| *out as usize == client)
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.without_lives.iter().map(|life| format!("-life {life}")));
        words.extend(self.without_troubles.iter().map(|(a, b)| format!("-trouble {a}.{b}")));
        words.extend(self.calm.iter().map(|life| format!("calm {life}")));
        words.extend(self.events.iter().map(|(life, events)| format!("events {life}.{events}")));
        words.extend(self.without_clients.iter().map(|client| format!("-client {client}")));
        write!(f, "{}", words.join(" "))
    }
}

/// Looks for a small part of `plans`, with up to `clients` clients, for which `fails` still holds.
pub fn shrink(
    plans: &[LifePlan],
    clients: u32,
    runs_max: u32,
    fails: &mut dyn FnMut(&Only) -> bool,
) -> Only {
    let mut search = Search { best: Only::default(), left: runs_max, fails };
    let lives = u32::try_from(plans.len()).unwrap_or(0);
    for life in (0..lives).rev() {
        search.attempt(|only| only.without_lives.push(life));
    }
    for client in 0..clients {
        search.attempt(|only| only.without_clients.push(client));
    }
    for (life, plan) in (0u32..).zip(plans) {
        if search.best.without_lives.contains(&life) {
            continue;
        }
        for place in 0..u32::try_from(plan.troubles.len()).unwrap_or(0) {
            search.attempt(|only| only.without_troubles.push((life, place)));
        }
        let eventful = !plan.recovery_ends.is_empty() || plan.clock.is_some();
        if eventful || plan.lowered.is_some() || plan.damage {
            search.attempt(|only| only.calm.push(life));
        }
        search.fewer_events(life, plan.work_events);
    }
    search.best
}

struct Search<'a> {
    best: Only,
    left: u32,
    fails: &'a mut dyn FnMut(&Only) -> bool,
}

impl Search<'_> {
    /// Keeps a change if the run fails all the same.
    fn attempt(&mut self, change: impl FnOnce(&mut Only)) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut next = self.best.clone();
        change(&mut next);
        let kept = (self.fails)(&next);
        if kept {
            self.best = next;
        }
        kept
    }

    /// Halves the events of a life for as long as it fails, then takes smaller steps.
    fn fewer_events(&mut self, life: u32, events: u64) {
        let (mut low, mut high) = (0, events);
        while low + 1 < high {
            let middle = (low + high) / 2;
            let kept = self.attempt(|only| {
                only.events.retain(|(of, _)| *of != life);
                only.events.push((life, middle));
            });
            if kept {
                high = middle;
            } else {
                low = middle;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MS;

    #[test]
    fn a_part_is_read_as_it_is_printed() {
        let text = "-life 1 -life 4 -trouble 2.0 calm 3 events 2.120 -client 0";
        let only = Only::parse(text).unwrap();
        assert_eq!(only.to_string(), text);
        assert!(!only.has_client(0) && only.has_client(1));
        assert!(Only::parse("-life").is_err());
        assert!(Only::parse("-live 1").is_err());
        assert!(Only::parse("events 1").is_err());
    }

    #[test]
    fn the_search_finds_what_matters() {
        let plans: Vec<LifePlan> = (0..6).map(|_| LifePlan::plain(MS)).collect();
        let of = plans.clone();
        let only = shrink(&plans, 4, 250, &mut |only| {
            let lives = only.of(of.clone());
            let big = lives.iter().any(|(life, plan)| *life == 3 && plan.work_events >= 100);
            big && only.has_client(2)
        });
        let left = only.of(plans);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0, left[0].1.work_events), (3, 100));
        assert_eq!((0..4).filter(|client| only.has_client(*client)).collect::<Vec<_>>(), [2]);
    }
}
