//! P4Info: the program as P4Runtime describes it, made from the program's own text.

use super::program::{CONTROL, MatchKind, Program, Table};
use std::fmt::Write as _;

/// `p4.config.v1.P4Info` as text protobuf.
#[must_use]
pub fn text(program: &Program) -> String {
    let mut out = String::from("pkg_info {\n  arch: \"v1model\"\n}\n");
    for table in &program.tables {
        write_table(&mut out, program, table);
    }
    for action in &program.actions {
        out.push_str("actions {\n");
        preamble(&mut out, action.id, &action.name);
        for (number, param) in action.params.iter().enumerate() {
            let _ = writeln!(
                out,
                "  params {{\n    id: {}\n    name: \"{}\"\n    bitwidth: {}\n  }}",
                number + 1,
                param.name,
                param.width
            );
        }
        out.push_str("}\n");
    }
    for counter in program.counters.iter().filter(|c| c.size.is_some()) {
        out.push_str("counters {\n");
        preamble(&mut out, counter.id, &counter.name);
        let _ = writeln!(
            out,
            "  spec {{\n    unit: BOTH\n  }}\n  size: {}\n}}",
            counter.size.unwrap_or_default()
        );
    }
    for (at, counter) in program.counters.iter().enumerate().filter(|(_, c)| c.size.is_none()) {
        let table = program.tables.iter().find(|t| t.direct_counter == Some(at)).map_or(0, |t| t.id);
        out.push_str("direct_counters {\n");
        preamble(&mut out, counter.id, &counter.name);
        let _ = writeln!(out, "  spec {{\n    unit: BOTH\n  }}\n  direct_table_id: {table}\n}}");
    }
    out.push_str("type_info {\n}\n");
    out
}

fn preamble(out: &mut String, id: u32, name: &str) {
    let _ = writeln!(
        out,
        "  preamble {{\n    id: {id}\n    name: \"{CONTROL}.{name}\"\n    alias: \"{name}\"\n  }}"
    );
}

fn write_table(out: &mut String, program: &Program, table: &Table) {
    out.push_str("tables {\n");
    preamble(out, table.id, &table.name);
    for (number, key) in table.keys.iter().enumerate() {
        let kind = match key.kind {
            MatchKind::Exact => "EXACT",
            MatchKind::Lpm => "LPM",
            MatchKind::Range => "RANGE",
        };
        let _ = writeln!(
            out,
            "  match_fields {{\n    id: {}\n    name: \"{}\"\n    bitwidth: {}\n    match_type: {kind}\n  }}",
            number + 1,
            key.name,
            key.width
        );
    }
    for (action, default_only) in &table.actions {
        let id = program.actions.get(*action).map_or(0, |a| a.id);
        let only =
            if *default_only { "\n    annotations: \"@defaultonly\"\n    scope: DEFAULT_ONLY" } else { "" };
        let _ = writeln!(out, "  action_refs {{\n    id: {id}{only}\n  }}");
    }
    if table.const_default {
        let id = program.actions.get(table.default_action.0).map_or(0, |a| a.id);
        let _ = writeln!(out, "  const_default_action_id: {id}");
    }
    if let Some(counter) = table.direct_counter.and_then(|c| program.counters.get(c)) {
        let _ = writeln!(out, "  direct_resource_ids: {}", counter.id);
    }
    let size = if table.size == 0 { 1024 } else { table.size };
    let _ = writeln!(out, "  size: {size}\n}}");
}
