//! Small random projects that a stateless switch can run.

use std::fmt::Write as _;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len() as u64) as usize]
    }
}

const SERVICES: [&str; 10] = [
    "tcp/443",
    "tcp/80..90",
    "udp/53",
    "icmp/echo-request",
    "ip",
    "tcp",
    "udp/1000..2000 from 53",
    "sctp/7",
    "proto/47",
    "tcp/443 | icmp6/echo-request",
];

/// Two or three tenants with equal addresses, two nodes with endpoints, one or two gateway nodes.
pub fn project(seed: u64) -> String {
    let mut d = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        d.roll(2);
    }
    let mut out = String::from(
        "fabric f { encap vxlan port 4789 underlay mtu 9000 family ipv4 precedence top > tenant > base delegate tenant \
         unknown-vni drop stateless-replies \"a test\" }\n\
         node c1 { vtep 192.0.2.11 dev eth0 }\nnode c2 { vtep 192.0.2.12 dev eth0 }\n\
         node g1 { vtep 192.0.2.21 dev eth0 gateway }\nnode g2 { vtep 192.0.2.22 dev eth0 gateway }\n",
    );
    let tenants = 2 + d.roll(2);
    let names: Vec<String> = (0..tenants).map(|t| format!("t{t}")).collect();
    let instances = if d.roll(2) == 0 { "g1" } else { "g1, g2" };
    let _ = writeln!(out, "gateway g {{ joins {} instances {instances} stateless }}", names.join(", "));
    for (t, name) in names.iter().enumerate() {
        let _ = writeln!(out, "tenant {name} id {} {{", 10 + t);
        let _ = writeln!(out, "  segment s vni {} {{ 10.0.0.0/24, fd00:{}::/64 }}", 100 + 2 * t, t + 1);
        let _ = writeln!(out, "  segment u vni {} {{ 10.0.1.0/25 }}", 101 + 2 * t);
        for other in 0..names.len() {
            if other != t && d.roll(3) != 0 {
                let set = d.pick(&["s", "s & 10.0.0.0/28", "u", "s | u"]);
                let service = d.pick(&SERVICES);
                let parts = set.split(" | ").count();
                let (seen, six) = match set {
                    "s" => (format!("100.64.{}.0/24", t), true),
                    "u" => (format!("100.64.{}.0/25", 64 + t), false),
                    "s | u" => (format!("100.64.{}.0/24, 100.66.{t}.0/25", 128 + t), true),
                    _ => (format!("100.64.{}.0/28", 192 + t), false),
                };
                debug_assert!(parts > 0);
                let six = if six { format!(", fd00:64{t}::/64") } else { String::new() };
                let _ = writeln!(
                    out,
                    "  expose {set} : {service} to t{other} via g as {seen}{six} clients as 100.{}.0.0/24, 100.{}.1.0/25, fd00:{}::/64",
                    70 + other,
                    70 + other,
                    700 + other,
                );
            }
        }
        out.push_str("}\n");
    }
    for (t, name) in names.iter().enumerate() {
        for e in 0..2 + d.roll(3) {
            let node = 1 + d.roll(2);
            let (segment, at) = match d.roll(3) {
                0 => ("u", format!("10.0.1.{}", 5 + e)),
                1 => ("s", format!("10.0.0.{}", 5 + 9 * e)),
                _ => ("s", format!("10.0.0.{}, fd00:{}::{}", 5 + 9 * e, t + 1, 5 + e)),
            };
            let _ = writeln!(
                out,
                "endpoint e{t}-{e} in {name}.{segment} {{ at {at} mac 02:00:00:00:{t:02x}:{e:02x} on c{node} dev tap{t}x{e} }}"
            );
        }
        let _ = writeln!(out, "policy p{t} for {name} in tenant {{");
        for _ in 0..d.roll(5) {
            let verdict = d.pick(&["allow", "deny", "allow", "pass"]);
            let other = &names[d.roll(tenants) as usize];
            let set = |d: &mut Dice, of: &str| match d.roll(4) {
                0 => of.to_owned(),
                1 => format!("{of}.s"),
                2 => format!("{of}.u"),
                _ => format!("({of} & 10.0.0.0/28)"),
            };
            let (mine, theirs) = (set(&mut d, name), set(&mut d, other));
            let (from, to) = if d.roll(2) == 0 { (mine, theirs) } else { (theirs, mine) };
            let via = if verdict == "allow" && other == name && d.roll(4) == 0 { " via g" } else { "" };
            let _ = writeln!(out, "  {verdict} {from} -> {to} : {}{via}", d.pick(&SERVICES));
        }
        out.push_str("}\n");
    }
    let _ = writeln!(out, "policy base in base {{ allow same-tenant : {} }}", d.pick(&SERVICES));
    if d.roll(2) == 0 {
        let _ = writeln!(
            out,
            "policy top in top {{ deny any -> any : {} }}",
            d.pick(&["tcp/85", "udp/53", "proto/47"])
        );
    }
    out
}
