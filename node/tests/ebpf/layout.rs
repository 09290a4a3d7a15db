//! Where the object's structures have their members, as the object says itself.

use backends::ebpf::OBJECT;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::btf::{Btf, HasSize as _};

fn of<T>(structure: &str, tell: impl FnOnce(&Struct<'_>) -> T) -> T {
    let btf = Btf::from_raw("partywall", OBJECT).unwrap().unwrap();
    let found: Struct<'_> = btf.type_by_name(structure).unwrap_or_else(|| panic!("struct {structure}"));
    tell(&found)
}

/// The offset of a member, in bytes.
pub fn at(structure: &str, member: &str) -> usize {
    let bits = of(structure, |s| {
        s.iter().find(|m| m.name.is_some_and(|name| name == member)).map(|m| match m.attr {
            MemberAttr::Normal { offset } | MemberAttr::BitField { offset, .. } => offset,
        })
    });
    usize::try_from(bits.unwrap_or_else(|| panic!("{structure}.{member}")) / 8).unwrap()
}

/// Bytes.
pub fn size(structure: &str) -> usize {
    of(structure, |s| s.size())
}
