#!/usr/bin/env python3
"""Reads P4Info and entries with the official p4runtime package and holds them against P4Runtime's rules for servers.

    canonical.py DIR...

Each DIR holds partywall.p4info.txtpb and entries.txtpb. Prints a line for each; the first entry that a server would have to refuse,
or would give back in another form, ends it with status 1. The rules are those of the P4Runtime specification 1.3 and later: "Bytestrings",
"Match Format", "TableEntry", "Wildcard reads", "ID allocation".
"""

import os
import sys

# The package's modules were generated before protobuf 4, which only its implementation in Python takes.
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

from google.protobuf import text_format  # noqa: E402
from p4.config.v1 import p4info_pb2  # noqa: E402
from p4.v1 import p4runtime_pb2  # noqa: E402

TABLE, ACTION, COUNTER, DIRECT_COUNTER = 0x02, 0x01, 0x12, 0x13


class Refused(Exception):
    pass


def want(holds, message):
    if not holds:
        raise Refused(message)


def number(text, width, what):
    """The value of a byte string in its one canonical form."""
    want(len(text) > 0, f"{what}: an empty byte string")
    want(len(text) == 1 or text[0] != 0, f"{what}: {text!r} is not the shortest byte string")
    value = int.from_bytes(text, "big")
    want(value.bit_length() <= width, f"{what}: {text!r} has more than {width} bits")
    return value


class Info:
    def __init__(self, text):
        info = text_format.Parse(text, p4info_pb2.P4Info())
        self.tables = {table.preamble.id: table for table in info.tables}
        self.actions = {action.preamble.id: action for action in info.actions}
        kinds = [
            (TABLE, info.tables),
            (ACTION, info.actions),
            (COUNTER, info.counters),
            (DIRECT_COUNTER, info.direct_counters),
        ]
        ids, names = set(), set()
        for prefix, objects in kinds:
            for thing in objects:
                pre = thing.preamble
                want(pre.id >> 24 == prefix, f"{pre.name}: {pre.id:#x} is no id of its kind")
                want(pre.id not in ids and pre.name not in names, f"{pre.name}: a second of its kind")
                ids.add(pre.id)
                names.add(pre.name)
        for table in info.tables:
            for ref in table.action_refs:
                want(ref.id in self.actions, f"{table.preamble.name}: no action {ref.id:#x}")
            for direct in table.direct_resource_ids:
                want(direct in ids, f"{table.preamble.name}: no resource {direct:#x}")
            want(table.size > 0, f"{table.preamble.name}: no size")
        for direct in info.direct_counters:
            want(direct.direct_table_id in self.tables, f"{direct.preamble.name}: no such table")


def check_match(table, entry):
    """The fields of a key; returns whether one of them needs a priority."""
    Field = p4info_pb2.MatchField
    name = table.preamble.name
    fields = {field.id: field for field in table.match_fields}
    found = [match.field_id for match in entry.match]
    want(len(set(found)) == len(found), f"{name}: a field twice")
    for match in entry.match:
        field = fields.get(match.field_id)
        want(field is not None, f"{name}: no field {match.field_id}")
        what, width = f"{name} {field.name}", field.bitwidth
        kind = match.WhichOneof("field_match_type")
        if field.match_type == Field.EXACT:
            want(kind == "exact", f"{what}: {kind} for an exact field")
            number(match.exact.value, width, what)
        elif field.match_type == Field.LPM:
            want(kind == "lpm", f"{what}: {kind} for a longest prefix")
            value, length = number(match.lpm.value, width, what), match.lpm.prefix_len
            want(length != 0, f"{what}: a prefix of no bits is left away")
            want(0 < length <= width, f"{what}: a prefix of {length} bits")
            want(value & ((1 << (width - length)) - 1) == 0, f"{what}: host bits are set")
        elif field.match_type == Field.TERNARY:
            want(kind == "ternary", f"{what}: {kind} for a ternary field")
            value, mask = number(match.ternary.value, width, what), number(match.ternary.mask, width, what)
            want(mask != 0, f"{what}: a mask of no bits is left away")
            want(value & ~mask == 0, f"{what}: bits outside the mask are set")
        elif field.match_type == Field.RANGE:
            want(kind == "range", f"{what}: {kind} for a range")
            low, high = number(match.range.low, width, what), number(match.range.high, width, what)
            want(low <= high, f"{what}: a range that ends before it begins")
            want((low, high) != (0, (1 << width) - 1), f"{what}: a range of everything is left away")
        else:
            raise Refused(f"{what}: a match type that is not expected")
    for field in table.match_fields:
        want(field.match_type != Field.EXACT or field.id in found, f"{name} {field.name}: an exact field is missing")
    return any(f.match_type in (Field.TERNARY, Field.RANGE, Field.OPTIONAL) for f in table.match_fields)


def check_action(info, table, entry):
    Ref = p4info_pb2.ActionRef
    name = table.preamble.name
    want(entry.action.WhichOneof("type") == "action", f"{name}: no direct action")
    action = entry.action.action
    refs = {ref.id: ref for ref in table.action_refs}
    want(action.action_id in refs, f"{name}: no action {action.action_id:#x}")
    forbidden = Ref.TABLE_ONLY if entry.is_default_action else Ref.DEFAULT_ONLY
    want(refs[action.action_id].scope != forbidden, f"{name}: action {action.action_id:#x} is out of its scope")
    widths = {param.id: param.bitwidth for param in info.actions[action.action_id].params}
    found = [param.param_id for param in action.params]
    want(sorted(found) == sorted(widths), f"{name}: parameters {found}, wanted {sorted(widths)}")
    for param in action.params:
        number(param.value, widths[param.param_id], f"{name} parameter {param.param_id}")


def check_update(info, update, keys):
    want(update.entity.WhichOneof("entity") == "table_entry", "an update of something else than a table")
    entry = update.entity.table_entry
    table = info.tables.get(entry.table_id)
    want(table is not None, f"no table {entry.table_id:#x}")
    name = table.preamble.name
    check_action(info, table, entry)
    if entry.is_default_action:
        want(update.type == p4runtime_pb2.Update.MODIFY, f"{name}: a default action is modified")
        want(not entry.match and entry.priority == 0, f"{name}: a default action matches nothing")
        want(table.const_default_action_id == 0, f"{name}: its default action is constant")
        return
    want(update.type == p4runtime_pb2.Update.INSERT, f"{name}: an entry is inserted")
    prioritised = check_match(table, entry)
    want((entry.priority > 0) == prioritised, f"{name}: priority {entry.priority}")
    key = (entry.table_id, entry.priority, tuple(sorted(m.SerializeToString(deterministic=True) for m in entry.match)))
    want(key not in keys, f"{name}: a second entry of one key")
    keys.add(key)


def batches(text):
    """The requests of a file: each begins with its comment."""
    parts, lines = [], []
    for line in text.splitlines(keepends=True):
        if line.startswith("# batch "):
            parts.append(lines)
            lines = []
        lines.append(line)
    parts.append(lines)
    head = "".join(parts[0])
    want(all(line.startswith("#") or not line.strip() for line in head.splitlines()), "something before the first batch")
    return ["".join(lines) for lines in parts[1:]]


def check(folder):
    with open(os.path.join(folder, "partywall.p4info.txtpb"), encoding="utf-8") as file:
        info = Info(file.read())
    with open(os.path.join(folder, "entries.txtpb"), encoding="utf-8") as file:
        requests = [text_format.Parse(part, p4runtime_pb2.WriteRequest()) for part in batches(file.read())]
    keys, defaults = set(), 0
    for request in requests:
        want(request.device_id != 0, "no device")
        want(request.election_id.high or request.election_id.low, "no election id")
        want(request.updates, "a request without updates")
        for update in request.updates:
            check_update(info, update, keys)
            defaults += update.entity.table_entry.is_default_action
        again = p4runtime_pb2.WriteRequest.FromString(request.SerializeToString())
        want(again == request, "bytes and back is another request")
    want(defaults == 1 and len(requests[-1].updates) == 1, "the last request alone puts the generation into force")
    for table in info.tables.values():
        held = sum(key[0] == table.preamble.id for key in keys)
        want(2 * held <= table.size, f"{table.preamble.name}: {held} entries twice, and room for {table.size}")
    print(f"{folder}: {len(keys)} entries in {len(requests)} requests are canonical")


def main():
    for folder in sys.argv[1:]:
        try:
            check(folder)
        except (Refused, text_format.ParseError) as error:
            print(f"{folder}: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
