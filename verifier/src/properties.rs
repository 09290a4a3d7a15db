//! What is asked, as terms: one line each over the encoding, with the meaning of a `sat` answer.

use crate::encode::{DecisionTerms, Encoder, PolicyTerms, RuleTerms, TierTerms, ViewTerms};
use crate::terms::{Pool, Term};
use compiler::ids::{GatewayId, RuleId};
use compiler::sets::ServiceSet;

/// PW0401. `sat`: the flow meets disagreeing policies in a tier that decides it.
pub fn conflict(pool: &mut Pool, tier: &TierTerms) -> Term {
    pool.and([tier.reached, tier.conflict])
}

/// PW0401. `sat`: these two rules decide the flow, both.
pub fn both_decide(
    pool: &mut Pool,
    tier: &TierTerms,
    a: (&PolicyTerms, &RuleTerms),
    b: (&PolicyTerms, &RuleTerms),
) -> Term {
    let live = [a, b].map(|(policy, rule)| pool.minus(rule.first, policy.overridden));
    pool.and([tier.reached, live[0], live[1]])
}

/// PW0402. `sat`: the rule decides a flow, so it is not shadowed.
pub fn decides(pool: &mut Pool, view: &ViewTerms, rule: RuleId) -> Term {
    view.decides(pool, rule)
}

/// PW0402. `sat`: a flow that the rule matches is in none of the regions, so they do not cover it.
pub fn uncovered(pool: &mut Pool, matches: Term, regions: &[Term]) -> Term {
    let covered = pool.or(regions.iter().copied());
    pool.minus(matches, covered)
}

/// PW0403. `sat`: a flow that the rule decides meets no later rule, or first one of another verdict. `later`: what the later rules
/// match, in order, and whether with the same verdict.
pub fn needed(pool: &mut Pool, decides: Term, later: &[(bool, Term)]) -> Term {
    let mut repeated = Term::FALSE;
    for (same, matches) in later.iter().rev() {
        repeated = if *same { pool.or([repeated, *matches]) } else { pool.minus(repeated, *matches) };
    }
    pool.minus(decides, repeated)
}

/// PW0404, note. `sat`: the rule would decide the flow if its owner's policies stood alone, and does not.
pub fn overruled(pool: &mut Pool, alone: &ViewTerms, view: &ViewTerms, rule: RuleId) -> Term {
    let (would, does) = (alone.decides(pool, rule), view.decides(pool, rule));
    pool.minus(would, does)
}

/// PW0502, `never`, `some`. `sat`: a flow of `pairs` is allowed on the channel.
pub fn allowed(pool: &mut Pool, pairs: Term, decision: &DecisionTerms) -> Term {
    pool.and([pairs, decision.possible, decision.allow])
}

/// `some … via G`. `sat`: a flow of `pairs` is allowed on the channel, through the gateway.
pub fn allowed_via(pool: &mut Pool, pairs: Term, decision: &DecisionTerms, gateway: GatewayId) -> Term {
    pool.and([pairs, decision.possible, decision.allowed_via(gateway)])
}

/// PW0502 `allowing V via G`. `sat`: a flow of `pairs` is allowed on the channel and is not the hole's.
pub fn allowed_beside(
    encoder: &mut Encoder<'_>,
    pairs: Term,
    decision: &DecisionTerms,
    (service, gateway): (&ServiceSet, GatewayId),
) -> Term {
    let allowed = allowed(&mut encoder.pool, pairs, decision);
    let service = encoder.service(service);
    let hole = encoder.pool.and([service, decision.allowed_via(gateway)]);
    encoder.pool.minus(allowed, hole)
}

/// `always`. `sat`: a flow of `pairs` is allowed on no path, or allowed on one that does not go via the gateway.
pub fn not_always(pool: &mut Pool, pairs: Term, decisions: &[DecisionTerms], via: Option<GatewayId>) -> Term {
    let (mut allowed, mut astray) = (Vec::new(), Vec::new());
    for decision in decisions {
        let on = pool.and([decision.possible, decision.allow]);
        allowed.push(on);
        if let Some(gateway) = via {
            astray.push(pool.minus(on, decision.allowed_via(gateway)));
        }
    }
    let allowed = pool.or(allowed);
    astray.push(pool.not(allowed));
    let fails = pool.or(astray);
    pool.and([pairs, fails])
}
