//! Rule lists as projects of one tenant, `segment all vni 1 { 0.0.0.0/0 }`: filter sets of ClassBench, lists made in their manner, and
//! lists that are hard on purpose. The same numbers give the same bytes.

use std::fmt::Write as _;
use std::path::PathBuf;

/// A project that is one list.
pub fn project(rules: &[String]) -> String {
    let mut out = String::from(
        "fabric bench {\n  encap vxlan port 4789\n  underlay mtu 9000 family ipv6\n  precedence tenant\n  delegate tenant\n  \
         unknown-vni drop\n}\nnode c1 { vtep 2001:db8::11 dev eth0 }\ntenant all id 1 { segment net vni 1 { 0.0.0.0/0 } }\n\
         policy list for all in tenant {\n",
    );
    for rule in rules {
        let _ = writeln!(out, "  {rule}");
    }
    out.push_str("}\n");
    out
}

/// Where the filter sets lie: `PARTYWALL_CLASSBENCH`, or beside the repository.
pub fn folder() -> PathBuf {
    std::env::var_os("PARTYWALL_CLASSBENCH").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/classbench"),
        PathBuf::from,
    )
}

/// The rules of a filter set: `@src dst sport_lo : sport_hi dport_lo : dport_hi proto/mask flags/mask` a line; flags are left out.
pub fn classbench(set: &str) -> Vec<String> {
    let filters = set.lines().filter(|line| !line.trim().is_empty());
    filters
        .map(|line| {
            let fields: Vec<&str> = line.trim_start_matches('@').split_whitespace().collect();
            let [src, dst, s_lo, ":", s_hi, d_lo, ":", d_hi, protocol, ..] = fields.as_slice() else {
                panic!("no filter: {line}");
            };
            let (number, mask) = protocol.split_once('/').expect("protocol and mask");
            let hex =
                |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal");
            let ports = |keyword: &str, lo: &str, hi: &str| match (lo, hi) {
                ("0", "65535") => String::new(),
                _ if lo == hi => format!("{keyword}{lo}"),
                _ => format!("{keyword}{lo}..{hi}"),
            };
            let service = match (hex(mask), hex(number)) {
                (0, _) => "ip".to_owned(),
                (_, number @ (6 | 17)) => {
                    let name = if number == 6 { "tcp" } else { "udp" };
                    format!("{name}{}{}", ports("/", d_lo, d_hi), ports(" from ", s_lo, s_hi))
                }
                (_, 1) => "icmp".to_owned(),
                (_, number) => format!("proto/{number}"),
            };
            format!("allow {src} -> {dst} : {service}")
        })
        .collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A list in ClassBench's manner; of 100 rules `wild` have one wide end: about 5 for "acl", 60 for "fw". A rule with a wide end
/// names its ports, as firewalls' rules do, so that no rule takes everything.
pub fn generated(count: usize, wild: u64, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    (0..count)
        .map(|_| {
            let prefix = |dice: &mut Dice, length: u64| {
                let site = (10 << 24) + (dice.below(4096) << 12) + dice.below(4096);
                let bits = if length == 0 { 0 } else { site >> (32 - length) << (32 - length) };
                format!("{}/{length}", address(bits))
            };
            let wide = dice.below(100) < wild;
            let length = if wide { [0, 0, 0, 8, 12][dice.below(5) as usize] } else { 20 + dice.below(13) };
            let other = 24 + dice.below(9);
            let mut ends = [prefix(&mut dice, length), prefix(&mut dice, other)];
            if dice.below(4) == 0 {
                ends.reverse();
            }
            let port = [22, 53, 80, 123, 443, 1024, 5432, 8080][dice.below(8) as usize];
            let service = match dice.below(10) {
                0 if !wide => "ip".to_owned(),
                1 if !wide => "tcp/1024..65535".to_owned(),
                2 => format!("udp/{port}"),
                3 => format!("tcp/{}..{}", port + dice.below(4) * 1000, port + 4000 + dice.below(4) * 1000),
                4 => "icmp/8".to_owned(),
                5 => format!("tcp/{port} from 1024..65535"),
                _ => format!("tcp/{}", port + dice.below(200)),
            };
            let action = ["allow", "deny"][dice.below(2) as usize];
            format!("{action} {} -> {} : {service}", ends[0], ends[1])
        })
        .collect()
}

fn address(bits: u64) -> String {
    format!("{}.{}.{}.{}", bits >> 24, bits >> 16 & 255, bits >> 8 & 255, bits & 255)
}

/// The `i`th of `n` equal parts of 10.0.0.0/8.
fn part(i: u64, n: u64) -> String {
    let at = |i: u64| address((10 << 24) + (i << 24) / n);
    let last = address((10 << 24) + ((i + 1) << 24) / n - 1);
    format!("{}..{last}", at(i))
}

/// Every second stripe of the sources, every second one of the destinations, and last a rule over all: what is left of it is `n`² / 4
/// fields. With `whole` the sources' other stripes come too, and nothing is left.
pub fn stripes(n: u64, whole: bool) -> Vec<String> {
    let mut out = Vec::new();
    for i in (0..n).step_by(2) {
        out.push(format!("deny {} -> 10.0.0.0/8 : tcp", part(i, n)));
        out.push(format!("deny 10.0.0.0/8 -> {} : tcp", part(i, n)));
    }
    if whole {
        out.extend((1..n).step_by(2).map(|i| format!("deny {} -> 10.0.0.0/8 : tcp", part(i, n))));
    }
    out.push("allow 10.0.0.0/8 -> 10.0.0.0/8 : tcp".to_owned());
    out
}

/// The white fields of a board, then the black ones but `holes` of them, then a rule over all.
pub fn checkerboard(n: u64, holes: usize) -> Vec<String> {
    let field = |(x, y): (u64, u64)| format!("deny {} -> {} : tcp", part(x, n), part(y, n));
    let all: Vec<(u64, u64)> = (0..n).flat_map(|x| (0..n).map(move |y| (x, y))).collect();
    let (white, black): (Vec<_>, Vec<_>) = all.into_iter().partition(|(x, y)| (x + y) % 2 == 0);
    let mut out: Vec<String> = white.into_iter().map(field).collect();
    out.extend(black.into_iter().skip(holes).map(field));
    out.push("allow 10.0.0.0/8 -> 10.0.0.0/8 : tcp".to_owned());
    out
}

/// A board in four dimensions: sources, destinations, source and destination ports, `n` parts each; then a rule over all.
pub fn hyperboard(n: u64) -> Vec<String> {
    let ports = |i: u64| format!("{}..{}", i * 65536 / n, (i + 1) * 65536 / n - 1);
    let mut out: Vec<(u64, String)> = (0..n * n * n * n)
        .map(|cell| {
            let [a, b, c, d] = [cell % n, cell / n % n, cell / n / n % n, cell / n / n / n];
            let rule = format!("deny {} -> {} : tcp/{} from {}", part(a, n), part(b, n), ports(c), ports(d));
            ((a + b + c + d) % 2, rule)
        })
        .collect();
    out.sort();
    let mut out: Vec<String> = out.into_iter().map(|(_, rule)| rule).collect();
    out.push("allow 10.0.0.0/8 -> 10.0.0.0/8 : tcp".to_owned());
    out
}
