//! Sending: allowed shots side by side with servers that answer them, denied ones in rounds in which no two move the
//! same counter.

use super::ProbeOptions;
use super::capture::{Log, Place, Taps, mac_of};
use super::choose::{Chooser, Shot};
use super::counters::{self, Drops};
use super::inject::{Injection, Maybe};
use super::stations::Station;
use super::traffic::{self, Servers};
use super::wire::{self, Fields, Key, Role};
use crate::lab::build::{add_address, default_via, host};
use crate::lab::error::LabError;
use crate::lab::tool::{self, IpBatch};
use crate::lab::topology::{ExternalPlace, LinkPlace, Topology};
use compiler::Compiled;
use compiler::algebra::{format_addr, parse_addr};
use compiler::eval::Reason;
use compiler::ids::NodeId;
use compiler::packet::proto;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Connections at a time.
const ABREAST: usize = 12;
/// Preference of the rules that choose a cable per flow, and the first of the tables they name.
const RULE: &str = "1000";
const FIRST_TABLE: usize = 1000;
/// How often an injected frame is sent. What a kernel sends of its own accord, such as multicast listener reports, moves
/// some of the same counters, but not so often in so short a time.
const COPIES: u64 = 5;
/// How often the log is asked.
const GLANCE: Duration = Duration::from_millis(10);

/// How a shot is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Tcp,
    Udp,
    /// A frame of our own making; `answered`: by the other side's kernel.
    Raw {
        answered: bool,
    },
}

/// The method for a shot: a real socket where there is one for it.
pub(crate) fn method(shot: &Shot) -> Method {
    let p = &shot.packet;
    match p.protocol {
        proto::TCP if p.x > 0 && p.y > 0 => Method::Tcp,
        proto::UDP if p.x > 0 && p.y > 0 => Method::Udp,
        proto::ICMP => Method::Raw { answered: (p.x, p.y) == (8, 0) },
        proto::ICMP6 => Method::Raw { answered: (p.x, p.y) == (128, 0) },
        _ => Method::Raw { answered: false },
    }
}

/// Denied packets of which no two are to move one counter: by node and reason, with their numbers.
type Round<'s> = BTreeMap<(NodeId, &'static str), (u32, Item<'s>)>;

/// How much a drop counter has to move for a shot, or for an injected frame.
pub(crate) fn enough(injected: bool) -> u64 {
    if injected { COPIES } else { 1 }
}

/// A lab made ready for shooting.
pub(crate) struct Range<'a> {
    pub(crate) c: &'a Compiled,
    pub(crate) topology: &'a Topology,
    pub(crate) taps: &'a Taps,
    pub(crate) run: u32,
    pub(crate) options: ProbeOptions,
    pub(crate) log: Log,
}

/// Whether an answer came, for each allowed shot.
pub(crate) type Answers = BTreeMap<u32, bool>;
/// What the node concerned counted, for each denied shot and injection.
pub(crate) type Counted = BTreeMap<u32, Drops>;

/// A packet that is to be dropped.
enum Item<'s> {
    Shot(&'s Shot),
    Injection(&'s Injection),
}

impl Range<'_> {
    fn netns(&self, station: Station) -> Option<&str> {
        match station {
            Station::Endpoint(n) => self.topology.endpoints.get(n).map(|p| p.netns.as_str()),
            Station::External(n) => self.topology.externals.get(n).map(|p| p.netns.as_str()),
        }
    }

    /// The external's cable to the instance of what it sends of this shot, or the first one where it has none.
    fn cable(&self, external: usize, shot: &Shot) -> Option<(usize, &LinkPlace)> {
        let links = &self.topology.externals.get(external)?.links;
        let asks = shot.from == Station::External(external);
        let instance = if asks { shot.instance } else { shot.back };
        let right = links.iter().enumerate().find(|(_, l)| Some(l.node) == instance);
        right.or_else(|| links.iter().enumerate().next())
    }

    /// The node that a shot enters the fabric by.
    pub(crate) fn entry(&self, shot: &Shot) -> Option<NodeId> {
        match shot.from {
            Station::Endpoint(n) => self.topology.endpoints.get(n).map(|p| p.node),
            Station::External(n) => self.cable(n, shot).map(|(_, l)| l.node),
        }
    }

    /// The source under which an external sees an allowed shot.
    pub(crate) fn shown_to_external(&self, shot: &Shot) -> Option<IpAddr> {
        let (from, to) = (shot.decision.from?, shot.decision.to?);
        let real = format_addr(shot.packet.family, from.address);
        let gateway = &self.c.model.gateways[shot.decision.via?];
        let position = gateway.instances.iter().position(|n| Some(*n) == shot.instance)?;
        let masquerade =
            gateway.masquerades.iter().find(|m| m.tenant == from.owner && m.external == to.owner);
        let alias = masquerade.and_then(|m| {
            m.addresses.iter().filter(|a| a.is_ipv4() == real.is_ipv4()).nth(position).copied()
        });
        Some(alias.unwrap_or(real))
    }

    /// Gives externals the addresses that the shots need, and routes what they send by the cable of its instance.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub(crate) fn prepare(&self, shots: &[Shot]) -> Result<(), LabError> {
        self.tidy()?;
        // (external) → addresses, and (own address, other address, cable).
        let mut addresses: BTreeMap<usize, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut flows: BTreeMap<usize, BTreeSet<(IpAddr, IpAddr, usize)>> = BTreeMap::new();
        for shot in shots {
            let address = |value| format_addr(shot.packet.family, value);
            let near = match shot.from {
                Station::External(n) => Some((n, address(shot.packet.src), Some(address(shot.packet.dst)))),
                Station::Endpoint(_) => None,
            };
            let far = match (shot.to, shot.decision.to) {
                (Some(Station::External(n)), Some(to)) => {
                    Some((n, address(to.address), self.shown_to_external(shot)))
                }
                _ => None,
            };
            for (external, own, other) in near.into_iter().chain(far) {
                addresses.entry(external).or_default().insert(own);
                if let (Some(other), Some((link, _))) = (other, self.cable(external, shot)) {
                    flows.entry(external).or_default().insert((own, other, link));
                }
            }
        }
        for (number, place) in self.topology.externals.iter().enumerate() {
            let mut batch = IpBatch::inside(&place.netns);
            for address in addresses.get(&number).into_iter().flatten() {
                add_address(&mut batch, &host(*address), "lo");
            }
            for (link, cable) in place.links.iter().enumerate() {
                let table = (FIRST_TABLE + link).to_string();
                for via in [cable.local, cable.local6] {
                    let way = default_via(via, &cable.peer);
                    batch.push(&way.iter().map(String::as_str).chain(["table", &table]).collect::<Vec<_>>());
                }
            }
            batch.run()?;
            for v6 in [false, true] {
                let mut rules = IpBatch::inside(&place.netns).family(v6);
                let flows = flows.get(&number).into_iter().flatten().filter(|(own, ..)| own.is_ipv6() == v6);
                for (own, other, link) in flows {
                    let (own, other, table) = (host(*own), host(*other), (FIRST_TABLE + link).to_string());
                    rules.push(&["rule", "add", "pref", RULE, "from", &own, "to", &other, "lookup", &table]);
                }
                rules.run()?;
            }
        }
        Ok(())
    }

    /// Takes the rules of [`Self::prepare`] away again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn tidy(&self) -> Result<(), LabError> {
        self.topology.externals.iter().try_for_each(|ExternalPlace { netns, .. }| {
            [false, true].into_iter().try_for_each(|v6| {
                let family = if v6 { "-6" } else { "-4" };
                let rules = tool::run("ip", &["-n", netns, family, "rule", "show", "pref", RULE])?;
                let mut batch = IpBatch::inside(netns).family(v6);
                for _ in rules.lines() {
                    batch.push(&["rule", "delete", "pref", RULE]);
                }
                batch.run()
            })
        })
    }

    /// Servers for every allowed connection.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(crate) fn servers(&self, shots: &[Shot]) -> Result<Servers, LabError> {
        let mut servers = Servers::default();
        for shot in shots.iter().filter(|s| s.decision.allow) {
            let stream = match method(shot) {
                Method::Tcp => true,
                Method::Udp => false,
                Method::Raw { .. } => continue,
            };
            if let (Some(netns), Some(to)) = (shot.to.and_then(|to| self.netns(to)), shot.decision.to) {
                let at = SocketAddr::new(format_addr(shot.packet.family, to.address), shot.packet.y);
                servers.add(netns, stream, at)?;
            }
        }
        Ok(servers)
    }

    /// Sends everything.
    ///
    /// # Errors
    /// The machine refuses a socket or a counter.
    pub(crate) fn fire(
        &self,
        shots: &[Shot],
        injections: &[Maybe],
        chooser: &Chooser<'_>,
    ) -> Result<(Answers, Counted), LabError> {
        let numbered: Vec<(u32, &Shot)> = (0u32..).zip(shots).collect();
        let allowed: Vec<_> = numbered.iter().filter(|(_, s)| s.decision.allow && s.to.is_some()).collect();
        let mut answers = Answers::new();
        for group in allowed.chunks(ABREAST) {
            answers.extend(abreast(group, |(number, shot)| {
                self.shoot(*number, shot, self.options.patience).map(|answer| (*number, answer))
            })?);
        }
        let first = u32::try_from(shots.len()).unwrap_or(u32::MAX);
        let denied = numbered.iter().filter(|(_, s)| !s.decision.allow).filter_map(|(number, shot)| {
            Some((*number, (self.entry(shot)?, reason(chooser, shot)), Item::Shot(shot)))
        });
        let injected = (first..).zip(injections).filter_map(|(number, injection)| {
            let injection = injection.as_ref().ok()?;
            Some((number, (injection.node, injection.reason), Item::Injection(injection)))
        });
        // Rounds in which each (node, reason) is expected once at most.
        let mut rounds: Vec<Round<'_>> = Vec::new();
        for (number, key, item) in denied.chain(injected) {
            match rounds.iter_mut().find(|r| !r.contains_key(&key)) {
                Some(round) => {
                    round.insert(key, (number, item));
                }
                None => rounds.push(BTreeMap::from([(key, (number, item))])),
            }
        }
        let mut counted = Counted::new();
        for round in &rounds {
            counted.extend(self.round(round)?);
        }
        Ok((answers, counted))
    }

    fn round(&self, round: &Round<'_>) -> Result<Counted, LabError> {
        let nodes: BTreeSet<NodeId> = round.keys().map(|(node, _)| *node).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let read = || -> Result<BTreeMap<NodeId, Drops>, LabError> {
            let all = abreast(&nodes, |node| {
                let place = self.topology.node(*node).ok_or(LabError::Worker)?;
                Ok((*node, counters::read(&place.netns)?))
            })?;
            Ok(all.into_iter().collect())
        };
        let before = read()?;
        let items: Vec<&(u32, Item<'_>)> = round.values().collect();
        abreast(&items, |(number, item)| match item {
            Item::Shot(shot) => self.shoot(*number, shot, self.options.silence).map(drop),
            Item::Injection(injection) => {
                for _ in 0..COPIES {
                    self.send(injection.from, &injection.frame)?;
                }
                std::thread::sleep(self.options.silence);
                Ok(())
            }
        })?;
        let none = Drops::new();
        let until = Instant::now() + self.options.patience;
        // A busy machine may count late; one that never counts costs the patience.
        loop {
            let after = read()?;
            let moved = |node: &NodeId| {
                counters::since(before.get(node).unwrap_or(&none), after.get(node).unwrap_or(&none))
            };
            let all = round.iter().all(|((node, reason), (_, item))| {
                let counted = moved(node).get(*reason).copied().unwrap_or(0);
                counted >= enough(matches!(item, Item::Injection(_)))
            });
            if all || Instant::now() >= until {
                return Ok(round.iter().map(|((node, _), (number, _))| (*number, moved(node))).collect());
            }
            std::thread::sleep(self.options.silence);
        }
    }

    fn send(&self, from: Place, frame: &[u8]) -> Result<(), LabError> {
        let Some(tap) = self.taps.at(from) else { return Ok(()) };
        tap.send(frame).map_err(LabError::io("cannot send a frame"))
    }

    /// Sends one shot and says whether it was answered or, where nothing answers, whether it arrived.
    fn shoot(&self, number: u32, shot: &Shot, patience: Duration) -> Result<bool, LabError> {
        let Some(netns) = self.netns(shot.from) else { return Ok(false) };
        let p = &shot.packet;
        let address = |value| format_addr(p.family, value);
        let fields =
            Fields { src: address(p.src), dst: address(p.dst), protocol: p.protocol, x: p.x, y: p.y };
        let ends = || (SocketAddr::new(fields.src, p.x), SocketAddr::new(fields.dst, p.y));
        let mark = wire::mark(self.run, number, false);
        match method(shot) {
            Method::Tcp => traffic::tcp(netns, ends(), &mark, patience),
            Method::Udp => traffic::udp(netns, ends(), &mark, patience, shot.decision.allow),
            Method::Raw { answered } => self.raw(number, shot, &fields, answered, patience),
        }
    }

    fn raw(
        &self,
        number: u32,
        shot: &Shot,
        fields: &Fields,
        answered: bool,
        patience: Duration,
    ) -> Result<bool, LabError> {
        let (place, node, dev) = match shot.from {
            Station::Endpoint(n) => {
                let Some(place) = self.topology.endpoints.get(n) else { return Ok(false) };
                (Place::Endpoint(n), place.node, place.dev.as_str())
            }
            Station::External(external) => {
                let Some((link, cable)) = self.cable(external, shot) else { return Ok(false) };
                (Place::Link { external, link }, cable.node, cable.dev.as_str())
            }
        };
        let (Some(node), Some(tap)) = (self.topology.node(node), self.taps.at(place)) else {
            return Ok(false);
        };
        let gate = mac_of(&node.netns, dev)?;
        let mark = wire::mark(self.run, number, false);
        let Some(frame) = wire::frame(tap.mac(), gate, fields, &mark) else { return Ok(false) };
        self.send(place, &frame)?;
        let until = Instant::now() + patience;
        let done = || {
            self.log.any(|e| {
                let back = e.place == place && e.seen.role == Role::Reply;
                let there = Some(station_of(e.place)) == shot.to.map(Some) && e.seen.role == Role::Request;
                e.seen.key == Key::Shot(number) && !e.outgoing && if answered { back } else { there }
            })
        };
        while Instant::now() < until {
            if done() {
                return Ok(true);
            }
            std::thread::sleep(GLANCE);
        }
        Ok(done())
    }
}

/// The station at a place; `None`: an underlay.
pub(crate) fn station_of(place: Place) -> Option<Station> {
    match place {
        Place::Endpoint(n) => Some(Station::Endpoint(n)),
        Place::Link { external, .. } => Some(Station::External(external)),
        Place::Underlay(_) => None,
    }
}

/// The drop reason that is to count a denied shot.
pub(crate) fn reason(chooser: &Chooser<'_>, shot: &Shot) -> &'static str {
    match shot.decision.reason {
        Reason::NoRoute if chooser.to_host(&shot.packet) => "to-host",
        other => other.as_str(),
    }
}

/// The same for many, each on a thread of its own; results in the order of the items, the first error wins.
fn abreast<I: Sync, T: Send>(
    items: &[I],
    f: impl Fn(&I) -> Result<T, LabError> + Sync,
) -> Result<Vec<T>, LabError> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = items.iter().map(|item| scope.spawn(|| f(item))).collect();
        workers.into_iter().map(|w| w.join().unwrap_or(Err(LabError::Worker))).collect()
    })
}

/// Family-independent equality of an address and a value.
pub(crate) fn same(ip: IpAddr, value: u128) -> bool {
    parse_addr(ip).1 == value
}
