//! `trace PATH --in SPACE PACKET`: one packet, told step by step.

use crate::analysis::{self, Analysis};
use crate::cli::{Global, Judging, ProjectPath};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Out};
use clap::Args;
use compiler::icmp;
use compiler::ids::NodeId;
use compiler::packet::{Packet, proto, protocol_name};
use compiler::wire::{Evaluator, PacketLine, ProtocolField};
use lang::PacketHeader;
use lang::ast::{IcmpValue, PacketEnd, PortProto, ServiceTerm};
use lang::source::Sources;

/// Tell step by step what is decided for one packet, and why
#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    project: ProjectPath,
    /// The tenant or external in whose address space the packet is seen
    #[arg(long = "in", value_name = "TENANT")]
    space: String,
    /// 'tcp 10.1.0.5:40000 -> 10.1.1.9:5432'
    packet: String,
    /// Gateway instances taken as failed, separated by commas
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    down: Vec<String>,
    #[command(flatten)]
    judging: Judging,
}

pub fn run(global: &Global, args: &TraceArgs) -> Outcome {
    let header = lang::parse_packet(&args.packet).map_err(|diagnostics| {
        let mut sources = Sources::new();
        sources.add("packet", args.packet.as_str());
        output::show(&lang::render::human(&sources, &diagnostics, global.color_stderr()));
        Failure::new("the packet cannot be read; write it as 'tcp 10.1.0.5:40000 -> 10.1.1.9:5432'")
    })?;
    let analysis = analysis::meaning(&args.project.path, &args.judging)?;
    if analysis.refuse("tell a packet's way", global) {
        return Ok(Exit::Findings);
    }
    let packet = packet(&analysis, &args.space, &header)?;
    let down = down(&analysis, &args.down)?;
    let trace = compiler::trace::trace(&analysis.compiled, &packet, &down)
        .map_err(|e| Failure::new(format!("this packet opens no connection: {e}")))?;
    let mut out = Out::new();
    for step in &trace.steps {
        let place = step.span.map(|span| {
            let (start, _) = analysis.sources.range(span);
            format!("  [{}:{}]", analysis.sources.path(span.file), start.line)
        });
        let indent = "  ".repeat(usize::from(step.depth));
        out.text(&format!("{indent}{}{}\n", step.text, place.unwrap_or_default()))?;
    }
    out.flush()?;
    Ok(Exit::Clean)
}

/// The gateway instances of these names.
fn down(analysis: &Analysis, names: &[String]) -> Result<Vec<NodeId>, Failure> {
    let model = &analysis.compiled.model;
    let instance = |name: &String| {
        let id = model.nodes.iter().find(|(_, node)| node.name == *name).map(|(id, _)| id);
        let id = id.ok_or_else(|| Failure::new(format!("there is no node `{name}`")))?;
        if model.gateways.values().any(|gateway| gateway.instances.contains(&id)) {
            return Ok(id);
        }
        Err(Failure::new(format!("node `{name}` is no instance of a gateway")))
    };
    names.iter().map(instance).collect()
}

/// The packet that the header means in a space.
fn packet(analysis: &Analysis, space: &str, header: &PacketHeader) -> Result<Packet, Failure> {
    let (protocol, icmp) = protocol(&header.proto.node)?;
    let port = |end: &PacketEnd| {
        end.port.as_ref().map(|port| {
            u16::try_from(port.node)
                .map_err(|_| Failure::new(format!("a port is at most 65535, not {}", port.node)))
        })
    };
    let line = PacketLine {
        space: space.to_owned(),
        proto: ProtocolField::Number(protocol),
        src: header.src.address.node,
        sport: port(&header.src).transpose()?,
        dst: header.dst.address.node,
        dport: port(&header.dst).transpose()?,
        icmp_type: icmp.map(|(kind, _)| kind),
        icmp_code: icmp.map(|(_, code)| code),
    };
    Evaluator::new(&analysis.compiled).packet(&line).map_err(|e| Failure::new(e.to_string()))
}

/// The protocol's number and, for ICMP, type and code.
fn protocol(term: &ServiceTerm) -> Result<(u8, Option<(u8, u8)>), Failure> {
    match term {
        ServiceTerm::Ports { proto, dst, src } if dst.is_empty() && src.is_empty() => Ok((
            match proto {
                PortProto::Tcp => proto::TCP,
                PortProto::Udp => proto::UDP,
                PortProto::Sctp => proto::SCTP,
            },
            None,
        )),
        ServiceTerm::Icmp { v6, kind: Some(kind), code } => {
            let number = if *v6 { proto::ICMP6 } else { proto::ICMP };
            let of = protocol_name(number);
            let kind = value(kind, |name| icmp::type_number(*v6, name))
                .ok_or_else(|| Failure::new(format!("{of} has no such type")))?;
            let code = match code {
                None => Some(0),
                Some(code) => value(code, |name| icmp::code_number(*v6, kind, name)),
            };
            let code = code.ok_or_else(|| Failure::new(format!("type {kind} of {of} has no such code")))?;
            Ok((number, Some((kind, code))))
        }
        ServiceTerm::Proto(number) => u8::try_from(number.node)
            .map(|number| (number, None))
            .map_err(|_| Failure::new(format!("a protocol is at most 255, not {}", number.node))),
        ServiceTerm::Icmp { .. } => Err(Failure::new("an ICMP packet has a type: icmp/echo-request")),
        _ => Err(Failure::new("a packet has one protocol, and its ports stand with the addresses")),
    }
}

fn value(value: &IcmpValue, named: impl Fn(&str) -> Option<u8>) -> Option<u8> {
    match value {
        IcmpValue::Number(number) => u8::try_from(number.node).ok(),
        IcmpValue::Name(name) => named(&name.node),
    }
}
