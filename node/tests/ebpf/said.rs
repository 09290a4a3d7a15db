//! What the program says of a packet: `TC_ACT_*`, and `enum outcome` and `enum reason` of `types.h` in the first word of `cb`.

pub const SHOT: u32 = 2;
pub const REDIRECT: u32 = 7;
pub const UNSPEC: u32 = u32::MAX;

pub const SENT_DEVICE: u32 = 0x100;
pub const SENT_TUNNEL: u32 = 0x101;
pub const SENT_NEXT_HOP: u32 = 0x102;
pub const ANSWERED: u32 = 0x103;
pub const LEFT_ALONE: u32 = 0x104;
pub const SENT_WIRE: u32 = 0x105;

/// Nobody's fault: dropped, and not counted.
pub const IGNORED: u32 = 0;
pub const UNKNOWN_VNI: u32 = 1;
pub const BAD_VTEP: u32 = 2;
pub const SPOOF: u32 = 3;
pub const UNKNOWN_SOURCE: u32 = 4;
pub const NO_ROUTE: u32 = 5;
pub const NOT_EXPOSED: u32 = 6;
pub const DEFAULT: u32 = 7;
pub const RULE: u32 = 8;
pub const INVALID: u32 = 9;
pub const FRAGMENT: u32 = 10;
pub const TTL: u32 = 11;
pub const TOO_BIG: u32 = 12;
pub const CT_FULL: u32 = 13;
pub const TO_HOST: u32 = 14;
