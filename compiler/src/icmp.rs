//! Names of ICMP and ICMPv6 types and codes: the IANA registries' wording in lower case with hyphens, and the short
//! forms that packet filters have made common.
//!
//! Sources: IANA "Internet Control Message Protocol (ICMP) Parameters" (RFC 792 and successors) and "Internet Control
//! Message Protocol version 6 (ICMPv6) Parameters" (RFC 4443 and successors).

/// Number and name; several names may have one number, the first is the registry's.
type Names = &'static [(u8, &'static str)];

/// The names of one type's codes.
type Codes = &'static [(u8, Names)];

const TYPES_V4: Names = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (6, "alternate-host-address"),
    (8, "echo"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "information-request"),
    (16, "information-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
    (30, "traceroute"),
    (31, "datagram-conversion-error"),
    (32, "mobile-host-redirect"),
    (33, "ipv6-where-are-you"),
    (34, "ipv6-i-am-here"),
    (35, "mobile-registration-request"),
    (36, "mobile-registration-reply"),
    (37, "domain-name-request"),
    (38, "domain-name-reply"),
    (39, "skip"),
    (40, "photuris"),
    (41, "seamoby"),
    (42, "extended-echo-request"),
    (43, "extended-echo-reply"),
    (253, "experiment-1"),
    (254, "experiment-2"),
];

const TYPES_V6: Names = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (100, "private-experimentation-100"),
    (101, "private-experimentation-101"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "multicast-listener-query"),
    (131, "multicast-listener-report"),
    (132, "multicast-listener-done"),
    (133, "router-solicitation"),
    (134, "router-advertisement"),
    (135, "neighbor-solicitation"),
    (136, "neighbor-advertisement"),
    (137, "redirect-message"),
    (137, "redirect"),
    (138, "router-renumbering"),
    (139, "icmp-node-information-query"),
    (140, "icmp-node-information-response"),
    (141, "inverse-neighbor-discovery-solicitation-message"),
    (142, "inverse-neighbor-discovery-advertisement-message"),
    (143, "version-2-multicast-listener-report"),
    (144, "home-agent-address-discovery-request-message"),
    (145, "home-agent-address-discovery-reply-message"),
    (146, "mobile-prefix-solicitation"),
    (147, "mobile-prefix-advertisement"),
    (148, "certification-path-solicitation-message"),
    (149, "certification-path-advertisement-message"),
    (150, "seamoby"),
    (151, "multicast-router-advertisement"),
    (152, "multicast-router-solicitation"),
    (153, "multicast-router-termination"),
    (154, "fmipv6-messages"),
    (155, "rpl-control-message"),
    (156, "ilnpv6-locator-update-message"),
    (157, "duplicate-address-request"),
    (158, "duplicate-address-confirmation"),
    (159, "mpl-control-message"),
    (160, "extended-echo-request"),
    (161, "extended-echo-reply"),
    (200, "private-experimentation-200"),
    (201, "private-experimentation-201"),
];

const EXTENDED_ECHO_REPLY: Names = &[
    (0, "no-error"),
    (1, "malformed-query"),
    (2, "no-such-interface"),
    (3, "no-such-table-entry"),
    (4, "multiple-interfaces-satisfy-query"),
];

const CODES_V4: Codes = &[
    (
        3,
        &[
            (0, "net-unreachable"),
            (0, "network-unreachable"),
            (1, "host-unreachable"),
            (2, "protocol-unreachable"),
            (3, "port-unreachable"),
            (4, "fragmentation-needed-and-do-not-fragment-was-set"),
            (4, "fragmentation-needed"),
            (5, "source-route-failed"),
            (6, "destination-network-unknown"),
            (7, "destination-host-unknown"),
            (8, "source-host-isolated"),
            (9, "network-administratively-prohibited"),
            (9, "net-prohibited"),
            (10, "host-administratively-prohibited"),
            (10, "host-prohibited"),
            (11, "destination-network-unreachable-for-type-of-service"),
            (12, "destination-host-unreachable-for-type-of-service"),
            (13, "communication-administratively-prohibited"),
            (13, "admin-prohibited"),
            (14, "host-precedence-violation"),
            (15, "precedence-cutoff-in-effect"),
        ],
    ),
    (
        5,
        &[
            (0, "redirect-datagram-for-the-network"),
            (1, "redirect-datagram-for-the-host"),
            (2, "redirect-datagram-for-the-type-of-service-and-network"),
            (3, "redirect-datagram-for-the-type-of-service-and-host"),
        ],
    ),
    (6, &[(0, "alternate-address-for-host")]),
    (9, &[(0, "normal-router-advertisement"), (16, "does-not-route-common-traffic")]),
    (
        11,
        &[
            (0, "time-to-live-exceeded-in-transit"),
            (0, "ttl-exceeded"),
            (1, "fragment-reassembly-time-exceeded"),
        ],
    ),
    (12, &[(0, "pointer-indicates-the-error"), (1, "missing-a-required-option"), (2, "bad-length")]),
    (
        40,
        &[
            (0, "bad-spi"),
            (1, "authentication-failed"),
            (2, "decompression-failed"),
            (3, "decryption-failed"),
            (4, "need-authentication"),
            (5, "need-authorization"),
        ],
    ),
    (42, &[(0, "no-error")]),
    (43, EXTENDED_ECHO_REPLY),
];

const CODES_V6: Codes = &[
    (
        1,
        &[
            (0, "no-route-to-destination"),
            (0, "no-route"),
            (1, "communication-with-destination-administratively-prohibited"),
            (1, "admin-prohibited"),
            (2, "beyond-scope-of-source-address"),
            (3, "address-unreachable"),
            (4, "port-unreachable"),
            (5, "source-address-failed-ingress-egress-policy"),
            (6, "reject-route-to-destination"),
            (6, "reject-route"),
            (7, "error-in-source-routing-header"),
            (8, "headers-too-long"),
        ],
    ),
    (
        3,
        &[
            (0, "hop-limit-exceeded-in-transit"),
            (0, "hop-limit-exceeded"),
            (1, "fragment-reassembly-time-exceeded"),
        ],
    ),
    (
        4,
        &[
            (0, "erroneous-header-field-encountered"),
            (1, "unrecognized-next-header-type-encountered"),
            (2, "unrecognized-ipv6-option-encountered"),
            (3, "ipv6-first-fragment-has-incomplete-ipv6-header-chain"),
            (4, "sr-upper-layer-header-error"),
            (5, "unrecognized-next-header-type-by-intermediate-node"),
            (6, "extension-header-too-big"),
            (7, "extension-header-chain-too-long"),
            (8, "too-many-extension-headers"),
            (9, "too-many-options-in-extension-header"),
            (10, "option-too-big"),
        ],
    ),
    (
        138,
        &[
            (0, "router-renumbering-command"),
            (1, "router-renumbering-result"),
            (255, "sequence-number-reset"),
        ],
    ),
    (160, &[(0, "no-error")]),
    (161, EXTENDED_ECHO_REPLY),
];

fn types(v6: bool) -> Names {
    if v6 { TYPES_V6 } else { TYPES_V4 }
}

fn codes(v6: bool, kind: u8) -> Names {
    let all = if v6 { CODES_V6 } else { CODES_V4 };
    all.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, names)| names)
}

fn number(names: Names, name: &str) -> Option<u8> {
    names.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// The number of an ICMP (`v6`: ICMPv6) type with this name.
#[must_use]
pub fn type_number(v6: bool, name: &str) -> Option<u8> {
    number(types(v6), name)
}

/// The number of a code with this name under that type.
#[must_use]
pub fn code_number(v6: bool, kind: u8, name: &str) -> Option<u8> {
    number(codes(v6, kind), name)
}

/// Every type name, in the order of numbers.
pub fn type_names(v6: bool) -> impl Iterator<Item = &'static str> {
    types(v6).iter().map(|(_, name)| *name)
}

/// Every code name of a type, in the order of numbers; none if the type's codes have no names.
pub fn code_names(v6: bool, kind: u8) -> impl Iterator<Item = &'static str> {
    codes(v6, kind).iter().map(|(_, name)| *name)
}

/// The types that have named codes, ascending.
pub fn types_with_codes(v6: bool) -> impl Iterator<Item = u8> {
    let all = if v6 { CODES_V6 } else { CODES_V4 };
    all.iter().map(|(kind, _)| *kind)
}
