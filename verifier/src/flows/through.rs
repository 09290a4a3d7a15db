//! Which allowed flows count.

use crate::replay;
use compiler::eval::Decision;
use compiler::ids::GatewayId;
use compiler::packet::Flow;
use compiler::sets::ServiceSet;

/// Through which gateway an allowed flow must go for it to count.
#[derive(Debug, Clone, Copy)]
pub enum Through<'a> {
    Any,
    Only(GatewayId),
    /// Any but these services through this gateway.
    Beside(&'a ServiceSet, GatewayId),
}

impl Through<'_> {
    /// Whether a flow that is decided like this counts.
    #[must_use]
    pub fn counts(&self, flow: &Flow, decision: &Decision) -> bool {
        match self {
            Self::Any => decision.allow,
            Self::Only(gateway) => replay::allows(decision, Some(*gateway)),
            Self::Beside(service, gateway) => {
                let hole = service.contains(flow.protocol, flow.x, flow.y) && decision.via == Some(*gateway);
                decision.allow && !hole
            }
        }
    }
}
