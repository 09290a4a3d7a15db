//! What this target cannot express exactly.

use super::{Lowering, Saved};
use compiler::ids::OwnerId;
use lang::ast::{AffinityWord, EncapKind};
use lang::codes::Code;
use lang::diag::Diagnostic;

impl Lowering<'_> {
    pub(super) fn capabilities(&mut self) {
        let c = self.c;
        let fabric = &c.model.fabric;
        if fabric.encap == EncapKind::Geneve {
            self.diagnostics.push(
                Diagnostic::new(Code::PW0801, fabric.span, "the p4 target cannot emit Geneve")
                    .label("`encap geneve` stands here")
                    .help("write `encap vxlan port 4789`: the program parses VXLAN"),
            );
        }
        self.gateways_concerned();
        for endpoint in c.model.endpoints.values().filter(|e| e.node == self.node && e.mac.is_none()) {
            let name = format!("{}.{}", c.model.owners[endpoint.tenant].name, endpoint.name);
            self.diagnostics.push(
                Diagnostic::new(
                    Code::PW0801,
                    endpoint.span,
                    format!("the p4 target cannot deliver to endpoint `{name}`, whose MAC is not known"),
                )
                .label("no `mac` stands here")
                .help(
                    "write `mac` and the endpoint's address: a switch without state resolves no neighbours",
                ),
            );
        }
        if c.model.nodes[self.node].gateway {
            return;
        }
        for exposure in c.model.exposures.values().filter(|e| e.translates_clients) {
            let external = exposure.clients.iter().map(|(owner, _)| *owner).find(|o| !self.is_tenant(*o));
            let concerned = self.tenants().contains(&exposure.provider);
            let Some(external) = external.filter(|_| concerned) else { continue };
            let name = &c.model.owners[external].name;
            self.diagnostics.push(
                Diagnostic::new(
                    Code::PW0801,
                    exposure.clients_as_span,
                    format!("the p4 target cannot translate the external `{name}`"),
                )
                .label("`clients as` covers an external here")
                .help("leave `clients as` away for externals: their addresses are one space and need no translation"),
            );
        }
    }

    fn is_tenant(&self, owner: OwnerId) -> bool {
        self.c.model.owners[owner].is_tenant()
    }

    fn gateways_concerned(&mut self) {
        let c = self.c;
        let here = c.model.nodes[self.node].gateway;
        for id in self.concerned() {
            let gateway = &c.model.gateways[id];
            if gateway.affinity != AffinityWord::Symmetric && gateway.instances.len() > 1 {
                self.diagnostics.push(
                    Diagnostic::new(
                        Code::PW0801,
                        gateway.affinity_span,
                        format!("the p4 target cannot emit the affinity of gateway `{}`", gateway.name),
                    )
                    .label("not `symmetric`, with more than one instance")
                    .help("write `affinity symmetric`, or one instance"),
                );
            }
            if here && gateway.stateful {
                self.diagnostics.push(
                    Diagnostic::new(
                        Code::PW0801,
                        gateway.span,
                        format!("the p4 target cannot run an instance of the stateful gateway `{}`", gateway.name),
                    )
                    .label("`stateful` stands here, and this target keeps no state")
                    .help("write `stateless` and `stateless-replies \"why\"` in the fabric, or build this node for another target"),
                );
            }
            if !gateway.stateful && c.model.fabric.stateless_replies.is_none() {
                self.diagnostics.push(
                    Diagnostic::new(
                        Code::PW0801,
                        gateway.span,
                        format!(
                            "gateway `{}` is stateless, and the fabric does not accept what that admits",
                            gateway.name
                        ),
                    )
                    .label("`stateless` stands here")
                    .help("write `stateful`, or `stateless-replies \"why\"` in the fabric"),
                );
            }
            if !here {
                continue;
            }
            if let Some(external) = gateway.joins.iter().copied().find(|o| !self.is_tenant(*o)) {
                let name = &c.model.owners[external].name;
                self.diagnostics.push(
                    Diagnostic::new(
                        Code::PW0801,
                        gateway.joins_span,
                        format!("the p4 target cannot attach the external `{name}` to gateway `{}`", gateway.name),
                    )
                    .label("joined here")
                    .help("build the gateway's nodes for another target: a next hop's MAC is no part of the policy, and a switch without state does not ask for it"),
                );
            }
        }
    }

    /// What two digests or too many numbers would make one.
    pub(super) fn contradictions(&mut self) {
        let Some(first) = self.entries.contradictions.first().cloned() else { return };
        let node = &self.c.model.nodes[self.node];
        let message = format!("node `{}`: one entry would have two meanings", node.name);
        self.diagnostics.push(
            Diagnostic::new(Code::PW0801, node.span, message)
                .label("cannot be emitted for this node")
                .help("check the project first: a clean project gives every address one meaning")
                .note(first),
        );
    }

    pub(super) fn too_many(&mut self, what: &str, needed: u32) {
        let node = &self.c.model.nodes[self.node];
        let needed = if needed == u32::MAX { "more".to_owned() } else { needed.to_string() };
        self.diagnostics.push(
            Diagnostic::new(
                Code::PW0803,
                node.span,
                format!("node `{}` needs {needed} {what}, and the program numbers 65,534", node.name),
            )
            .label("too many different decisions for one node")
            .help("put fewer tenants on one node"),
        );
    }

    /// Two generations lie in a table at once.
    pub(super) fn capacity(&mut self) {
        let node = &self.c.model.nodes[self.node];
        // v1model numbers ports with 9 bits, of which the last means to drop.
        if self.ports.len() > 511 {
            let message =
                format!("node `{}` needs {} ports, and a switch has 511", node.name, self.ports.len());
            self.diagnostics.push(
                Diagnostic::new(Code::PW0803, node.span, message)
                    .label("more workloads than ports")
                    .help("place some of its endpoints on other nodes"),
            );
        }
        for table in self.program.tables.iter().filter(|t| !t.keys.is_empty()) {
            let needed = 2 * self.entries.count(&table.name);
            if needed <= table.size {
                continue;
            }
            let mut shares: Vec<(u64, &str)> = self
                .shares
                .iter()
                .filter(|((of, _), _)| *of == table.name)
                .map(|((_, tenant), count)| (2 * count, tenant.as_str()))
                .collect();
            shares.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            let most: Vec<String> =
                shares.iter().take(3).map(|(count, tenant)| format!("`{tenant}` {count}")).collect();
            let sized = Some(&self.profile.name).filter(|_| self.profile.tables.contains_key(&table.name));
            let whose = sized.map(|name| format!(" in profile `{name}`")).unwrap_or_default();
            let message = format!(
                "node `{}` needs {needed} entries in table `{}`, and there are {}{whose}",
                node.name, table.name, table.size
            );
            let mut diagnostic = Diagnostic::new(Code::PW0803, node.span, message)
                .label("what this node serves does not fit, with two generations at once")
                .help("place endpoints of the tenants that need most on other nodes, list whole prefixes instead of addresses, or give the table's size in a profile of partywall.toml if the switch has more");
            if !most.is_empty() {
                diagnostic = diagnostic.note(format!("most is needed by {}", most.join(", ")));
            }
            self.diagnostics.push(diagnostic.note(self.saving(&table.name)));
        }
    }

    /// What joining has saved of one generation's entries in a table.
    fn saving(&self, table: &str) -> String {
        let Saved { classes, verdicts, replies, prefixes } = self.saved;
        let (what, (before, after)) = match table {
            "verdict" => ("verdicts", verdicts),
            "reply" => ("answers", replies),
            "source4" | "source6" | "destination4" | "destination6" => ("prefixes", prefixes),
            _ => ("classes of addresses", classes),
        };
        format!("joining what is decided alike has left {after} of {before} {what}")
    }
}
