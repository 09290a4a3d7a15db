//! Cycles in the order of definitions.

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A shortest cycle through the smallest node of a strongly connected component, as edges; empty if the component is one
/// node without an edge to itself.
pub(super) fn shortest_cycle<N, E: Copy>(
    graph: &DiGraph<N, E>,
    component: &[NodeIndex],
) -> Vec<(NodeIndex, NodeIndex, E)> {
    let inside: BTreeSet<NodeIndex> = component.iter().copied().collect();
    let Some(&start) = inside.first() else { return Vec::new() };
    // Breadth first from `start`; `came` holds the edge by which each node was reached.
    let mut came: BTreeMap<NodeIndex, (NodeIndex, E)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let mut edges: Vec<_> = graph.edges(node).map(|e| (e.target(), *e.weight(), e.id())).collect();
        edges.sort_by_key(|(to, _, id)| (*to, *id));
        for (to, weight, _) in edges {
            if to == start {
                let mut path = vec![(node, start, weight)];
                let mut at = node;
                while at != start {
                    let Some(&(from, weight)) = came.get(&at) else { break };
                    path.push((from, at, weight));
                    at = from;
                }
                path.reverse();
                return path;
            }
            if inside.contains(&to) && !came.contains_key(&to) {
                came.insert(to, (node, weight));
                queue.push_back(to);
            }
        }
    }
    Vec::new()
}
