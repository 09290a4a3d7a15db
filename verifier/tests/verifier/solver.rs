//! The solver's traps, and the algebra of terms proved by the solver.

use compiler::algebra::Family;
use compiler::ids::OwnerId;
use compiler::packet::{End, Flow};
use partywall_verifier::solver::{Answer, Solver, Values, Z3};
use partywall_verifier::terms::{Header, Pool, Term, Var};
use proptest::prelude::*;

const BUDGET: u32 = 10_000_000;

fn flow(values: Values, family: Family) -> Flow {
    let end = |address| End { owner: OwnerId(0), address };
    Flow {
        src: end(values.src),
        dst: end(values.dst),
        family,
        protocol: values.protocol,
        x: values.x,
        y: values.y,
    }
}

fn sat(pool: &Pool, term: Term, family: Family) -> Option<Flow> {
    let mut solver = Z3::new(family, BUDGET).unwrap();
    solver.assert(pool, term).unwrap();
    match solver.check().unwrap() {
        Answer::Sat(values) => Some(flow(values, family)),
        Answer::Unsat => None,
        Answer::Unknown => panic!("within the budget"),
    }
}

#[test]
fn an_unsatisfiable_set_stays_so_after_parameters_were_set() {
    // The binding drops the assertion that follows a refused parameter: the budget must not be one.
    for family in Family::BOTH {
        let (mut pool, header) = (Pool::new(), Header::symbolic(family));
        let mut solver = Z3::new(family, BUDGET).unwrap();
        let seven = pool.range(&header, Var::Src, 7, 7);
        let more = pool.range(&header, Var::Src, 8, family.max());
        solver.assert(&pool, seven).unwrap();
        solver.assert(&pool, more).unwrap();
        assert_eq!(solver.check().unwrap(), Answer::Unsat);
    }
}

#[test]
fn levels_forget_what_they_held() {
    let (mut pool, header) = (Pool::new(), Header::symbolic(Family::V4));
    let mut solver = Z3::new(Family::V4, BUDGET).unwrap();
    let tcp = pool.range(&header, Var::Protocol, 6, 6);
    let not_tcp = pool.not(tcp);
    solver.assert(&pool, tcp).unwrap();
    for _ in 0..3 {
        solver.push();
        solver.assert(&pool, not_tcp).unwrap();
        assert_eq!(solver.check().unwrap(), Answer::Unsat);
        solver.pop();
        assert!(matches!(solver.check().unwrap(), Answer::Sat(v) if v.protocol == 6));
    }
    // Nothing is below the outermost level.
    solver.pop();
    assert!(matches!(solver.check().unwrap(), Answer::Sat(v) if v.protocol == 6));
}

#[test]
fn all_128_bits_of_an_address_are_decided_and_read_back() {
    let (mut pool, header) = (Pool::new(), Header::symbolic(Family::V6));
    for value in [0, 1, u128::from(u64::MAX), 1 << 64, 0xfd00_0001_0000_0000_8000_0000_0000_0001, u128::MAX] {
        let term = pool.range(&header, Var::Dst, value, value);
        assert_eq!(sat(&pool, term, Family::V6).unwrap().dst.address, value);
    }
    // A prefix whose boundary lies in either half, and a range that is none.
    for (lo, hi) in
        [(1_u128 << 96, (1_u128 << 96) + (1 << 70) - 1), (5 << 32, (6 << 32) - 1), (3, (1 << 90) + 5)]
    {
        let inside = pool.range(&header, Var::Src, lo, hi);
        let below = pool.range(&header, Var::Src, 0, lo - 1);
        let above = pool.range(&header, Var::Src, hi + 1, u128::MAX);
        let beside = pool.or([below, above]);
        let both = pool.and([inside, beside]);
        let all = pool.or([inside, beside]);
        let none = pool.not(all);
        assert_eq!(sat(&pool, both, Family::V6), None);
        assert_eq!(sat(&pool, none, Family::V6), None);
    }
}

#[test]
fn a_spent_budget_is_unknown() {
    let (mut pool, header) = (Pool::new(), Header::symbolic(Family::V6));
    // Enough clauses that one step does not suffice.
    let mut terms = Vec::new();
    for n in 1..200_u128 {
        let a = pool.range(&header, Var::Src, n << 40, n << 80);
        let b = pool.range(&header, Var::Dst, n << 30, n << 90);
        let same = pool.same_address(&header);
        let not_b = pool.not(b);
        terms.push(pool.or([a, not_b, same]));
    }
    let term = pool.and(terms);
    let mut solver = Z3::new(Family::V6, 1).unwrap();
    solver.assert(&pool, term).unwrap();
    assert_eq!(solver.check().unwrap(), Answer::Unknown);
}

/// A random term, built twice: over a symbolic header, and over a literal one.
#[derive(Debug, Clone)]
enum Shape {
    Range(Var, u128, u128),
    Same,
    Not(Box<Shape>),
    And(Vec<Shape>),
    Or(Vec<Shape>),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let var = prop::sample::select(Var::ALL.to_vec());
    let leaf = prop_oneof![
        8 => (var, 0_u128..40, 0_u128..40).prop_map(|(v, lo, n)| Shape::Range(v, lo, lo + n)),
        1 => Just(Shape::Same),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| Shape::Not(Box::new(s))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::And),
            prop::collection::vec(inner, 0..4).prop_map(Shape::Or),
        ]
    })
}

fn build(shape: &Shape, pool: &mut Pool, header: &Header) -> Term {
    match shape {
        Shape::Range(var, lo, hi) => pool.range(header, *var, *lo, *hi),
        Shape::Same => pool.same_address(header),
        Shape::Not(inner) => {
            let inner = build(inner, pool, header);
            pool.not(inner)
        }
        Shape::And(members) => {
            let members: Vec<Term> = members.iter().map(|m| build(m, pool, header)).collect();
            pool.and(members)
        }
        Shape::Or(members) => {
            let members: Vec<Term> = members.iter().map(|m| build(m, pool, header)).collect();
            pool.or(members)
        }
    }
}

fn truth(shape: &Shape, flow: &Flow) -> bool {
    match shape {
        Shape::Range(var, lo, hi) => *lo <= var.of(flow) && var.of(flow) <= *hi,
        Shape::Same => flow.src.address == flow.dst.address,
        Shape::Not(inner) => !truth(inner, flow),
        Shape::And(members) => members.iter().all(|m| truth(m, flow)),
        Shape::Or(members) => members.iter().any(|m| truth(m, flow)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn terms_fold_and_evaluate_to_what_they_say(
        shape in shapes(), src in 0_u128..50, dst in 0_u128..50, protocol in 0_u8..50, x in 0_u16..50, y in 0_u16..50,
    ) {
        let flow = flow(Values { src, dst, protocol, x, y }, Family::V4);
        let expected = truth(&shape, &flow);
        let mut pool = Pool::new();
        let folded = build(&shape, &mut pool, &Header::literal(flow));
        prop_assert_eq!(folded.as_bool(), Some(expected));
        let term = build(&shape, &mut pool, &Header::symbolic(Family::V4));
        prop_assert_eq!(pool.holds(term, &flow), expected);
    }

    #[test]
    fn z3_reads_terms_as_they_are_meant(shape in shapes(), v6 in any::<bool>()) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (mut pool, header) = (Pool::new(), Header::symbolic(family));
        let term = build(&shape, &mut pool, &header);
        let not = pool.not(term);
        let (yes, no) = (sat(&pool, term, family), sat(&pool, not, family));
        prop_assert!(yes.is_some() || no.is_some());
        if let Some(flow) = yes {
            prop_assert!(truth(&shape, &flow));
        }
        if let Some(flow) = no {
            prop_assert!(!truth(&shape, &flow));
        }
    }
}
