//! What the program asks of a kernel, read from its instructions and maps: which version has it all, and what the verifier says.

use backends::ebpf::OBJECT;
use backends::ebpf::schema::{Map, kind};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto, Linkage, Ptr};
use libbpf_rs::libbpf_sys as sys;
use libbpf_rs::{MapCore as _, Object, ObjectBuilder, PrintLevel, ProgramType, set_print};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;

/// What is used of the kernel: kind and name.
type Used = (&'static str, String);

/// Linux's first version with something.
type Version = (u32, u32);

const HELPER: &str = "helper";
const MAP: &str = "map type";
const FLAG: &str = "map flag";
const CODE: &str = "instructions";
const PROGRAM: &str = "program type";

/// Helpers by number (`enum bpf_func_id`).
const HELPERS: &[(u32, &str, Version)] = &[
    (1, "bpf_map_lookup_elem", (3, 19)),
    (2, "bpf_map_update_elem", (3, 19)),
    (3, "bpf_map_delete_elem", (3, 19)),
    (5, "bpf_ktime_get_ns", (4, 1)),
    (7, "bpf_get_prandom_u32", (4, 1)),
    (8, "bpf_get_smp_processor_id", (4, 1)),
    (9, "bpf_skb_store_bytes", (4, 1)),
    (10, "bpf_l3_csum_replace", (4, 1)),
    (11, "bpf_l4_csum_replace", (4, 1)),
    (20, "bpf_skb_get_tunnel_key", (4, 3)),
    (21, "bpf_skb_set_tunnel_key", (4, 3)),
    (23, "bpf_redirect", (4, 4)),
    (26, "bpf_skb_load_bytes", (4, 5)),
    (28, "bpf_csum_diff", (4, 6)),
    (34, "bpf_get_hash_recalc", (4, 8)),
    (38, "bpf_skb_change_tail", (4, 9)),
    (39, "bpf_skb_pull_data", (4, 9)),
    (40, "bpf_csum_update", (4, 9)),
    (41, "bpf_set_hash_invalid", (4, 9)),
    (43, "bpf_skb_change_head", (4, 10)),
    (48, "bpf_set_hash", (4, 13)),
    (50, "bpf_skb_adjust_room", (4, 13)),
    (69, "bpf_fib_lookup", (4, 18)),
    (118, "bpf_jiffies64", (5, 5)),
    (125, "bpf_ktime_get_boot_ns", (5, 8)),
    (130, "bpf_ringbuf_output", (5, 8)),
    (131, "bpf_ringbuf_reserve", (5, 8)),
    (132, "bpf_ringbuf_submit", (5, 8)),
    (133, "bpf_ringbuf_discard", (5, 8)),
    (152, "bpf_redirect_neigh", (5, 10)),
    (155, "bpf_redirect_peer", (5, 10)),
    (160, "bpf_ktime_get_coarse_ns", (5, 11)),
    (163, "bpf_check_mtu", (5, 12)),
    (164, "bpf_for_each_map_elem", (5, 13)),
];

/// Map types by number (`enum bpf_map_type`).
const MAPS: &[(u32, &str, Version)] = &[
    (1, "hash", (3, 19)),
    (2, "array", (3, 19)),
    (5, "percpu_hash", (4, 6)),
    (6, "percpu_array", (4, 6)),
    (9, "lru_hash", (4, 10)),
    (10, "lru_percpu_hash", (4, 10)),
    (11, "lpm_trie", (4, 11)),
    (12, "array_of_maps", (4, 12)),
    (27, "ringbuf", (5, 8)),
];

const FLAGS: &[(u32, &str, Version)] = &[
    (sys::BPF_F_NO_PREALLOC, "no_prealloc", (4, 6)),
    (sys::BPF_F_INNER_MAP, "inner_map (arrays of any length in one outer map)", (5, 10)),
];

/// All else, by the name that `program` and `maps` give it.
const OTHERS: &[(&str, Version)] = &[
    (CLASSIFIER, (4, 4)),
    ("calls between functions", (4, 16)),
    ("32-bit jumps", (5, 1)),
    ("global functions that take pointers", (5, 12)),
    ("atomic operations that return something", (5, 12)),
    ("functions as arguments", (5, 13)),
];

const CLASSIFIER: &str = "sched_cls, direct action";

/// The oldest kernel that is claimed: the first one kept up for years that has all of it.
const CLAIMED: Version = (5, 15);

/// What a kernel may have and need not: the loader has another way.
const OPTIONAL: &[(&str, &str, Version, &str)] = &[
    ("attachment", "tcx link", (6, 6), "else a filter of `clsact` (4.5)"),
    (
        "helper's flag",
        "`BPF_F_ADJ_ROOM_DECAP_L3_IPV6`",
        (6, 3),
        "else the VXLAN device takes IPv6 frames out",
    ),
    ("helper's flag", "`BPF_F_ADJ_ROOM_ENCAP_L2_ETH`", (5, 13), "else the VXLAN device puts frames in"),
    ("map operation", "batch update", (5, 6), "`partywall apply`; `load.sh` writes entry by entry"),
];

fn since(used: &Used) -> Version {
    let (kind, name) = used;
    let listed = |table: &[(u32, &str, Version)]| {
        table.iter().find(|(_, listed, _)| listed == name).map(|(_, _, version)| *version)
    };
    let version = match *kind {
        HELPER => listed(HELPERS),
        MAP => listed(MAPS),
        FLAG => listed(FLAGS),
        _ => OTHERS.iter().find(|(listed, _)| listed == name).map(|(_, version)| *version),
    };
    version.unwrap_or_else(|| panic!("{kind} {name}: since when?"))
}

fn named(kind: &'static str, table: &[(u32, &str, Version)], number: u32) -> Used {
    let found = table.iter().find(|(listed, ..)| *listed == number);
    (kind, found.unwrap_or_else(|| panic!("{kind} {number}: what is it, and since when?")).1.to_owned())
}

/// What an instruction calls.
enum Calls {
    Helper(u32),
    /// A function of the program, by its first instruction.
    Function(usize),
    /// One that a helper is given.
    Callback(usize),
}

fn calls(at: usize, insn: &sys::bpf_insn) -> Option<Calls> {
    let to = || usize::try_from(i64::try_from(at).unwrap() + i64::from(insn.imm) + 1).unwrap();
    match (insn.code, u32::from(insn.src_reg())) {
        (0x85, 0) => Some(Calls::Helper(u32::try_from(insn.imm).unwrap())),
        (0x85, sys::BPF_PSEUDO_CALL) => Some(Calls::Function(to())),
        (0x85, other) => panic!("a call of kind {other}: kernel functions have no stable interface"),
        (0x18, sys::BPF_PSEUDO_FUNC) => Some(Calls::Callback(to())),
        _ => None,
    }
}

fn of_instructions(insns: &[sys::bpf_insn], used: &mut BTreeSet<Used>) {
    for (at, insn) in insns.iter().enumerate() {
        let mut other = |name: &str| used.insert((CODE, name.to_owned()));
        match calls(at, insn) {
            Some(Calls::Helper(number)) => drop(used.insert(named(HELPER, HELPERS, number))),
            Some(Calls::Function(_)) => drop(other("calls between functions")),
            Some(Calls::Callback(_)) => drop(other("functions as arguments")),
            None => {}
        }
        let mut other = |name: &str| used.insert((CODE, name.to_owned()));
        // Class JMP32; STX with the mode ATOMIC and anything but a plain addition.
        if insn.code & 7 == 6 {
            other("32-bit jumps");
        }
        if insn.code & 7 == 3 && insn.code & 0xe0 == 0xc0 && insn.imm != 0 {
            other("atomic operations that return something");
        }
    }
}

/// All that the loaded program and its maps need.
fn used(object: &Object) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    let mut entries = BTreeSet::new();
    for program in object.progs() {
        assert_eq!(program.prog_type(), ProgramType::SchedCls);
        used.insert((PROGRAM, CLASSIFIER.to_owned()));
        entries.insert(program.name().to_owned());
        of_instructions(program.insns(), &mut used);
    }
    let mut shapes: Vec<(u32, u32)> = object.maps().map(|m| (m.map_type().into(), 0)).collect();
    for map in Map::ALL {
        let (kind, _, _, flags) = map.shape();
        shapes.push((kind, flags));
    }
    assert!(shapes.iter().any(|(number, _)| *number == kind::LPM_TRIE));
    for (number, flags) in shapes {
        used.insert(named(MAP, MAPS, number));
        for bit in (0..32).map(|bit| 1 << bit).filter(|bit| flags & bit != 0) {
            used.insert(named(FLAG, FLAGS, bit));
        }
    }
    let btf = Btf::from_raw("partywall", OBJECT).unwrap().unwrap();
    let mut functions =
        (1..u32::try_from(btf.len()).unwrap()).filter_map(|id| btf.type_by_id::<Func<'_>>(id.into()));
    let takes_pointers = |f: &Func<'_>| {
        let proto: FuncProto<'_> = f.next_type().unwrap().try_into().unwrap();
        // The first is the packet.
        proto.iter().skip(1).any(|p| btf.type_by_id::<Ptr<'_>>(p.ty).is_some())
    };
    if functions
        .any(|f| f.linkage() == Linkage::Global && !entries.contains(f.name().unwrap()) && takes_pointers(&f))
    {
        used.insert((CODE, "global functions that take pointers".to_owned()));
    }
    used
}

/// The table of the manual, and the version that has all that is needed.
pub fn table() -> (String, Version) {
    let object = ObjectBuilder::default().open_memory(OBJECT).unwrap().load().unwrap();
    let mut rows: Vec<(Version, Used)> = used(&object).into_iter().map(|used| (since(&used), used)).collect();
    rows.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
    let newest = rows[0].0;
    assert!(newest <= CLAIMED, "{:?} is newer than the kernel that is claimed, {CLAIMED:?}", rows[0]);
    let mut out = "| since Linux | what | name |\n|---|---|---|\n".to_owned();
    for (kind, name, (major, minor), otherwise) in OPTIONAL {
        let _ = writeln!(out, "| {major}.{minor}, not needed | {kind} | {name}; {otherwise} |");
    }
    for ((major, minor), (kind, name)) in rows {
        let code = if matches!(kind, CODE | PROGRAM) { "" } else { "`" };
        let _ = writeln!(out, "| {major}.{minor} | {kind} | {code}{name}{code} |");
    }
    (out, newest)
}

/// What the verifier says of a program.
#[derive(Debug)]
pub struct Verified {
    pub program: String,
    /// Instructions of the program.
    pub length: usize,
    /// Instructions that the verifier walked.
    pub walked: u64,
    /// Bytes of stack along the deepest chain of calls, each function's rounded up as kernels do.
    pub stack: u64,
    /// The functions of that chain, in bytes of stack.
    pub chain: Vec<u64>,
}

/// The kernel's bounds.
pub const MOST_WALKED: u64 = 1_000_000;
pub const MOST_STACK: u64 = 512;

static TOLD: Mutex<String> = Mutex::new(String::new());

/// Loads the program once more, and reads what the verifier counted.
pub fn verified() -> Vec<Verified> {
    set_print(Some((PrintLevel::Debug, |_, text| TOLD.lock().unwrap().push_str(&text))));
    let mut open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
    for mut program in open.progs_mut() {
        // BPF_LOG_STATS
        program.set_log_level(4);
    }
    let object = open.load().unwrap();
    let told = TOLD.lock().unwrap().clone();
    object
        .progs()
        .map(|p| {
            let program = p.name().to_string_lossy().into_owned();
            let begin = format!("prog '{program}': -- BEGIN PROG LOAD LOG --");
            let log =
                told.split_once(&begin).unwrap_or_else(|| panic!("nothing is said of {program}: {told}")).1;
            let walked = log.split_once("processed ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
            let depths = log.split_once("stack depth ").unwrap().1.split_whitespace().next().unwrap();
            let depths: Vec<u64> = depths.split('+').map(|n| n.parse().unwrap()).collect();
            let chain = deepest(p.insns(), &depths);
            let stack = chain.iter().map(|n| rounded(*n)).sum();
            Verified { program, length: p.insn_cnt(), walked, stack, chain }
        })
        .collect()
}

fn rounded(depth: u64) -> u64 {
    depth.max(1).next_multiple_of(32)
}

/// The chain of calls that takes the most stack; `depths` are of the functions in their order.
fn deepest(insns: &[sys::bpf_insn], depths: &[u64]) -> Vec<u64> {
    let mut starts = BTreeSet::from([0]);
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (at, insn) in insns.iter().enumerate() {
        if let Some(Calls::Function(to) | Calls::Callback(to)) = calls(at, insn) {
            starts.insert(to);
            edges.push((at, to));
        }
    }
    assert_eq!(starts.len(), depths.len(), "functions");
    let number = |at: usize| starts.range(..=at).count() - 1;
    let mut callees: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (at, to) in edges {
        callees.entry(number(at)).or_default().insert(number(to));
    }
    fn down(f: usize, callees: &BTreeMap<usize, BTreeSet<usize>>, depths: &[u64]) -> Vec<u64> {
        let below = callees.get(&f).into_iter().flatten().map(|g| down(*g, callees, depths));
        let longest = below.max_by_key(|chain| chain.iter().map(|n| rounded(*n)).sum::<u64>());
        [vec![depths[f]], longest.unwrap_or_default()].concat()
    }
    down(0, &callees, depths)
}
