//! Connections as byte pipes: cut into chunks, delayed, closed at any byte; each keeps its order.
//! Owner: the node.
//! Invariant: bytes of one direction of one connection arrive in order or not at all.
//! Not here: when a chunk arrives (`node.rs`), what bytes mean.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// One direction.
#[derive(Clone, Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// A delivery is in the queue.
    moving: bool,
    /// Bytes of the next delivery, drawn when it was planned.
    next: usize,
    /// The sender closed: deliver what is here, then the end.
    ended: bool,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

#[derive(Clone, Debug)]
struct Link {
    client: usize,
    shard: u32,
    up: Pipe,
    down: Pipe,
}

/// What a due delivery brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other side closed.
    End,
    /// Nothing: the connection is gone.
    Gone,
}

/// How unkind the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Percent of deliveries cut into small chunks.
    pub chunk_percent: u64,
    /// Percent of deliveries that take long.
    pub slow_percent: u64,
}

/// All connections.
#[derive(Clone, Debug)]
pub struct Network {
    links: BTreeMap<u32, Link>,
    next: u32,
    weather: Weather,
}

impl Network {
    /// No connection yet.
    #[must_use]
    pub fn new(weather: Weather) -> Network {
        Network { links: BTreeMap::new(), next: 1, weather }
    }

    /// A client connects to a shard.
    pub fn connect(&mut self, client: usize, shard: u32) -> u32 {
        let connection = self.next;
        self.next += 1;
        let link = Link { client, shard, up: Pipe::default(), down: Pipe::default() };
        self.links.insert(connection, link);
        connection
    }

    /// Shard at the server's end.
    #[must_use]
    pub fn shard_of(&self, connection: u32) -> Option<u32> {
        self.links.get(&connection).map(|link| link.shard)
    }

    /// Client at the other end.
    #[must_use]
    pub fn client_of(&self, connection: u32) -> Option<usize> {
        self.links.get(&connection).map(|link| link.client)
    }

    /// Queues bytes; true when a delivery has to be planned.
    #[must_use]
    pub fn send(&mut self, connection: u32, way: Way, bytes: &[u8]) -> bool {
        let Some(pipe) = self.pipe(connection, way) else { return false };
        if pipe.ended {
            return false;
        }
        pipe.bytes.extend_from_slice(bytes);
        !pipe.moving && !pipe.bytes.is_empty()
    }

    /// The sender closes its direction after what is queued; true when a delivery has to be planned.
    #[must_use]
    pub fn end(&mut self, connection: u32, way: Way) -> bool {
        let Some(pipe) = self.pipe(connection, way) else { return false };
        pipe.ended = true;
        !pipe.moving
    }

    /// Loses bytes still on their way down from some byte on, then ends: a lost reply.
    pub fn tear(&mut self, connection: u32, rng: &mut Rng) {
        let Some(pipe) = self.pipe(connection, Way::Down) else { return };
        let keep = rng.index(pipe.bytes.len() + 1);
        pipe.bytes.truncate(keep);
        pipe.ended = true;
    }

    /// Plans the next delivery: after how many ns.
    pub fn plan(&mut self, connection: u32, way: Way, rng: &mut Rng) -> u64 {
        let weather = self.weather;
        let Some(pipe) = self.pipe(connection, way) else { return 1_000 };
        pipe.moving = true;
        let all = pipe.bytes.len();
        pipe.next = if rng.percent(weather.chunk_percent) {
            let bound = [4, 64, 600, 5000][rng.index(4)];
            all.min(1 + rng.index(bound))
        } else {
            all
        };
        if rng.percent(weather.slow_percent) {
            rng.within(100_000, 20_000_000)
        } else {
            rng.within(2_000, 60_000)
        }
    }

    /// A planned delivery is due. `bytes_max` is what the receiver can take now.
    pub fn deliver(&mut self, connection: u32, way: Way, bytes_max: usize) -> Delivery {
        let Some(pipe) = self.pipe(connection, way) else { return Delivery::Gone };
        pipe.moving = false;
        if pipe.bytes.is_empty() {
            return if pipe.ended { Delivery::End } else { Delivery::Gone };
        }
        let count = pipe.next.max(1).min(pipe.bytes.len()).min(bytes_max);
        if count == pipe.bytes.len() {
            return Delivery::Bytes(std::mem::take(&mut pipe.bytes));
        }
        Delivery::Bytes(pipe.bytes.drain(..count).collect())
    }

    /// Whether another delivery has to be planned.
    #[must_use]
    pub fn wants_more(&self, connection: u32, way: Way) -> bool {
        let Some(link) = self.links.get(&connection) else { return false };
        let pipe = match way {
            Way::Up => &link.up,
            Way::Down => &link.down,
        };
        !pipe.moving && (!pipe.bytes.is_empty() || pipe.ended)
    }

    /// Both ends have closed.
    pub fn remove(&mut self, connection: u32) {
        self.links.remove(&connection);
    }

    /// The server is gone: every connection with its client.
    pub fn drop_all(&mut self) -> Vec<(u32, usize)> {
        std::mem::take(&mut self.links).into_iter().map(|(id, link)| (id, link.client)).collect()
    }

    fn pipe(&mut self, connection: u32, way: Way) -> Option<&mut Pipe> {
        let link = self.links.get_mut(&connection)?;
        Some(match way {
            Way::Up => &mut link.up,
            Way::Down => &mut link.down,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_in_any_chunks() {
        let mut network = Network::new(Weather { chunk_percent: 90, slow_percent: 0 });
        let mut rng = Rng::new(5);
        let link = network.connect(0, 0);
        let sent: Vec<u8> = (0..2000u32).map(|n| (n % 251) as u8).collect();
        let mut got = Vec::new();
        assert!(network.send(link, Way::Up, &sent));
        assert!(!network.end(link, Way::Up) || got.is_empty());
        loop {
            network.plan(link, Way::Up, &mut rng);
            match network.deliver(link, Way::Up, 100) {
                Delivery::Bytes(bytes) => got.extend_from_slice(&bytes),
                Delivery::End | Delivery::Gone => break,
            }
        }
        assert_eq!(got, sent);
    }
}
