//! What a node's ruleset says, as values: the maps that the fixed program consults. Text is made of it in `print`, and
//! `walk` decides packets with it.

use compiler::algebra::{Family, format_addr};
use compiler::eval::Reason;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One field of a key, or a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// A packet mark.
    Mark(u32),
    /// The other scratch register, `meta priority`; nft writes it as `hi:lo`.
    Class(u32),
    /// A device's name.
    Device(String),
    /// Addresses `lo..=hi` of a header.
    Address(Family, u128, u128),
    /// The same, of an inner header that is read as raw payload.
    Raw(Family, u128, u128),
    /// A VTEP's address.
    Vtep(IpAddr),
    Mac([u8; 6]),
    Vni(u32),
    /// IANA protocol numbers, inclusive.
    Proto(u8, u8),
    /// Ports, or type and code of an ICMP query as `type << 8 | code`; inclusive.
    Port(u16, u16),
    Direction(Direction),
    Zone(u16),
    /// A named counter.
    Counter(String),
    /// A chain of this generation, to go to or to come back from.
    Chain(String),
    Call(String),
    /// A permanent chain.
    Permanent(&'static str),
}

/// The direction of a packet within its connection, as conntrack tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Original,
    Reply,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Original, Self::Reply];
}

/// A value and the comment that says where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `None` in a set.
    pub value: Option<Atom>,
    /// `shop-app.checkout policy.pw:12`; empty: the key says it.
    pub note: String,
}

/// The sets and maps of the program. The order is that of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// VNIs that arrive here.
    Vnis,
    /// (VTEP, VNI, inner source) → arrival role; exact, and by ranges for what lies outside the fabric.
    Legit4,
    Legit6,
    LegitRange4,
    LegitRange6,
    /// Compute: device → conntrack zone.
    Zone,
    /// Gateway: device → space, (space, destination as seen) → zone of the two owners.
    Space,
    Zone4,
    Zone6,
    /// Gateway: (space, destination as seen) of what goes through without state → context of what answers.
    Stateless4,
    Stateless6,
    /// Gateway: (device, source) that is the external's behind it.
    Outside4,
    Outside6,
    /// (device, MAC, source) that is an endpoint's; `Bare*` without a declared MAC.
    Owner4,
    Owner6,
    Bare4,
    Bare6,
    /// (device, MAC) for neighbour discovery by link-local addresses.
    OwnerMac,
    /// The same of devices whose endpoints have no declared MAC.
    OwnerBare,
    /// Compute: (VXLAN device, destination) that lives here.
    Here4,
    Here6,
    /// Underlay addresses.
    Underlay4,
    Underlay6,
    /// (device, role, zone, direction) → the context in which the original tuple is read.
    Context,
    /// (context, original source) → class.
    Src4,
    Src6,
    SrcRange4,
    SrcRange6,
    /// (context, original destination) → class.
    Dst4,
    Dst6,
    DstRange4,
    DstRange6,
    /// (destination class, source class) → pair class.
    Pair,
    /// (pair class, protocol, original ports) → verdict.
    Verdict,
    /// (pair class, protocol) → verdict, for protocols without ports.
    Protocol,
    /// Pair class → verdict for the rest: never one that allows.
    Rest,
    /// Verdict → counter of the rule that decided in the source's view, in the destination's.
    EgressRule,
    IngressRule,
    /// Verdict → chain that logs.
    Log,
    /// Verdict → what happens.
    Action,
    /// (verdict, direction) → routing mark.
    Route,
    /// Verdict → gateway, for those that go via one; (gateway, cell of the destination) → row; (row, cell of the source)
    /// → instance. With one instance `Only` gives it at once.
    Only,
    Gateway,
    /// The same of gateways with `affinity flow`, whose cells are of ends with their ports.
    GatewayFlow,
    /// The same of gateways with `affinity source`: the row and the instance are both by the source.
    GatewaySource,
    Row,
    Cell,
    /// (zone, presented destination) → cell of the real address.
    Hash4,
    Hash6,
    /// (zone, presented destination) → real address.
    Real4,
    Real6,
    /// (device of the source, instance) → routing mark.
    Leg,
    /// (Device of a workload, its address) → the address of its segment's router.
    Router4,
    Router6,
    /// (VXLAN device, role of a gateway node) → routing mark that leads back there.
    Back,
    /// Device → whose connections come in by it; (that, source) → who it is instead, of what a gateway delivers.
    Opener,
    Opener4,
    Opener6,
    /// Gateway: verdict → routing mark, of what goes through without state.
    Onward,
    /// Gateway: verdict → translation, and the pairs of both that an established connection must show.
    Xlat,
    XlatHeld,
    /// Gateway: translations that leave the destination, the source as it is.
    KeepDst,
    KeepSrc,
    /// Gateway: (translation, address) → address.
    Dnat4,
    Dnat6,
    Snat4,
    Snat6,
    /// Gateway: (translation, external's addresses) → as many others, 1:1.
    SnatNet4,
    SnatNet6,
    /// Gateway: translation → masquerade address.
    Masq4,
    Masq6,
    /// Gateway: (translation, direction) whose packets' senders are told nothing: no table leads both ways.
    Unanswered,
    /// Gateway: (device, zone) of either of the two owners.
    Door,
    /// Device → routing mark of the space behind it; on a node with endpoints, of their devices.
    Home,
    /// Tables of the nft target's program alone, made of those above: (device, MAC, source) → context and, without a MAC, (device,
    /// source) → context; (VXLAN device, destination, role) → context; both with the pair, (device, MAC, source, destination, direction) and (source,
    /// destination, role, direction) → pair class; (pair class, protocol, destination port) → verdict; (pair class, protocol, source port) →
    /// number, and (number, destination port) → verdict; of a verdict that only forwards, (pair class, protocol, destination port) → its rule's
    /// counter; pair class → routing mark of those; verdict → routing mark, the same in both directions; (role, which there has the
    /// VNI's number) → conntrack zone.
    From4,
    From6,
    FromBare4,
    FromBare6,
    Land4,
    Land6,
    Out4,
    Out6,
    In4,
    In6,
    Exact,
    FromPort,
    ToPort,
    Carry,
    Lead,
    Way,
    Arrived,
    /// ARP: (device, MAC, sender) that may ask; (device, own address); device → mark for the lookup.
    ArpOwner,
    ArpBare,
    ArpSelf,
    ArpMark,
}

/// What an accepted or refused packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    BadVtep,
    UnknownSource,
    NoRoute,
    NotExposed,
    Default,
    Rule,
}

impl Drop {
    /// The permanent chain that counts and drops.
    #[must_use]
    pub fn chain(self) -> &'static str {
        match self {
            Self::BadVtep => "bad_vtep",
            Self::UnknownSource => "unknown_source",
            Self::NoRoute => "no_route",
            Self::NotExposed => "not_exposed",
            Self::Default => "by_default",
            Self::Rule => "by_rule",
        }
    }
}

impl From<Reason> for Drop {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::UnknownSource => Self::UnknownSource,
            Reason::NoRoute => Self::NoRoute,
            Reason::NotExposed => Self::NotExposed,
            Reason::Rule => Self::Rule,
            Reason::Default => Self::Default,
        }
    }
}

/// A rule that logs: its chain and what it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChain {
    pub name: String,
    /// At most 127 bytes (NF_LOG_PREFIXLEN).
    pub prefix: String,
    pub note: String,
}

/// Everything that the nft files of one node say.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    pub tables: BTreeMap<Table, BTreeMap<Vec<Atom>, Entry>>,
    /// Rule counters by name, with the rule's stable name and place.
    pub counters: BTreeMap<String, String>,
    pub logs: Vec<LogChain>,
    /// Keys that were given two values: the tables cannot say what the policy says.
    pub contradictions: Vec<String>,
}

impl Ruleset {
    /// Adds an entry; the first note stays where a key comes twice with one value.
    pub fn put(&mut self, table: Table, key: Vec<Atom>, value: Option<Atom>, note: impl Into<String>) {
        let entries = self.tables.entry(table).or_default();
        if let Some(old) = entries.get(&key) {
            if old.value != value {
                self.contradictions.push(format!("{table:?} {key:?}: {:?} and {value:?}", old.value));
            }
            return;
        }
        entries.insert(key, Entry { value, note: note.into() });
    }

    /// The value of an exact key.
    #[must_use]
    pub fn get(&self, table: Table, key: &[Atom]) -> Option<&Atom> {
        self.tables.get(&table)?.get(key)?.value.as_ref()
    }

    /// Whether a table has entries; rules that consult an empty one are left out.
    #[must_use]
    pub fn has(&self, table: Table) -> bool {
        self.tables.get(&table).is_some_and(|entries| !entries.is_empty())
    }
}

/// The text of an address.
#[must_use]
pub fn address_text(family: Family, value: u128) -> String {
    format_addr(family, value).to_string()
}
