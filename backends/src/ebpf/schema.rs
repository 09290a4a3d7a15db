//! The maps of the program and the layout of what they hold, as `backends/ebpf/types.h` and `maps.h` declare them.

use compiler::algebra::Family;

/// Types of maps, by the kernel's numbers.
pub mod kind {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const LPM_TRIE: u32 = 11;
}

/// An inner array may have any length.
const INNER_MAP: u32 = 1 << 12;
/// Tries have no other way.
const NO_PREALLOC: u32 = 1;

/// A map that every generation has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Map {
    Settings,
    Ifindexes,
    Devices,
    Hosts,
    Ports,
    Vnis,
    Senders,
    Ends,
    Ranges,
    Owners,
    Contexts,
    Pairs,
    Services,
    ServiceRanges,
    SourceRanges,
    Verdicts,
    Routes,
    Translations,
    Buckets,
    Legs,
}

impl Map {
    pub const ALL: [Self; 20] = [
        Self::Settings,
        Self::Ifindexes,
        Self::Devices,
        Self::Hosts,
        Self::Ports,
        Self::Vnis,
        Self::Senders,
        Self::Ends,
        Self::Ranges,
        Self::Owners,
        Self::Contexts,
        Self::Pairs,
        Self::Services,
        Self::ServiceRanges,
        Self::SourceRanges,
        Self::Verdicts,
        Self::Routes,
        Self::Translations,
        Self::Buckets,
        Self::Legs,
    ];

    /// As in the object.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.layout().0
    }

    /// Type, key size, value size, flags.
    #[must_use]
    pub fn shape(self) -> (u32, u32, u32, u32) {
        let (_, kind, key, value) = self.layout();
        let flags = match kind {
            kind::ARRAY => INNER_MAP,
            kind::LPM_TRIE => NO_PREALLOC,
            _ => 0,
        };
        (kind, key, value, flags)
    }

    /// Whether only the machine that it is loaded on knows what it holds.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Ifindexes | Self::Devices | Self::Hosts)
    }

    fn layout(self) -> (&'static str, u32, u32, u32) {
        match self {
            Self::Settings => ("settings", kind::ARRAY, 4, 36),
            Self::Ifindexes => ("ifindexes", kind::HASH, 4, 4),
            Self::Devices => ("devices", kind::ARRAY, 4, 4),
            Self::Hosts => ("hosts", kind::HASH, 16, 4),
            Self::Ports => ("ports", kind::ARRAY, 4, 24),
            Self::Vnis => ("vnis", kind::HASH, 4, 4),
            Self::Senders => ("senders", kind::HASH, 20, 4),
            Self::Ends => ("ends", kind::HASH, 24, 4),
            Self::Ranges => ("ranges", kind::LPM_TRIE, 28, 4),
            Self::Owners => ("owners", kind::HASH, 24, 24),
            Self::Contexts => ("contexts", kind::HASH, 16, 4),
            Self::Pairs => ("pairs", kind::HASH, 8, 4),
            Self::Services => ("services", kind::HASH, 8, 4),
            Self::ServiceRanges => ("service_ranges", kind::LPM_TRIE, 12, 4),
            Self::SourceRanges => ("source_ranges", kind::LPM_TRIE, 12, 4),
            Self::Verdicts => ("verdicts", kind::ARRAY, 4, 32),
            Self::Routes => ("routes", kind::HASH, 20, 36),
            Self::Translations => ("translations", kind::HASH, 24, 16),
            Self::Buckets => ("buckets", kind::ARRAY, 4, 4),
            Self::Legs => ("legs", kind::HASH, 8, 4),
        }
    }
}

/// Kinds of `struct end_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EndKind {
    Source = 1,
    Destination = 2,
    Legitimate = 3,
    Zone = 4,
    Outside = 5,
    Opener = 6,
    Answer = 7,
    Owner = 8,
    Here = 10,
    Underlay = 11,
    Cell = 12,
    Dnat = 13,
    Snat = 14,
    Masquerade = 15,
    KeepDestination = 16,
    KeepSource = 17,
    Real = 18,
    SnatNet = 19,
    Stateless = 20,
}

/// Kinds of a pair's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServiceKind {
    Exact = 0,
    Any = 1,
    Other = 2,
    Rest = 3,
}

/// Values of `services` that are no verdicts.
pub const SPLIT: u32 = 0x0a00_0000;
pub const BY_SOURCE: u32 = 0x0b00_0000;

/// Rules that count on one page of the map `counts`.
pub const PER_PAGE: u32 = 64;

/// Reasons for a drop, as numbers of the map `reasons` and their counters' names.
pub const REASONS: [(u32, &str); 15] = [
    (1, "unknown-vni"),
    (2, "bad-vtep"),
    (3, "spoof"),
    (4, "unknown-source"),
    (5, "no-route"),
    (6, "not-exposed"),
    (7, "default"),
    (8, "rule"),
    (9, "invalid"),
    (10, "fragment"),
    (11, "ttl"),
    (12, "too-big"),
    (13, "ct-full"),
    (14, "to-host"),
    (15, "closed"),
];

/// Bytes of a key or a value, put together field by field.
#[derive(Debug, Clone, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Network order.
    #[must_use]
    pub fn be16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `struct addr`: network order; an IPv4 address is the first word.
    #[must_use]
    pub fn addr(mut self, family: Family, value: u128) -> Self {
        let bytes = value.to_be_bytes();
        match family {
            Family::V4 => {
                self.0.extend(bytes.get(12..).unwrap_or_default());
                self.0.extend([0; 12]);
            }
            Family::V6 => self.0.extend(bytes),
        }
        self
    }

    /// `struct end_key`
    #[must_use]
    pub fn end(self, kind: EndKind, family: Family, number: u32, address: u128) -> Self {
        self.u32((kind as u32) << 1 | family_bit(family)).u32(number).addr(family, address)
    }
}

/// A number as the maps hold it.
#[must_use]
pub fn bytes(number: u32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// How the program writes a family.
#[must_use]
pub fn family_bit(family: Family) -> u32 {
    u32::from(family == Family::V6)
}
