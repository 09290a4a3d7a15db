//! `eval`'s JSON lines: packets in, decisions out (command line reference, "eval").

use crate::algebra::{Family, format_addr, parse_addr};
use crate::compiled::Compiled;
use crate::eval::{Decider, Decision, ViewDecision};
use crate::ids::OwnerId;
use crate::packet::{Fields, Packet, fields, proto, protocol_in_family, protocol_name, protocol_number};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;

/// A packet as written; fields that the protocol lacks are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketLine {
    /// The tenant or external in whose space it is seen.
    #[serde(rename = "in")]
    pub space: String,
    pub proto: ProtocolField,
    pub src: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    pub dst: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(rename = "code", default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
}

/// A protocol by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProtocolField {
    Number(u8),
    Name(String),
}

impl<'de> Deserialize<'de> for ProtocolField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = ProtocolField;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a protocol: tcp, udp, sctp, icmp, icmp6, or a number 0..255")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
                let number = u8::try_from(value);
                number
                    .map(ProtocolField::Number)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(ProtocolField::Name(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// What `eval` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionLine {
    /// `allow`, `deny`
    pub verdict: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rule: Option<String>,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EndLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<EndLine>,
}

/// A real end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    pub address: IpAddr,
}

/// Why a line is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("not a packet: {0}")]
    Json(String),
    #[error("unknown tenant or external `{0}`")]
    Space(String),
    #[error("unknown protocol `{0}`: tcp, udp, sctp, icmp, icmp6, or a number")]
    Protocol(String),
    #[error("source and destination are of two families")]
    Families,
    #[error("`{0}` does not run over {1}")]
    ProtocolFamily(String, &'static str),
    #[error("`{0}` needs `{1}`")]
    Missing(String, &'static str),
    #[error("`{0}` has no `{1}`")]
    Surplus(String, &'static str),
    #[error("source and destination are one end")]
    OneEnd,
}

/// Decides JSON lines against one project.
#[derive(Debug)]
pub struct Evaluator<'a> {
    compiled: &'a Compiled,
    owners: HashMap<&'a str, OwnerId>,
}

impl<'a> Evaluator<'a> {
    #[must_use]
    pub fn new(compiled: &'a Compiled) -> Self {
        let owners = compiled.model.owners.iter().map(|(id, o)| (o.name.as_str(), id)).collect();
        Self { compiled, owners }
    }

    /// One line in, one line out (without line ends); the flag says whether the line was malformed.
    #[must_use]
    pub fn line(&self, line: &str) -> (String, bool) {
        match self.decide(line) {
            Ok(decision) => (serde_json::to_string(&decision).unwrap_or_default(), false),
            Err(error) => (serde_json::json!({ "error": error.to_string() }).to_string(), true),
        }
    }

    /// The decision on one line.
    ///
    /// # Errors
    /// The line is no packet, or no flow.
    pub fn decide(&self, line: &str) -> Result<DecisionLine, LineError> {
        let line: PacketLine = serde_json::from_str(line).map_err(|e| LineError::Json(e.to_string()))?;
        let packet = self.packet(&line)?;
        let decision = crate::eval::decide(self.compiled, &packet).map_err(|_| LineError::OneEnd)?;
        Ok(decision_line(self.compiled, packet.family, &decision))
    }

    /// The packet that a line means.
    ///
    /// # Errors
    /// A name is unknown, or a field is missing or surplus.
    pub fn packet(&self, line: &PacketLine) -> Result<Packet, LineError> {
        let space =
            *self.owners.get(line.space.as_str()).ok_or_else(|| LineError::Space(line.space.clone()))?;
        let protocol = match &line.proto {
            ProtocolField::Number(number) => *number,
            ProtocolField::Name(name) => {
                protocol_number(name).ok_or_else(|| LineError::Protocol(name.clone()))?
            }
        };
        let name = || protocol_name(protocol);
        let ((family, src), (dst_family, dst)) = (parse_addr(line.src), parse_addr(line.dst));
        if family != dst_family {
            return Err(LineError::Families);
        }
        if !protocol_in_family(protocol, family) {
            return Err(LineError::ProtocolFamily(name(), family.as_str()));
        }
        let kind = fields(protocol);
        if kind != Fields::Ports && (line.sport.is_some() || line.dport.is_some()) {
            return Err(LineError::Surplus(name(), if line.sport.is_some() { "sport" } else { "dport" }));
        }
        if kind != Fields::Icmp && (line.icmp_type.is_some() || line.icmp_code.is_some()) {
            return Err(LineError::Surplus(name(), if line.icmp_type.is_some() { "type" } else { "code" }));
        }
        let (x, y) = match kind {
            Fields::Ports => (
                line.sport.ok_or_else(|| LineError::Missing(name(), "sport"))?,
                line.dport.ok_or_else(|| LineError::Missing(name(), "dport"))?,
            ),
            Fields::Icmp => (
                line.icmp_type.ok_or_else(|| LineError::Missing(name(), "type"))?.into(),
                line.icmp_code.ok_or_else(|| LineError::Missing(name(), "code"))?.into(),
            ),
            Fields::None => (0, 0),
        };
        Ok(Packet { space, family, src, dst, protocol, x, y })
    }
}

/// The line that means this packet.
#[must_use]
pub fn packet_line(c: &Compiled, p: &Packet) -> PacketLine {
    let kind = fields(p.protocol);
    let (ports, icmp) = (kind == Fields::Ports, kind == Fields::Icmp);
    let byte = |value: u16| u8::try_from(value).unwrap_or(u8::MAX);
    let named = matches!(p.protocol, proto::TCP | proto::UDP | proto::SCTP | proto::ICMP | proto::ICMP6);
    PacketLine {
        space: c.model.owners[p.space].name.clone(),
        proto: if named {
            ProtocolField::Name(protocol_name(p.protocol))
        } else {
            ProtocolField::Number(p.protocol)
        },
        src: format_addr(p.family, p.src),
        sport: ports.then_some(p.x),
        dst: format_addr(p.family, p.dst),
        dport: ports.then_some(p.y),
        icmp_type: icmp.then(|| byte(p.x)),
        icmp_code: icmp.then(|| byte(p.y)),
    }
}

/// The line that says this decision on a packet of this family.
#[must_use]
pub fn decision_line(c: &Compiled, family: Family, d: &Decision) -> DecisionLine {
    let end = |end: Option<crate::packet::End>| {
        end.map(|end| {
            let owner = &c.model.owners[end.owner];
            EndLine {
                tenant: owner.is_tenant().then(|| owner.name.clone()),
                external: (!owner.is_tenant()).then(|| owner.name.clone()),
                address: format_addr(family, end.address),
            }
        })
    };
    let name = |view: Option<ViewDecision>| view.and_then(|v| decider_name(c, v.by).map(str::to_owned));
    DecisionLine {
        verdict: if d.allow { "allow" } else { "deny" }.into(),
        via: d.via.map(|g| c.model.gateways[g].name.clone()),
        rule: name(d.egress),
        ingress_rule: name(d.ingress),
        reason: d.reason.as_str().into(),
        from: end(d.from),
        to: end(d.to),
    }
}

/// The stable name of a rule or exposure; `None` for the default.
#[must_use]
pub fn decider_name(c: &Compiled, by: Decider) -> Option<&str> {
    match by {
        Decider::Rule(id) => Some(&c.model.rules[id].name),
        Decider::Exposure(id) => Some(&c.model.exposures[id].name),
        Decider::Default => None,
    }
}

/// `tcp 10.1.0.5:40000 -> 10.1.1.9:5432 in shop`, as people write it.
#[must_use]
pub fn packet_text(c: &Compiled, p: &Packet) -> String {
    let (src, dst) = (format_addr(p.family, p.src), format_addr(p.family, p.dst));
    let space = &c.model.owners[p.space].name;
    let name = protocol_name(p.protocol);
    match (fields(p.protocol), p.family) {
        (Fields::Ports, Family::V4) => format!("{name} {src}:{} -> {dst}:{} in {space}", p.x, p.y),
        (Fields::Ports, Family::V6) => format!("{name} [{src}]:{} -> [{dst}]:{} in {space}", p.x, p.y),
        (Fields::Icmp, _) => format!("{name}/{}/{} {src} -> {dst} in {space}", p.x, p.y),
        (Fields::None, _) => format!("proto/{name} {src} -> {dst} in {space}"),
    }
}

/// A witness ready for printing: the packet and the decision on it.
#[must_use]
pub fn witness(c: &Compiled, p: &Packet, d: &Decision) -> lang::diag::WitnessText {
    lang::diag::WitnessText {
        human: packet_text(c, p),
        packet_json: serde_json::to_string(&packet_line(c, p)).unwrap_or_default(),
        decision_json: serde_json::to_string(&decision_line(c, p.family, d)).unwrap_or_default(),
    }
}
