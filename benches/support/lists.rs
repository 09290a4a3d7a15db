//! Rule lists made in the manner of ClassBench's filter sets, and lists that are hard on purpose. The same numbers give the same bytes.

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
