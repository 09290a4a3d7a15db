//! Which external of a gateway an address belongs to: the one whose prefix matches longest.

use crate::algebra::{AddrSet, Family, Prefix, RangeSet, paint};
use crate::ids::{GatewayId, Id, OwnerId};
use crate::model::Model;
use crate::report::Report;
use lang::codes::Code;
use lang::diag::Diagnostic;
use lang::span::Span;
use std::collections::{BTreeMap, BTreeSet};

/// By gateway: what each of its externals has.
pub struct Shares(Vec<BTreeMap<OwnerId, AddrSet>>);

impl Shares {
    /// The part of `within` that belongs to this external behind this gateway.
    pub fn of(&self, gateway: GatewayId, external: OwnerId, within: Prefix) -> AddrSet {
        self.0
            .get(gateway.index())
            .and_then(|shares| shares.get(&external))
            .map(|set| set.intersect(&AddrSet::prefix(within)))
            .unwrap_or_default()
    }

    /// Whether two gateways hand every address of `within` to the same external.
    pub fn alike(&self, a: GatewayId, b: GatewayId, within: Prefix) -> bool {
        let split = |gateway: GatewayId| -> Vec<(OwnerId, AddrSet)> {
            let externals = self.0.get(gateway.index()).into_iter().flat_map(|shares| shares.keys().copied());
            externals.map(|e| (e, self.of(gateway, e, within))).filter(|(_, set)| !set.is_empty()).collect()
        };
        split(a) == split(b)
    }
}

/// Splits every gateway's externals; PW0303 where two of them have one prefix.
pub fn by_gateway(model: &Model, report: &mut Report) -> Shares {
    let mut seen: BTreeSet<(Span, Span)> = BTreeSet::new();
    let mut all = Vec::with_capacity(model.gateways.len());
    for gateway in model.gateways.values() {
        let mut prefixes: Vec<(Prefix, Span, OwnerId)> = gateway
            .joins
            .iter()
            .filter(|id| !model.owners[**id].is_tenant())
            .flat_map(|id| {
                let external = &model.owners[*id];
                external.prefixes.iter().zip(&external.prefix_spans).map(|(p, span)| (*p, *span, *id))
            })
            .collect();
        prefixes.sort_unstable();
        for same in prefixes.chunk_by(|a, b| a.0 == b.0) {
            let Some((&(prefix, first_span, first), rest)) = same.split_first() else { continue };
            for &(_, span, external) in rest {
                if external == first || !seen.insert((first_span, span)) {
                    continue;
                }
                let (a, b) = (&model.owners[first].name, &model.owners[external].name);
                report.taint(first);
                report.taint(external);
                report.push(
                    Diagnostic::new(
                        Code::PW0303,
                        span,
                        format!(
                            "behind gateway `{}` {prefix} belongs to two externals, `{a}` and `{b}`",
                            gateway.name
                        ),
                    )
                    .label(format!("{prefix} of `{b}`"))
                    .related(first_span, format!("{prefix} of `{a}`"))
                    .related(gateway.joins_span, format!("`{}` joins both", gateway.name))
                    .help("give one of them longer prefixes, or join them with two gateways"),
                );
            }
        }
        let mut shares: BTreeMap<OwnerId, AddrSet> = BTreeMap::new();
        for family in Family::BOTH {
            let entries = prefixes.iter().filter(|p| p.0.family == family).map(|p| (p.0, p.2)).collect();
            let mut ranges: BTreeMap<OwnerId, Vec<(u128, u128)>> = BTreeMap::new();
            for piece in paint(entries) {
                if let Some(owner) = piece.covering.first() {
                    ranges.entry(*owner).or_default().push((piece.lo, piece.hi));
                }
            }
            for (owner, ranges) in ranges {
                let set = shares.remove(&owner).unwrap_or_default();
                shares.insert(owner, set.with(family, RangeSet::from_ranges(ranges)));
            }
        }
        all.push(shares);
    }
    Shares(all)
}
