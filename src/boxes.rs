//! Boxes of flows in documents and in text.

use compiler::algebra::{Family, RangeSet};
use compiler::packet::{Fields, fields};
use serde::Serialize;
use verifier::query::{Row, ServicePart, addresses};

/// One end of a box.
#[derive(Debug, Clone, Serialize)]
pub struct Ends<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<&'a str>,
    /// Prefixes, addresses, ranges with `..`; real ones.
    pub addresses: Vec<String>,
}

/// Protocols with what they carry; ranges inclusive, fields that the protocol lacks absent.
#[derive(Debug, Clone, Serialize)]
pub struct Carried {
    protocols: [u8; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    sports: Option<Vec<[u16; 2]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dports: Option<Vec<[u16; 2]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<[u16; 2]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codes: Option<Vec<[u16; 2]>>,
}

/// A box: every flow from the one to the other with one of the services.
#[derive(Debug, Clone, Serialize)]
pub struct BoxLine<'a> {
    pub from: Ends<'a>,
    pub to: Ends<'a>,
    pub family: &'static str,
    /// As the language writes it.
    pub service: String,
    pub services: Vec<Carried>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'a str>,
}

/// An owner by name.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub name: &'a str,
    pub tenant: bool,
}

impl<'a> BoxLine<'a> {
    #[must_use]
    pub fn new(src: Owner<'a>, dst: Owner<'a>, family: Family, row: &Row, via: Option<&'a str>) -> Self {
        let ends = |owner: Owner<'a>, set: &RangeSet| Ends {
            tenant: owner.tenant.then_some(owner.name),
            external: (!owner.tenant).then_some(owner.name),
            addresses: addresses(family, set),
        };
        Self {
            from: ends(src, &row.src),
            to: ends(dst, &row.dst),
            family: family.as_str(),
            service: row.services.text(family),
            services: row.services.parts.iter().map(carried).collect(),
            via,
        }
    }

    /// `shop 10.1.0.0/24 -> payments 10.2.0.8 : tcp/443 via edge`
    #[must_use]
    pub fn text(&self) -> String {
        let via = self.via.map_or_else(String::new, |via| format!(" via {via}"));
        format!("{} -> {} : {}{via}", self.from.text(), self.to.text(), self.service)
    }
}

impl Ends<'_> {
    #[must_use]
    pub fn name(&self) -> &str {
        self.tenant.or(self.external).unwrap_or_default()
    }

    fn text(&self) -> String {
        format!("{} {}", self.name(), self.addresses.join(", "))
    }
}

fn carried(part: &ServicePart) -> Carried {
    let ranges = |set: &RangeSet| {
        let value = |v: u128| u16::try_from(v).unwrap_or(u16::MAX);
        Some(set.ranges().iter().map(|(lo, hi)| [value(*lo), value(*hi)]).collect())
    };
    let bare = Carried {
        protocols: [part.protocols.0, part.protocols.1],
        sports: None,
        dports: None,
        types: None,
        codes: None,
    };
    match fields(part.protocols.0) {
        Fields::Ports => Carried { sports: ranges(&part.x), dports: ranges(&part.y), ..bare },
        Fields::Icmp => Carried { types: ranges(&part.x), codes: ranges(&part.y), ..bare },
        Fields::None => bare,
    }
}

/// What the documents say of the run.
#[derive(Debug, Clone, Serialize)]
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

impl Tool {
    #[must_use]
    pub fn this() -> Self {
        Self { name: "partywall", version: env!("CARGO_PKG_VERSION") }
    }
}

/// A field of a CSV line (RFC 4180).
#[must_use]
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
