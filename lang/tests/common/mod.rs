//! Syntax trees of every form, such as the parser builds them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use partywall_lang::ast::*;
use partywall_lang::keywords::Kw;
use partywall_lang::set::union_of;
use partywall_lang::span::{FileId, Span, Spanned};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn at<T>(node: T) -> Spanned<T> {
    Spanned::new(node, Span::default())
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        6 => "[A-Za-z_][a-z0-9_]{0,6}(-[a-z0-9]{1,3})?",
        1 => select(Kw::ALL).prop_map(|kw| kw.as_str().to_owned()),
    ]
    .prop_map(at)
}

fn text() -> impl Strategy<Value = Str> {
    "[ -~éß→\n\t]{0,12}".prop_map(at)
}

fn int() -> impl Strategy<Value = Int> {
    prop_oneof![0..70_000_u64, any::<u64>()].prop_map(at)
}

fn docs() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![3 => Just(Vec::new()), 1 => vec("([!-~é]([ -~]{0,8}[!-~])?)?", 1..3)]
}

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
}

fn v6() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u128>(),
        any::<u32>().prop_map(u128::from),
        any::<u32>().prop_map(|low| 0xffff_0000_0000 | u128::from(low)),
        any::<u64>().prop_map(|high| u128::from(high) << 64),
    ]
    .prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4(), v6()]
}

fn prefix_kind() -> impl Strategy<Value = LiteralKind> {
    prop_oneof![
        address().prop_map(LiteralKind::Address),
        (v4(), 0..=32_u8).prop_map(|(a, n)| LiteralKind::Prefix(a, n)),
        (v6(), 0..=128_u8).prop_map(|(a, n)| LiteralKind::Prefix(a, n)),
    ]
}

fn literal() -> impl Strategy<Value = Literal> {
    prefix_kind().prop_map(|kind| Literal { kind, span: Span::default() })
}

fn range() -> impl Strategy<Value = LiteralKind> {
    prop_oneof![(v4(), v4()), (v6(), v6())].prop_map(|(a, b)| LiteralKind::Range(a.min(b), a.max(b)))
}

fn node(kind: SetKind) -> Set {
    Set { kind, span: Span::default() }
}

/// Folded as the parser folds them.
fn chain(first: Set, rest: Vec<(bool, Set)>) -> Set {
    let mut run = vec![first];
    for (union, next) in rest {
        if union {
            run.push(next);
        } else {
            let left = union_of(std::mem::take(&mut run)).unwrap_or_else(empty);
            run.push(node(SetKind::Except(Box::new(left), Box::new(next))));
        }
    }
    union_of(run).unwrap_or_else(empty)
}

/// A run always holds a set; should it not, the tree shows it.
fn empty() -> Set {
    node(SetKind::Error)
}

pub fn set() -> impl Strategy<Value = Set> {
    let leaf = prop_oneof![
        Just(SetKind::Any),
        vec(name(), 1..3).prop_map(SetKind::Name),
        name().prop_map(SetKind::Tagged),
        prefix_kind().prop_map(SetKind::Literal),
        range().prop_map(SetKind::Literal),
    ]
    .prop_map(node);
    let set = leaf.prop_recursive(3, 16, 4, |inner| {
        let term = prop_oneof![
            3 => inner.clone().prop_filter("a term", |set| {
                !matches!(set.kind, SetKind::Union(..) | SetKind::Except(..) | SetKind::Intersect(..))
            }),
            1 => inner.prop_map(|set| node(SetKind::Paren(Box::new(set)))),
        ];
        let intersection = (term.clone(), vec(term, 0..2)).prop_map(|(first, rest)| {
            rest.into_iter()
                .fold(first, |left, right| node(SetKind::Intersect(Box::new(left), Box::new(right))))
        });
        (intersection.clone(), vec((any::<bool>(), intersection), 0..4))
            .prop_map(|(first, rest)| chain(first, rest))
    });
    set.boxed()
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    let range = |(lo, hi)| PortRange { lo, hi, span: Span::default() };
    vec(
        prop_oneof![(0..70_000_u64).prop_map(|n| (n, n)), (0..70_000_u64, 0..70_000_u64)].prop_map(range),
        0..4,
    )
}

fn icmp() -> impl Strategy<Value = ServiceTerm> {
    let value = || prop_oneof![int().prop_map(IcmpValue::Number), name().prop_map(IcmpValue::Name)];
    (any::<bool>(), of((value(), of(value())))).prop_map(|(v6, kind)| match kind {
        Some((kind, code)) => ServiceTerm::Icmp { v6, kind: Some(kind), code },
        None => ServiceTerm::Icmp { v6, kind: None, code: None },
    })
}

fn port_proto() -> impl Strategy<Value = PortProto> {
    select(vec![PortProto::Tcp, PortProto::Udp, PortProto::Sctp])
}

fn service() -> impl Strategy<Value = ServiceExpr> {
    let term = prop_oneof![
        name().prop_map(|name| ServiceTerm::Ref(name.node)),
        Just(ServiceTerm::Ip),
        (port_proto(), ports(), ports()).prop_map(|(proto, dst, src)| ServiceTerm::Ports { proto, dst, src }),
        icmp(),
        int().prop_map(ServiceTerm::Proto),
    ];
    vec(term.prop_map(at), 1..4).prop_map(|terms| ServiceExpr { terms, span: Span::default() })
}

fn device() -> impl Strategy<Value = Str> {
    prop_oneof!["[a-z]{1,6}[0-9]", "[a-z]{1,6}\\.[0-9]{1,4}", Just("any".to_owned())].prop_map(at)
}

fn translate() -> impl Strategy<Value = Translate> {
    vec(literal(), 1..3).prop_map(|prefixes| Translate { prefixes, span: Span::default() })
}

fn tier() -> impl Strategy<Value = Name> {
    prop_oneof![name(), select(Kw::ALL).prop_map(|kw| at(kw.as_str().to_owned()))]
}

fn fabric() -> impl Strategy<Value = Decl> {
    (
        name(),
        (select(vec![EncapKind::Vxlan, EncapKind::Geneve]), int()),
        (int(), select(vec![FamilyWord::Ipv4, FamilyWord::Ipv6])),
        vec(tier(), 1..4),
        vec(tier(), 0..3),
        of(any::<bool>()),
        of(text()),
    )
        .prop_map(|(name, encap, underlay, precedence, delegate, log, stateless_replies)| {
            Decl::Fabric(Fabric {
                name,
                encap: Some(at(encap)),
                underlay: Some(at(underlay)),
                precedence,
                delegate,
                unknown_vni: log.map(at),
                stateless_replies,
            })
        })
}

fn member() -> impl Strategy<Value = Member> {
    let segment = (name(), int(), vec((literal(), of(address())), 1..4), of(int())).prop_map(
        |(name, vni, list, mtu)| {
            let prefixes = list
                .into_iter()
                .map(|(prefix, router)| SegmentPrefix { prefix, router: router.map(at) })
                .collect();
            MemberKind::Segment(Segment { name, vni: Some(vni), prefixes, mtu })
        },
    );
    let group = (name(), set()).prop_map(|(name, set)| MemberKind::Group(Group { name, set }));
    let target = prop_oneof![
        name().prop_map(RouteTarget::Via),
        (name(), name(), any::<bool>(), of(text())).prop_map(|(tenant, segment, direct, why)| {
            RouteTarget::Segment { tenant, segment, direct: direct.then(Span::default), why }
        }),
    ];
    let route = (literal(), target).prop_map(|(prefix, target)| MemberKind::Route(Route { prefix, target }));
    let row = |docs: BoxedStrategy<Vec<String>>| {
        (docs, set(), of(translate())).prop_map(|(docs, to, clients)| ExposeRow {
            docs,
            to,
            clients,
            span: Span::default(),
        })
    };
    let rows = prop_oneof![
        row(Just(Vec::new()).boxed()).prop_map(|row| (false, vec![row])),
        vec(row(docs().boxed()), 0..3).prop_map(|rows| (true, rows)),
    ];
    let expose = (of(name()), set(), service(), name(), of(translate()), rows).prop_map(
        |(label, set, service, via, translate, (braced, rows))| {
            MemberKind::Expose(Expose { label, set, service, via: Some(via), translate, rows, braced })
        },
    );
    (docs(), prop_oneof![segment, group, route, expose]).prop_map(|(docs, kind)| Member {
        docs,
        kind,
        span: Span::default(),
    })
}

fn tenant() -> impl Strategy<Value = Decl> {
    (name(), of(int()), vec(member(), 0..4)).prop_map(|(name, id, mut members)| match id {
        Some(id) => Decl::Tenant(Tenant { name, id: Some(id), members }),
        None => {
            members.retain(|member| !matches!(member.kind, MemberKind::Segment(_)));
            Decl::Extend(Extend { tenant: name, members })
        }
    })
}

fn gateway() -> impl Strategy<Value = Decl> {
    let attach = (docs(), name(), name(), device(), vec(address(), 1..3)).prop_map(
        |(docs, external, node, dev, hops)| Attach {
            docs,
            external,
            node,
            dev,
            next_hops: hops.into_iter().map(at).collect(),
            span: Span::default(),
        },
    );
    let masquerade = (docs(), name(), name(), translate()).prop_map(|(docs, tenant, external, translate)| {
        Masquerade { docs, tenant, external, translate, span: Span::default() }
    });
    (
        name(),
        set(),
        vec(name(), 1..3),
        of(select(vec![AffinityWord::Symmetric, AffinityWord::Flow, AffinityWord::Source])),
        any::<bool>(),
        of(select(vec![OnFailureWord::Rehash, OnFailureWord::Drop])),
        vec(attach, 0..3),
        vec(masquerade, 0..3),
    )
        .prop_map(|(name, joins, instances, affinity, stateful, on_failure, attaches, masquerades)| {
            Decl::Gateway(Gateway {
                name,
                joins: Some(joins),
                instances,
                affinity: affinity.map(at),
                stateful: Some(at(stateful)),
                on_failure: on_failure.map(at),
                attaches,
                masquerades,
            })
        })
}

fn endpoint() -> impl Strategy<Value = Decl> {
    (
        (name(), name(), name()),
        vec(address(), 1..3),
        of(any::<[u8; 6]>()),
        of((name(), device())),
        vec(name(), 0..3),
    )
        .prop_map(|((name, tenant, segment), addresses, mac, place, tags)| {
            let (on, dev) = place.unzip();
            let at_ = addresses.into_iter().map(at).collect();
            Decl::Endpoint(Endpoint { name, tenant, segment, at: at_, mac: mac.map(at), on, dev, tags })
        })
}

fn date() -> impl Strategy<Value = Date> {
    (0..=9999_u16, 1..=12_u8, 1..=28_u8).prop_map(|(year, month, day)| Date { year, month, day })
}

fn rule() -> impl Strategy<Value = Rule> {
    let pairs = prop_oneof![
        1 => Just(Pairs::SameTenant(Span::default())),
        4 => (set(), set()).prop_map(|(src, dst)| Pairs::Sets(src, dst)),
    ];
    (
        (docs(), of(name())),
        select(vec![ActionWord::Allow, ActionWord::Deny, ActionWord::Pass]),
        pairs,
        of(service()),
        of(name()),
        any::<bool>(),
        of(date()),
        of(text()),
    )
        .prop_map(|((docs, label), action, pairs, service, via, log, expires, because)| Rule {
            docs,
            label,
            action: at(action),
            pairs,
            service,
            via: via.filter(|_| action == ActionWord::Allow),
            log: log.then(Span::default),
            expires: expires.map(at),
            because,
            span: Span::default(),
        })
}

fn policy() -> impl Strategy<Value = Decl> {
    (name(), of(name()), tier(), vec(name(), 0..3), vec(rule(), 0..4)).prop_map(
        |(name, tenant, tier, overrides, rules)| {
            Decl::Policy(Policy { name, tenant, tier: Some(tier), overrides, rules })
        },
    )
}

fn test() -> impl Strategy<Value = Decl> {
    let flows = (
        select(vec![Quantifier::Always, Quantifier::Never, Quantifier::Some]),
        set(),
        set(),
        of(service()),
        of(name()),
    )
        .prop_map(|(quantifier, src, dst, service, via)| TestKind::Flows {
            quantifier,
            src,
            dst,
            service,
            via,
        });
    let proto = prop_oneof![
        port_proto().prop_map(|proto| ServiceTerm::Ports { proto, dst: Vec::new(), src: Vec::new() }),
        icmp(),
        int().prop_map(ServiceTerm::Proto),
    ];
    let end = || (address(), of(int())).prop_map(|(address, port)| PacketEnd { address: at(address), port });
    let by = (name(), of(prop_oneof![name(), Just(at("expose".to_owned()))]), vec(0..99_u64, 0..3)).prop_map(
        |(policy, member, numbers)| {
            let mut text = policy.node;
            text.extend(member.map(|member| format!(".{}", member.node)));
            text.extend(numbers.iter().map(|number| format!("#{number}")));
            at(text)
        },
    );
    let packet = (name(), proto, end(), end(), any::<bool>(), of(name()), of(by)).prop_map(
        |(space, proto, src, dst, allow, via, by)| {
            TestKind::Packet(PacketTest { space, proto: at(proto), src, dst, allow: at(allow), via, by })
        },
    );
    let clause = (docs(), prop_oneof![flows, packet]).prop_map(|(docs, kind)| TestClause {
        docs,
        kind,
        span: Span::default(),
    });
    (text(), vec(clause, 0..4)).prop_map(|(name, clauses)| Decl::Test(Test { name, clauses }))
}

fn decl() -> impl Strategy<Value = Decl> {
    let node = (name(), address(), device(), any::<bool>()).prop_map(|(name, vtep, dev, gateway)| {
        Decl::Node(Node { name, vtep: Some(at(vtep)), dev: Some(dev), gateway })
    });
    let external = (name(), vec(literal(), 1..4))
        .prop_map(|(name, prefixes)| Decl::External(External { name, prefixes }));
    let isolate = (set(), set(), any::<bool>(), of((service(), name()))).prop_map(
        |(what, from, transitively, allowing)| Decl::Isolate(Isolate { what, from, transitively, allowing }),
    );
    prop_oneof![
        fabric(),
        node,
        external,
        (name(), service()).prop_map(|(name, expr)| Decl::Service(Service { name, expr })),
        (name(), set()).prop_map(|(name, set)| Decl::Group(Group { name, set })),
        tenant(),
        gateway(),
        endpoint(),
        policy(),
        isolate,
        test(),
    ]
}

/// A file; some declarations are governed by a suppression.
pub fn file() -> impl Strategy<Value = File> {
    let item = (docs(), decl(), prop_oneof![4 => Just(None), 1 => "[a-z][a-z ]{0,9}[a-z]".prop_map(Some)]);
    vec(item, 0..5).prop_map(|items| {
        let mut file = File::default();
        for (at_, (docs, decl, reason)) in (1..).zip(items) {
            let span = Span::new(FileId(0), at_, at_);
            file.items.push(Item { docs, decl, span });
            file.suppressions.extend(reason.map(|reason| Suppression {
                code: at("PW0402".to_owned()),
                reason,
                span: Span::default(),
                target: Some(span),
            }));
        }
        file
    })
}

/// The tree without its places.
pub fn shape(file: &File) -> String {
    let text = format!("{file:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find("Span { file: FileId(") {
        out.push_str(&rest[..start]);
        out.push('@');
        rest = &rest[start..];
        rest = rest.split_once('}').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}
