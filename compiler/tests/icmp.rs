//! Names of ICMP types and codes.

use lang::keywords::Kw;
use partywall_compiler::icmp::{code_names, code_number, type_names, type_number, types_with_codes};

fn names(v6: bool) -> Vec<&'static str> {
    type_names(v6).chain(types_with_codes(v6).flat_map(move |kind| code_names(v6, kind))).collect()
}

#[test]
fn every_name_can_be_written() {
    for name in names(false).into_iter().chain(names(true)) {
        let identifier = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.split('-').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            });
        assert!(identifier, "{name}");
        assert!(Kw::parse(name).is_none(), "{name} is reserved");
    }
}

#[test]
fn a_name_is_one_number_of_its_list() {
    for v6 in [false, true] {
        let distinct = |list: Vec<&str>| {
            let count = list.len();
            let mut list = list;
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), count);
        };
        distinct(type_names(v6).collect());
        for kind in types_with_codes(v6) {
            distinct(code_names(v6, kind).collect());
        }
    }
}

#[test]
fn the_numbers_are_ianas() {
    assert_eq!(type_number(false, "echo-request"), Some(8));
    assert_eq!(type_number(false, "echo-reply"), Some(0));
    assert_eq!(type_number(true, "echo-request"), Some(128));
    assert_eq!(type_number(true, "packet-too-big"), Some(2));
    assert_eq!(type_number(false, "packet-too-big"), None);
    assert_eq!(code_number(false, 3, "fragmentation-needed"), Some(4));
    assert_eq!(code_number(false, 3, "port-unreachable"), Some(3));
    assert_eq!(code_number(true, 1, "port-unreachable"), Some(4));
    assert_eq!(code_number(false, 8, "port-unreachable"), None);
}
