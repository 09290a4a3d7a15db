//! From a node's tables to the entries of its maps.

use super::live::Rankings;
use super::schema::{Bytes, EndKind, Map, family_bit};
use super::services;
use crate::iproute2::{Device, Target};
use crate::linux::model::{Atom, Direction, Drop, Ruleset, Table};
use crate::linux::{Model, numbers};
use compiler::Compiled;
use compiler::algebra::{AddrSet, Family, Prefix, parse_addr};
use compiler::buckets::CELLS;
use compiler::ids::NodeId;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The device number of the VXLAN device.
pub const FABRIC: u32 = 0;
/// The device number of the underlay's, where the program may put packets into VXLAN and take them out itself.
pub const UNDERLAY: u32 = 1;
/// The numbers of the map `connections`, in `backends/ebpf/maps.h`.
const CONNECTIONS: u32 = 1_048_576;

/// A device that a program is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub port: u32,
    pub name: String,
    pub workload: bool,
}

/// The entries of all maps of one generation.
#[derive(Debug, Clone, Default)]
pub struct Images {
    pub maps: BTreeMap<Map, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub devices: Vec<Attached>,
    /// Rule counters and logs by number: what each stands for.
    pub rules: BTreeMap<u32, String>,
    pub logs: BTreeMap<u32, String>,
    /// Who gets what a gateway's instances share, should some be dead.
    pub rankings: Rankings,
    /// Keys that would have two values.
    pub contradictions: Vec<String>,
}

impl Images {
    pub fn put(&mut self, map: Map, key: Bytes, value: Bytes) {
        let (_, key_size, value_size, _) = map.shape();
        debug_assert_eq!(u32::try_from(key.0.len()), Ok(key_size), "{map:?}");
        debug_assert_eq!(u32::try_from(value.0.len()), Ok(value_size), "{map:?}");
        let entries = self.maps.entry(map).or_default();
        match entries.get(&key.0) {
            Some(old) if *old != value.0 => {
                self.contradictions.push(format!("{} {:02x?}: two values", map.name(), key.0));
            }
            Some(_) => {}
            None => {
                entries.insert(key.0, value.0);
            }
        }
    }

    /// The same where a later entry is as good as the first.
    fn put_first(&mut self, map: Map, key: Bytes, value: Bytes) {
        self.maps.entry(map).or_default().entry(key.0).or_insert(value.0);
    }

    fn range(&mut self, kind: EndKind, family: Family, number: u32, (lo, hi): (u128, u128), value: u32) {
        for prefix in AddrSet::range(family, lo, hi).prefixes() {
            let key = Bytes::new().u32(64 + u32::from(prefix.len())).end(kind, family, number, prefix.lo());
            self.put(Map::Ranges, key, Bytes::new().u32(value));
        }
    }

    fn end(&mut self, kind: EndKind, family: Family, number: u32, address: u128, value: u32) {
        self.put(Map::Ends, Bytes::new().end(kind, family, number, address), Bytes::new().u32(value));
    }

    /// A stretch of addresses: by hash where it is one, else by prefixes.
    fn stretch(&mut self, kind: EndKind, family: Family, number: u32, (lo, hi): (u128, u128), value: u32) {
        if lo == hi {
            self.end(kind, family, number, lo, value);
        } else {
            self.range(kind, family, number, (lo, hi), value);
        }
    }

    /// A number for what a name stands for: the same in every generation, but where two of many names have one digest.
    fn named(&mut self, log: bool, text: &str) -> u32 {
        let kind: &[u8] = if log { b"log" } else { b"rule" };
        let known = if log { &mut self.logs } else { &mut self.rules };
        let digest = |again: u32| match again {
            0 => numbers::digest32(&[kind, text.as_bytes()]),
            _ => numbers::digest32(&[kind, text.as_bytes(), &again.to_le_bytes()]),
        };
        let free = |number: &u32| *number != 0 && known.get(number).is_none_or(|first| first == text);
        let number = (0..).map(digest).find(free).unwrap_or_default();
        known.entry(number).or_insert_with(|| text.to_owned());
        number
    }
}

/// Encoding one node.
struct Encoder<'a> {
    c: &'a Compiled,
    node: NodeId,
    model: &'a Model,
    /// Devices, and VNIs by the names of the devices that they have with nft, by number.
    ports: BTreeMap<String, u32>,
    senders: BTreeMap<(IpAddr, u32), u32>,
    images: Images,
}

/// All maps of a node that do not depend on the machine.
#[must_use]
pub fn encode(c: &Compiled, node: NodeId, model: &Model) -> Images {
    let mut e = Encoder {
        c,
        node,
        model,
        ports: BTreeMap::new(),
        senders: BTreeMap::new(),
        images: Images::default(),
    };
    e.settings();
    e.ports();
    e.owners();
    e.ends();
    e.contexts();
    services::encode(&model.rules, &mut e.images);
    e.verdicts();
    e.routes();
    e.translations();
    e.buckets();
    e.images
}

/// The rows of tables: key and value.
fn rows(rules: &Ruleset, table: Table) -> impl Iterator<Item = (&[Atom], Option<&Atom>)> {
    rules.tables.get(&table).into_iter().flatten().map(|(key, entry)| (key.as_slice(), entry.value.as_ref()))
}

/// A number in either register.
fn number(atom: Option<&Atom>) -> u32 {
    match atom {
        Some(Atom::Mark(n) | Atom::Class(n)) => *n,
        Some(Atom::Zone(zone)) => u32::from(*zone),
        _ => 0,
    }
}

impl Encoder<'_> {
    fn settings(&mut self) {
        let model = self.model;
        let (family, vtep) = parse_addr(model.vtep);
        let openers = [Table::Opener, Table::Opener4, Table::Opener6]
            .into_iter()
            .flat_map(|t| rows(&model.rules, t))
            .map(|(_, value)| number(value))
            .collect::<std::collections::BTreeSet<u32>>();
        let share = CONNECTIONS / u32::try_from(openers.len()).unwrap_or(u32::MAX).max(1);
        let value = Bytes::new()
            .raw(&numbers::router_mac(model.vtep))
            .u8(u8::from(model.gateway))
            .u8(u8::from(model.log_unknown_vni))
            .u32(share.min(numbers::CONNECTIONS))
            .u32(family_bit(family))
            .u32(u32::from(model.port))
            .addr(family, vtep);
        self.images.put(Map::Settings, Bytes::new().u32(0), value);
    }

    fn ports(&mut self) {
        let model = self.model;
        let mut names: BTreeMap<&str, (u8, u32, u32)> = BTreeMap::new();
        let mut mtus: BTreeMap<&str, u32> = BTreeMap::new();
        for device in &model.devices {
            match &device.what {
                Device::Workload { name, .. } => names.insert(name, (1, 0, 0)),
                Device::Vxlan { name, vni, .. } => names.insert(name, (2, *vni, 0)),
                Device::Outside { name } => names.insert(name, (3, 0, 0)),
                Device::Fabric { name, mtu } => {
                    mtus.insert(name, *mtu);
                    None
                }
                _ => None,
            };
        }
        for port in [FABRIC, UNDERLAY] {
            self.images.put(Map::Ports, Bytes::new().u32(port), Bytes::new().raw(&[0; 24]));
        }
        for (port, (name, (kind, vni, _))) in (UNDERLAY + 1..).zip(names) {
            self.ports.insert(name.to_owned(), port);
            let of = |table| number(model.rules.get(table, &[Atom::Device(name.to_owned())]));
            let value = Bytes::new()
                .u8(kind)
                .raw(&[0; 3])
                .u32(of(Table::Zone))
                .u32(of(Table::Space))
                .u32(of(Table::Opener))
                .u32(vni)
                .u32(mtus.get(name).copied().unwrap_or_default());
            self.images.put(Map::Ports, Bytes::new().u32(port), value);
            if kind == 2 {
                // SOUNDNESS: a VNI that is only sent to is none that is served.
                if model.rules.tables.get(&Table::Vnis).is_some_and(|t| t.contains_key(&vec![Atom::Vni(vni)]))
                {
                    self.images.put(Map::Vnis, Bytes::new().u32(vni), Bytes::new().u32(port));
                }
            } else {
                self.images.devices.push(Attached { port, name: name.to_owned(), workload: kind == 1 });
            }
        }
    }

    fn port(&self, atom: &Atom) -> Option<u32> {
        match atom {
            Atom::Device(name) => self.ports.get(name).copied(),
            _ => None,
        }
    }

    fn owners(&mut self) {
        let model = self.model;
        for table in [Table::Owner4, Table::Owner6, Table::Bare4, Table::Bare6] {
            for (key, _) in rows(&model.rules, table) {
                let (dev, mac, family, address) = match key {
                    [dev, Atom::Mac(mac), Atom::Address(family, at, _)] => (dev, Some(*mac), *family, *at),
                    [dev, Atom::Address(family, at, _)] => (dev, None, *family, *at),
                    _ => continue,
                };
                let Some(port) = self.port(dev) else { continue };
                let router = match family {
                    Family::V4 => Table::Router4,
                    Family::V6 => Table::Router6,
                };
                let at = Atom::Address(family, address, address);
                let router = match model.rules.get(router, &[dev.clone(), at]) {
                    Some(Atom::Address(_, router, _)) => *router,
                    _ => 0,
                };
                let value = Bytes::new()
                    .raw(&mac.unwrap_or_default())
                    .u8(u8::from(mac.is_none()))
                    .u8(0)
                    .addr(family, router);
                self.images.put(Map::Owners, Bytes::new().end(EndKind::Owner, family, port, address), value);
            }
        }
        // Whose link-local addresses are a device's: by MAC, or any where none is declared.
        for (key, _) in [Table::OwnerMac, Table::OwnerBare].into_iter().flat_map(|t| rows(&model.rules, t)) {
            let (dev, mac) = match key {
                [dev, Atom::Mac(mac)] => (dev, *mac),
                [dev] => (dev, [0; 6]),
                _ => continue,
            };
            let Some(port) = self.port(dev) else { continue };
            let mut address = [0; 16];
            address.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
            self.images.end(EndKind::Here, Family::V6, port, u128::from_be_bytes(address), 1);
        }
        self.answers();
    }

    /// What a workload may ask for by ARP and neighbour solicitations.
    fn answers(&mut self) {
        let c = self.c;
        for e in c.model.endpoints.values().filter(|e| e.node == self.node) {
            let Some(&port) = self.ports.get(&e.dev) else { continue };
            for p in &c.model.segments[e.segment].prefixes {
                let (family, lo, hi) = match p.prefix.family {
                    Family::V4 => (Family::V4, p.prefix.lo(), p.prefix.hi()),
                    Family::V6 => (Family::V6, p.router, p.router),
                };
                self.images.range(EndKind::Answer, family, port, (lo, hi), 1);
            }
            // Hosts of other segments are behind the router.
            let others = c.model.endpoints.values().filter(|o| o.segment == e.segment);
            let known = others.flat_map(|o| o.addresses.iter().copied()).filter(IpAddr::is_ipv6);
            let routers =
                [Ipv4Addr::new(169, 254, 1, 1).into(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into()];
            for (family, at) in known.chain(routers).map(parse_addr) {
                self.images.range(EndKind::Answer, family, port, (at, at), 1);
            }
        }
    }

    fn ends(&mut self) {
        let model = self.model;
        for table in [Table::Legit4, Table::Legit6, Table::LegitRange4, Table::LegitRange6] {
            for (key, value) in rows(&model.rules, table) {
                let [Atom::Vtep(vtep), Atom::Vni(vni), Atom::Raw(family, lo, hi)] = key else { continue };
                let next = numbers::small(self.senders.len() + 1);
                let group = *self.senders.entry((*vtep, *vni)).or_insert(next);
                let (f, at) = parse_addr(*vtep);
                let sender = Bytes::new().addr(f, at).u32(*vni);
                self.images.put(Map::Senders, sender, Bytes::new().u32(group));
                self.images.stretch(EndKind::Legitimate, *family, group, (*lo, *hi), number(value));
            }
        }
        let classes = [
            (EndKind::Source, [Table::Src4, Table::Src6, Table::SrcRange4, Table::SrcRange6]),
            (EndKind::Destination, [Table::Dst4, Table::Dst6, Table::DstRange4, Table::DstRange6]),
        ];
        for (kind, tables) in classes {
            for (key, value) in tables.into_iter().flat_map(|t| rows(&model.rules, t)) {
                if let [Atom::Mark(context), Atom::Address(family, lo, hi)] = key {
                    self.images.stretch(kind, *family, *context, (*lo, *hi), number(value));
                }
            }
        }
        let spaces = [
            (EndKind::Zone, [Table::Zone4, Table::Zone6]),
            (EndKind::Stateless, [Table::Stateless4, Table::Stateless6]),
        ];
        for (kind, tables) in spaces {
            for (key, value) in tables.into_iter().flat_map(|t| rows(&model.rules, t)) {
                if let [Atom::Class(space), Atom::Address(family, lo, hi)] = key {
                    self.images.range(kind, *family, *space, (*lo, *hi), number(value));
                }
            }
        }
        for (key, value) in [Table::Opener4, Table::Opener6].into_iter().flat_map(|t| rows(&model.rules, t)) {
            if let [Atom::Mark(own), Atom::Address(family, lo, hi)] = key {
                self.images.range(EndKind::Opener, *family, *own, (*lo, *hi), number(value));
            }
        }
        let devices = [
            (EndKind::Outside, [Table::Outside4, Table::Outside6]),
            (EndKind::Here, [Table::Here4, Table::Here6]),
        ];
        for (kind, tables) in devices {
            for (key, _) in tables.into_iter().flat_map(|t| rows(&model.rules, t)) {
                let [dev, Atom::Address(family, lo, hi)] = key else { continue };
                let Some(port) = self.port(dev) else { continue };
                if kind == EndKind::Outside {
                    self.images.range(kind, *family, port, (*lo, *hi), 1);
                } else {
                    self.images.end(kind, *family, port, *lo, 1);
                }
            }
        }
        for (key, _) in [Table::Underlay4, Table::Underlay6].into_iter().flat_map(|t| rows(&model.rules, t)) {
            if let [Atom::Address(family, at, _)] = key {
                self.images.end(EndKind::Underlay, *family, 0, *at, 1);
            }
        }
    }

    fn contexts(&mut self) {
        let model = self.model;
        for (key, value) in rows(&model.rules, Table::Context) {
            let [dev, Atom::Mark(role), Atom::Zone(zone), Atom::Direction(direction)] = key else { continue };
            let Some(port) = self.port(dev) else { continue };
            let key = Bytes::new()
                .u32(port)
                .u32(*role)
                .u32(u32::from(*zone))
                .u32(u32::from(*direction == Direction::Reply));
            self.images.put(Map::Contexts, key, Bytes::new().u32(number(value)));
        }
        for (key, value) in rows(&model.rules, Table::Pair) {
            if let [Atom::Mark(to), Atom::Class(from)] = key {
                let key = Bytes::new().u32(*to).u32(*from);
                self.images.put(Map::Pairs, key, Bytes::new().u32(number(value)));
            }
        }
    }

    fn verdicts(&mut self) {
        let model = self.model;
        let rules = &model.rules;
        self.images.put(Map::Verdicts, Bytes::new().u32(0), Bytes::new().raw(&[0; 32]));
        for (key, action) in rows(rules, Table::Action) {
            let [Atom::Class(verdict)] = key else { continue };
            let of = |table| number(rules.get(table, key));
            let rows = [Table::Gateway, Table::GatewayFlow, Table::GatewaySource].map(of);
            // `enum flow`
            let picks = (0..).zip(rows).find(|(_, row)| *row != 0);
            let (code, reason, gateway) = match action {
                Some(Atom::Permanent(chain)) => (1, reason(chain), 0),
                Some(Atom::Chain(chain)) if chain == "go" || chain == "pass" => (2, 0, 0),
                Some(Atom::Chain(_)) if picks.is_some() => {
                    (3, 0, picks.map_or(0, |(_, row)| row & !numbers::KIND))
                }
                Some(Atom::Chain(_)) => {
                    if let Some(note) = note(rules, Table::Only, key) {
                        self.images.rankings.only(verdict & !numbers::KIND, note);
                    }
                    (4, 0, alive(of(Table::Only)))
                }
                _ => continue,
            };
            let way = |direction| {
                number(rules.get(Table::Route, &[Atom::Class(*verdict), Atom::Direction(direction)]))
            };
            // Without a connection there is one direction. Who is told something is found without a mark.
            let onward = of(Table::Onward) & !numbers::ANSWERABLE;
            let counter = |images: &mut Images, table| match rules.get(table, key) {
                Some(Atom::Counter(name)) => images.named(false, name),
                _ => 0,
            };
            let counters =
                [counter(&mut self.images, Table::EgressRule), counter(&mut self.images, Table::IngressRule)];
            let logged = match rules.get(Table::Log, key) {
                Some(Atom::Call(name)) => {
                    let prefix =
                        rules.logs.iter().find(|log| log.name == *name).map(|log| log.prefix.clone());
                    self.images.named(true, &prefix.unwrap_or_default())
                }
                _ => 0,
            };
            let value = Bytes::new()
                .u8(code)
                .u8(reason)
                .u8(u8::from(logged != 0))
                .u8(picks.map_or(0, |(flow, _)| flow))
                .u32(way(Direction::Original) | onward)
                .u32(way(Direction::Reply))
                .u32(of(Table::Xlat))
                .u32(gateway)
                .u32(counters[0])
                .u32(counters[1])
                .u32(logged);
            self.images.put(Map::Verdicts, Bytes::new().u32(verdict & !numbers::KIND), value);
        }
    }

    fn routes(&mut self) {
        let model = self.model;
        let mut macs: BTreeMap<(&str, IpAddr), [u8; 6]> = BTreeMap::new();
        let mut vxlans: BTreeMap<&str, (u32, u16)> = BTreeMap::new();
        for device in &model.devices {
            match &device.what {
                Device::Neighbour { dev, address, mac } => {
                    macs.insert((dev, *address), *mac);
                }
                Device::Vxlan { name, vni, .. } => vxlans.entry(name).or_default().0 = *vni,
                Device::Fabric { name, mtu } => {
                    vxlans.entry(name).or_default().1 = u16::try_from(*mtu).unwrap_or(u16::MAX);
                }
                _ => {}
            }
        }
        let vteps: BTreeMap<(&str, [u8; 6]), IpAddr> =
            model.fdb.iter().map(|f| ((f.what.dev.as_str(), f.what.mac), f.what.vtep)).collect();
        for (&way, routes) in &model.tables {
            let tenant = way & 0x7000_0000 == 0x5000_0000;
            for route in routes.iter().map(|r| &r.what) {
                let Some((family, address, length)) = parse_prefix(&route.prefix) else { continue };
                let host = length == Prefix::host(family, address).len();
                if host != tenant || (!tenant && length != 0) {
                    continue;
                }
                let key = Bytes::new().u32(way | family_bit(family)).addr(family, address);
                let value = match &route.target {
                    Target::Unreachable => continue,
                    Target::Dev(dev) => {
                        let Some(&port) = self.ports.get(dev) else { continue };
                        let mac =
                            parse_ip(&route.prefix).and_then(|ip| macs.get(&(dev.as_str(), ip)).copied());
                        self.hop(1, family, self.mtu_of(dev), port, 0, mac.unwrap_or_default(), address)
                    }
                    Target::Via { hop, dev } if vxlans.contains_key(dev.as_str()) => {
                        let (vni, mtu) = vxlans.get(dev.as_str()).copied().unwrap_or_default();
                        let Some(mac) = macs.get(&(dev.as_str(), *hop)).copied() else { continue };
                        let Some(vtep) = vteps.get(&(dev.as_str(), mac)) else { continue };
                        let (vtep_family, vtep) = parse_addr(*vtep);
                        self.hop(3, vtep_family, mtu, FABRIC, vni, mac, vtep)
                    }
                    Target::Via { hop, dev } => {
                        let Some(&port) = self.ports.get(dev) else { continue };
                        let (hop_family, hop) = parse_addr(*hop);
                        self.hop(4, hop_family, 0, port, 0, [0; 6], hop)
                    }
                };
                self.images.put_first(Map::Routes, key, value);
            }
        }
        for (key, value) in rows(&model.rules, Table::Leg) {
            if let [dev, Atom::Mark(instance)] = key
                && let Some(port) = self.port(dev)
            {
                let key = Bytes::new().u32(port).u32(*instance);
                self.images.put(Map::Legs, key, Bytes::new().u32(number(value)));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of `struct route`, in order")]
    fn hop(&self, kind: u8, family: Family, mtu: u16, port: u32, vni: u32, mac: [u8; 6], to: u128) -> Bytes {
        let v6 = u8::from(family == Family::V6);
        Bytes::new().u8(kind).u8(v6).u16(mtu).u32(port).u32(vni).raw(&mac).u16(0).addr(family, to)
    }

    /// The MTU of the segment of a workload's device.
    fn mtu_of(&self, dev: &str) -> u16 {
        let mut here = self.c.model.endpoints.values().filter(|e| e.node == self.node && e.dev == dev);
        let mtu = here.next().map_or(0, |e| self.c.model.segments[e.segment].mtu);
        u16::try_from(mtu).unwrap_or(u16::MAX)
    }

    fn translations(&mut self) {
        let model = self.model;
        // Prefixes by the bits in which they differ: both have one length, and hosts keep theirs.
        let nets = [Table::SnatNet4, Table::SnatNet6].into_iter().flat_map(|t| rows(&model.rules, t));
        for ((key, value), number) in nets.zip(1..) {
            if let ([Atom::Mark(xlat), Atom::Address(f, lo, hi)], Some(Atom::Address(_, to, _))) =
                (key, value)
            {
                self.images.range(EndKind::Snat, *f, *xlat, (*lo, *hi), number);
                let key = Bytes::new().end(EndKind::SnatNet, *f, number, 0);
                self.images.put(Map::Translations, key, Bytes::new().addr(*f, lo ^ to));
            }
        }
        let mut put = |kind: EndKind, family: Family, xlat: u32, at: u128, value: u128| {
            // Whether something is left as it is holds for both families.
            let key = Bytes::new().end(kind, family, xlat, at);
            self.images.put(Map::Translations, key, Bytes::new().addr(family, value));
        };
        let pairs = [
            (EndKind::Dnat, [Table::Dnat4, Table::Dnat6]),
            (EndKind::Snat, [Table::Snat4, Table::Snat6]),
            (EndKind::Masquerade, [Table::Masq4, Table::Masq6]),
            (EndKind::KeepDestination, [Table::KeepDst, Table::KeepDst]),
            (EndKind::KeepSource, [Table::KeepSrc, Table::KeepSrc]),
            (EndKind::Real, [Table::Real4, Table::Real6]),
        ];
        for (kind, tables) in pairs {
            for (key, value) in tables.into_iter().flat_map(|t| rows(&model.rules, t)) {
                match (key, value) {
                    ([Atom::Mark(xlat), Atom::Address(f, at, _)], Some(Atom::Address(_, to, _))) => {
                        put(kind, *f, *xlat, *at, *to);
                    }
                    ([Atom::Zone(zone), Atom::Address(f, at, _)], Some(Atom::Address(_, to, _))) => {
                        put(kind, *f, u32::from(*zone), *at, *to);
                    }
                    ([Atom::Mark(xlat)], Some(Atom::Address(f, to, _))) => put(kind, *f, *xlat, 0, *to),
                    ([Atom::Mark(xlat)], None) => put(kind, Family::V4, *xlat, 0, 0),
                    _ => {}
                }
            }
        }
    }

    /// Cells of presented addresses, and which instance a pair of cells goes to.
    fn buckets(&mut self) {
        let model = self.model;
        for (key, value) in [Table::Hash4, Table::Hash6].into_iter().flat_map(|t| rows(&model.rules, t)) {
            if let [Atom::Zone(zone), Atom::Address(family, at, _)] = key {
                self.images.end(EndKind::Cell, *family, u32::from(*zone), *at, number(value));
            }
        }
        for (key, value) in rows(&model.rules, Table::Row) {
            let [Atom::Mark(gateway), Atom::Class(there)] = key else { continue };
            let Some(row) = value else { continue };
            for here in 0..CELLS {
                let instance = model.rules.get(Table::Cell, &[row.clone(), Atom::Class(here + 1)]);
                let index =
                    (gateway & !numbers::KIND) * CELLS * CELLS + there.saturating_sub(1) * CELLS + here;
                let live = alive(number(instance));
                if let Some(note) = note(&model.rules, Table::Cell, &[row.clone(), Atom::Class(here + 1)]) {
                    self.images.rankings.cell(index, note);
                }
                self.images.put(Map::Buckets, Bytes::new().u32(index), Bytes::new().u32(live));
            }
        }
    }
}

/// What the comment of an entry says.
fn note<'a>(rules: &'a Ruleset, table: Table, key: &[Atom]) -> Option<&'a str> {
    Some(rules.tables.get(&table)?.get(key)?.note.as_str())
}

/// An instance, or 0 for none.
fn alive(instance: u32) -> u32 {
    if instance == numbers::NOBODY { 0 } else { instance }
}

/// The number of the reason whose chain this is.
fn reason(chain: &str) -> u8 {
    [
        (Drop::BadVtep, 2),
        (Drop::UnknownSource, 4),
        (Drop::NoRoute, 5),
        (Drop::NotExposed, 6),
        (Drop::Default, 7),
        (Drop::Rule, 8),
    ]
    .into_iter()
    .find(|(drop, _)| drop.chain() == chain)
    .map_or(9, |(_, number)| number)
}

fn parse_ip(prefix: &str) -> Option<IpAddr> {
    prefix.split_once('/')?.0.parse().ok()
}

fn parse_prefix(prefix: &str) -> Option<(Family, u128, u8)> {
    let (family, address) = parse_addr(parse_ip(prefix)?);
    Some((family, address, prefix.split_once('/')?.1.parse().ok()?))
}
