use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn fields(src: &str, dst: &str, protocol: u8, x: u16, y: u16) -> Fields {
    Fields { src: src.parse().unwrap(), dst: dst.parse().unwrap(), protocol, x, y }
}

fn samples() -> Vec<Fields> {
    let (v4, v6) = (("10.1.0.5", "10.1.1.9"), ("fd00::5", "fd00::9"));
    let mut out = vec![fields(v4.0, v4.1, proto::ICMP, 8, 0), fields(v6.0, v6.1, proto::ICMP6, 128, 0)];
    // Errors as probes: not taken for refusals of themselves.
    out.extend([fields(v4.0, v4.1, proto::ICMP, 3, 4), fields(v6.0, v6.1, proto::ICMP6, 2, 0)]);
    for (src, dst) in [v4, v6] {
        out.extend([proto::TCP, proto::UDP].map(|p| fields(src, dst, p, 40_000, 443)));
        out.push(fields(src, dst, 47, 0, 0));
    }
    out
}

#[test]
fn what_is_sent_is_recognised_plain_and_in_both_tunnels() {
    for (number, f) in (0u32..).zip(samples()) {
        let plain = frame(MAC, MAC, &f, &mark(7, number, false)).unwrap();
        let outer = Outer {
            from: MAC,
            to: MAC,
            src: "192.0.2.11".parse().unwrap(),
            dst: "192.0.2.12".parse().unwrap(),
            vni: 10_010,
        };
        let expected = Seen { key: Key::Shot(number), role: Role::Request, fields: f, tunnelled: false };
        assert_eq!(recognise(7, (EncapKind::Vxlan, 4789), &plain), Some(expected), "{f:?}");
        assert_eq!(recognise(8, (EncapKind::Vxlan, 4789), &plain), None, "another run's");
        for (encap, port) in [(EncapKind::Vxlan, 4789), (EncapKind::Geneve, 6081)] {
            let bytes = encapsulate(encap, port, &outer, &plain).unwrap();
            let seen = recognise(7, (encap, port), &bytes).unwrap();
            assert_eq!(seen, Seen { tunnelled: true, ..expected });
        }
    }
}

#[test]
fn replies_are_told_from_requests() {
    let f = fields("10.1.1.9", "10.1.0.5", proto::UDP, 53, 40_000);
    let reply = frame(MAC, MAC, &f, &mark(7, 3, true)).unwrap();
    assert_eq!(recognise(7, (EncapKind::Vxlan, 4789), &reply).unwrap().role, Role::Reply);
    let echo =
        frame(MAC, MAC, &Fields { protocol: proto::ICMP, x: 0, y: 0, ..f }, &mark(7, 3, false)).unwrap();
    assert_eq!(recognise(7, (EncapKind::Vxlan, 4789), &echo).unwrap().role, Role::Reply);
}

#[test]
fn an_error_that_quotes_a_probe_is_a_refusal() {
    let f = fields("10.1.0.5", "10.1.1.9", proto::UDP, 40_000, 53);
    let quoted = frame(MAC, MAC, &f, &mark(7, 3, false)).unwrap().split_off(14);
    let back = fields("10.1.1.9", "10.1.0.5", proto::ICMP, 3, 3);
    let error = frame(MAC, MAC, &back, &quoted).unwrap();
    assert_eq!(recognise(7, (EncapKind::Vxlan, 4789), &error).unwrap().role, Role::Refusal);
}

#[test]
fn a_syn_and_its_answer_share_a_key() {
    let build = |ack: bool| {
        let mut out = Vec::new();
        let ip = PacketBuilder::ethernet2(MAC, MAC).ipv4([10, 1, 0, 5], [10, 1, 1, 9], 64);
        let tcp = ip.tcp(40_000, 443, if ack { 99 } else { 1_000 }, 64_240).syn();
        if ack { tcp.ack(1_001) } else { tcp }.write(&mut out, &[]).unwrap();
        recognise(7, (EncapKind::Vxlan, 4789), &out).unwrap()
    };
    assert_eq!((build(false).key, build(false).role), (Key::Isn(1_000), Role::Request));
    assert_eq!((build(true).key, build(true).role), (Key::Isn(1_000), Role::Reply));
}

#[test]
fn the_checksum_of_sctp_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let bytes = sctp_init(40_000, 38_412, &mark(1, 2, false));
    assert_eq!(bytes.len() % 4, 0);
    assert_eq!(read_mark(&bytes), Some((1, 2, false)));
}
