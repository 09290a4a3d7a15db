//! Two states side by side, and what is to be done about each difference.

use super::scratch::Expected;
use super::snapshot::{Kind, Snapshot};
use backends::iproute2::group;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that is not as the artifacts have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `device`, `setting`, `nft rule`, …
    pub kind: &'static str,
    /// Which one.
    pub what: String,
    /// Absent: it should not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Absent: it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What to do.
    pub mend: String,
    #[serde(skip)]
    pub(crate) remedy: Remedy,
}

/// For people, on one line.
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let expected = self.expected.as_ref().map_or("nothing".to_owned(), |text| format!("`{text}`"));
        let found = self.found.as_ref().map_or("nothing".to_owned(), |text| format!("`{text}`"));
        write!(
            f,
            "{} {}: expected {expected}, there is {found}; to mend: {}",
            self.kind, self.what, self.mend
        )
    }
}

/// How `apply` mends a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// `apply.sh` puts it back.
    Apply,
    /// It lies in what a generation stages once: the generation is installed again beside itself.
    Reinstall,
    /// The program itself: it is loaded again.
    Reload,
    /// Commands that take away what is ours and should not be there.
    Remove(Vec<Vec<String>>),
    /// A VXLAN device with attributes that cannot be changed.
    Recreate(String),
    /// A base chain at another place than ours: it is made again, in one transaction with all others.
    Rebase(String),
    /// Not ours to touch.
    Operator,
}

const MEND: &str = "partywall apply";

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Program => "program",
            Self::Setting => "setting",
            Self::Table => "nft table",
            Self::Chain => "nft chain",
            Self::Rule => "nft rule",
            Self::Set => "nft set",
            Self::Element => "nft element",
            Self::Counter => "nft counter",
            Self::Object => "nft object",
            Self::Policy => "rule",
            Self::Route => "route",
            Self::Address => "address",
            Self::Neighbour => "neighbour",
            Self::Proxy => "proxy neighbour",
            Self::Fdb => "forwarding entry",
        }
    }
}

pub(super) struct Comparison<'a> {
    expected: &'a Expected,
    live: &'a Snapshot,
    /// Setting → value, where the kernel has it.
    settings: &'a BTreeMap<String, String>,
    /// Lines of `links.batch` of other generations that were installed here.
    older: &'a BTreeSet<String>,
    /// What the running generation's names end in.
    suffix: &'a str,
    /// Devices that are not there or are down: what goes with them is no difference of its own.
    gone: BTreeSet<&'a str>,
    /// Devices with another MAC or without ARP: the kernel forgot their neighbours when that changed.
    moved: BTreeSet<&'a str>,
    /// Devices without IPv6.
    bare: BTreeSet<&'a str>,
    /// What VXLAN devices are to be bound to and is not there.
    unbound: Option<&'a str>,
    out: Vec<Difference>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        expected: &'a Expected,
        live: &'a Snapshot,
        settings: &'a BTreeMap<String, String>,
        older: &'a BTreeSet<String>,
        suffix: &'a str,
    ) -> Self {
        Self {
            expected,
            live,
            settings,
            older,
            suffix,
            gone: BTreeSet::new(),
            moved: BTreeSet::new(),
            bare: BTreeSet::new(),
            unbound: None,
            out: Vec::new(),
        }
    }

    /// All differences, causes before consequences, each once.
    pub(super) fn run(mut self, underlay: &'a BTreeSet<String>) -> Vec<Difference> {
        self.underlay(underlay);
        self.devices();
        self.set_values();
        for (kind, key, value) in self.expected.snapshot.items() {
            match self.live.item(kind, key) {
                Some(found) if found == value => {}
                Some(found) => self.changed(kind, key, value, found),
                None => self.missing(kind, key, value),
            }
        }
        for (kind, key, value) in self.live.items() {
            if self.expected.snapshot.item(kind, key).is_none() {
                self.extra(kind, key, value);
            }
        }
        self.rules();
        self.out.sort_by(|a, b| (a.kind, &a.what, &a.found).cmp(&(b.kind, &b.what, &b.found)));
        self.out
    }

    fn push(
        &mut self,
        kind: Kind,
        what: &str,
        sides: (Option<&str>, Option<&str>),
        remedy: Remedy,
        mend: Option<String>,
    ) {
        let mend = mend.unwrap_or_else(|| match &remedy {
            Remedy::Remove(commands) => {
                let shown: Vec<String> = commands.iter().map(|command| shell(command)).collect();
                format!("{MEND}, or: {}", shown.join("; "))
            }
            _ => MEND.to_owned(),
        });
        self.out.push(Difference {
            kind: kind.name(),
            what: what.to_owned(),
            expected: sides.0.map(str::to_owned),
            found: sides.1.map(str::to_owned),
            mend,
            remedy,
        });
    }

    /// Without it no VXLAN device can be made, and one that is bound to it under another name still works.
    fn underlay(&mut self, underlay: &'a BTreeSet<String>) {
        self.unbound = underlay.iter().find(|name| !self.live.present.contains(*name)).map(String::as_str);
        if let Some(name) = self.unbound {
            let mend = format!("make {name}, or give it its name back, then {MEND}");
            self.push(Kind::Device, name, (Some("there"), None), Remedy::Operator, Some(mend));
        }
    }

    fn devices(&mut self) {
        for (name, group) in &self.expected.snapshot.groups {
            if !self.live.groups.contains_key(name) {
                self.gone.insert(name);
                let (remedy, mend) = match *group {
                    group::FABRIC if self.unbound.is_some() => continue,
                    group::FABRIC => (Remedy::Apply, None),
                    _ => (Remedy::Operator, Some(format!("start what {name} belongs to, then {MEND}"))),
                };
                self.push(Kind::Device, name, (Some("there"), None), remedy, mend);
            } else if !self.live.up.contains(name) {
                self.gone.insert(name);
            }
            let differs = |attribute: &str| {
                let key = format!("{name} {attribute}");
                self.expected.snapshot.item(Kind::Device, &key) != self.live.item(Kind::Device, &key)
            };
            if differs("MAC") || differs("ARP") {
                self.moved.insert(name);
            }
            if differs("IPv6") {
                self.bare.insert(name);
            }
        }
        for (name, group) in &self.live.groups {
            if self.expected.snapshot.groups.contains_key(name) {
                continue;
            }
            match *group {
                group::FABRIC => {
                    let vxlan = self.live.item(Kind::Device, &format!("{name} kind")) == Some("vxlan");
                    let ours = vxlan && name.starts_with("pwv");
                    let mend = format!("ip link set dev {name} group default");
                    let (remedy, mend) =
                        if ours { (Remedy::Apply, None) } else { (Remedy::Operator, Some(mend)) };
                    self.push(
                        Kind::Device,
                        name,
                        (None, Some("in partywall's group for VXLAN")),
                        remedy,
                        mend,
                    );
                }
                group::OUTSIDE => {
                    let command = ["ip", "link", "set", "dev", name, "group", "default"].map(str::to_owned);
                    let ours =
                        self.older.iter().any(|l| l.starts_with(&format!("link set dev {name} group ")));
                    let mend = (!ours).then(|| shell(&command));
                    let remedy = if ours { Remedy::Remove(vec![command.to_vec()]) } else { Remedy::Operator };
                    self.push(
                        Kind::Device,
                        name,
                        (None, Some("in partywall's group for externals")),
                        remedy,
                        mend,
                    );
                }
                // A workload's device without an endpoint is closed, which is what it should be.
                _ => {}
            }
        }
    }

    fn set_values(&mut self) {
        for (key, value) in &self.expected.settings {
            if let Some(found) = self.settings.get(key)
                && found != value
            {
                let name = format!("net/{key}");
                self.push(Kind::Setting, &name, (Some(value), Some(found)), Remedy::Apply, None);
            }
        }
    }

    /// Whether a difference of this item is told by that of something else: its device, its table, its set.
    fn told(&self, of: &Snapshot, kind: Kind, key: &str) -> bool {
        let other = if std::ptr::eq(of, self.live) { &self.expected.snapshot } else { self.live };
        if let Some(device) = of.of.get(&(kind, key.to_owned())) {
            let gone = self.gone.contains(device.as_str());
            if self.bare.contains(device.as_str()) && is_ipv6(kind, key) {
                return true;
            }
            return match kind {
                Kind::Neighbour if self.moved.contains(device.as_str()) => true,
                Kind::Device => !other.groups.contains_key(device),
                // A device that is down loses these.
                Kind::Route | Kind::Neighbour | Kind::Proxy | Kind::Address => gone,
                _ => gone && !self.live.groups.contains_key(device),
            };
        }
        match kind {
            Kind::Chain | Kind::Set | Kind::Counter | Kind::Object => {
                let table = table_of(key.strip_prefix("limit ").unwrap_or(key));
                other.item(Kind::Table, &table).is_none()
            }
            Kind::Element => {
                let set = key.split(" { ").next().unwrap_or(key);
                other.item(Kind::Set, set).is_none()
            }
            Kind::Table => key.contains(": ") && other.item(Kind::Table, &table_of(key)).is_none(),
            _ => false,
        }
    }

    fn staged(&self, key: &str) -> Remedy {
        let name = key.split(" { ").next().unwrap_or(key);
        let own = name.ends_with(&format!("_{}", self.suffix));
        // The maps that lead a slot to its chains are filled when a generation is staged.
        if own || name.contains(" slot_") { Remedy::Reinstall } else { Remedy::Apply }
    }

    fn remedy(&self, kind: Kind, key: &str) -> Remedy {
        match kind {
            Kind::Chain | Kind::Rule | Kind::Set | Kind::Element | Kind::Counter | Kind::Object => {
                if kind == Kind::Counter && key.contains(" rule_") {
                    return Remedy::Reinstall;
                }
                self.staged(key)
            }
            Kind::Device => {
                let (name, attribute) = key.split_once(' ').unwrap_or((key, ""));
                let fabric = self.expected.snapshot.groups.get(name) == Some(&group::FABRIC);
                match attribute {
                    "bridge or bond" => {
                        let free = ["ip", "link", "set", "dev", name, "nomaster"].map(str::to_owned);
                        Remedy::Remove(vec![free.to_vec()])
                    }
                    "ARP" => {
                        let on = ["ip", "link", "set", "dev", name, "arp", "on"].map(str::to_owned);
                        Remedy::Remove(vec![on.to_vec()])
                    }
                    "IPv6" => Remedy::Operator,
                    // What cannot be made again is not taken away.
                    _ if fabric && attribute != "state" && self.unbound.is_some() => Remedy::Operator,
                    _ if fabric
                        && (attribute == "MAC" || attribute.starts_with("vxlan ") || attribute == "kind") =>
                    {
                        Remedy::Recreate(name.to_owned())
                    }
                    // Up and down of others' devices is theirs.
                    "state" if !fabric => Remedy::Operator,
                    _ => Remedy::Apply,
                }
            }
            Kind::Policy if !key.ends_with(" protocol 87") => Remedy::Operator,
            _ => Remedy::Apply,
        }
    }

    fn missing(&mut self, kind: Kind, key: &str, value: &str) {
        if self.told(&self.expected.snapshot, kind, key) {
            return;
        }
        let remedy = self.remedy(kind, key);
        let mend = match remedy {
            Remedy::Operator if kind == Kind::Policy => {
                Some("ip rule add preference 0 lookup local".to_owned())
            }
            _ => None,
        };
        let value = if value.is_empty() { "there" } else { value };
        self.push(kind, key, (Some(value), None), remedy, mend);
    }

    fn changed(&mut self, kind: Kind, key: &str, value: &str, found: &str) {
        if kind == Kind::Device && (self.told(&self.expected.snapshot, kind, key) || self.no_matter(key)) {
            return;
        }
        let place = |chain: &str| chain.split("; policy").next().map(str::to_owned);
        let remedy = match kind {
            Kind::Chain if !value.is_empty() && place(value) != place(found) => {
                Remedy::Rebase(key.to_owned())
            }
            _ => self.remedy(kind, key),
        };
        let mend = match (&remedy, key.split_once(' ')) {
            (Remedy::Operator, Some((name, "state"))) => {
                Some(format!("ip link set dev {name} up, then {MEND}"))
            }
            (Remedy::Operator, Some((name, "IPv6"))) => Some(format!(
                "sysctl -w net.ipv6.conf.{name}.disable_ipv6=0, with an MTU of 1280 or more, then {MEND}"
            )),
            (Remedy::Operator, Some(_)) => self.unbound.map(|name| format!("make {name}, then {MEND}")),
            _ => None,
        };
        self.push(kind, key, (Some(value), Some(found)), remedy, mend);
    }

    /// Whether it does not matter, or is told by something else, that a device's attribute is another one.
    fn no_matter(&self, key: &str) -> bool {
        match key.split_once(' ') {
            // Bound to the one that is not there under this name.
            Some((_, "vxlan link")) => self.unbound.is_some(),
            // No packet is routed there by IPv6.
            Some((name, "IPv6")) => !self.expected.snapshot.items().any(|(kind, key, _)| {
                let of = || self.expected.snapshot.of.get(&(kind, key.to_owned()));
                kind == Kind::Route && is_ipv6(kind, key) && of().is_some_and(|device| device == name)
            }),
            _ => false,
        }
    }

    fn extra(&mut self, kind: Kind, key: &str, value: &str) {
        if self.told(self.live, kind, key) {
            return;
        }
        let item = (kind, key.to_owned());
        let removal = self.live.removal.get(&item).cloned();
        let device = self.live.of.get(&item).map(String::as_str);
        let found = if value.is_empty() { "there" } else { value };
        let (remedy, mend) = match kind {
            Kind::Policy if self.live.foreign.contains(key) => {
                let mend = "somebody else's rule that tenants' packets can meet before partywall's: give it a preference above 20567, or restrict it to devices of the host (iif)";
                (Remedy::Operator, Some(mend.to_owned()))
            }
            Kind::Address | Kind::Neighbour | Kind::Proxy => {
                let fabric = device.is_some_and(|d| self.live.groups.get(d) == Some(&group::FABRIC));
                let known = device.is_some_and(|d| self.expected.snapshot.groups.contains_key(d));
                match removal {
                    Some(removal) if fabric || self.left(kind, key, value) => {
                        (Remedy::Remove(vec![removal]), None)
                    }
                    // On a device without an endpoint, and not of our making.
                    _ if !known => return,
                    Some(removal) => (Remedy::Operator, Some(shell(&removal))),
                    None => (Remedy::Operator, None),
                }
            }
            Kind::Device => match self.remedy(kind, key) {
                Remedy::Operator => return,
                remedy => (remedy, None),
            },
            Kind::Table => (Remedy::Apply, None),
            Kind::Chain => match self.left_by_generation(key) {
                true => (Remedy::Apply, None),
                false => {
                    let text = format!("flush chain {key}; delete chain {key}");
                    (Remedy::Remove(vec![vec!["nft".into(), text]]), None)
                }
            },
            Kind::Set | Kind::Counter | Kind::Object => {
                match self.left_by_generation(key) || key.contains(" rule_") {
                    true => (Remedy::Apply, None),
                    false => {
                        let noun = match kind {
                            Kind::Set => value.split(' ').next().unwrap_or("set"),
                            Kind::Counter => "counter",
                            _ => "",
                        };
                        let text = format!("delete {noun} {key}").replace("  ", " ");
                        (Remedy::Remove(vec![vec!["nft".into(), text]]), None)
                    }
                }
            }
            Kind::Element => (self.element_remedy(key), None),
            Kind::Program => (Remedy::Operator, removal.map(|words| words.join(" "))),
            _ => (removal.map_or(Remedy::Operator, |r| Remedy::Remove(vec![r])), None),
        };
        self.push(kind, key, (None, Some(found)), remedy, mend);
    }

    /// The slot that does not run may still lead to what was before.
    fn element_remedy(&self, key: &str) -> Remedy {
        if key.contains(" slot_") { Remedy::Apply } else { self.staged(key) }
    }

    fn left_by_generation(&self, key: &str) -> bool {
        key.rsplit_once('_').is_some_and(|(_, end)| {
            end.len() == 8
                && end != self.suffix
                && end.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// Whether an older generation wrote this onto a device that is not ours.
    fn left(&self, kind: Kind, key: &str, value: &str) -> bool {
        let line = match kind {
            Kind::Address => format!("address replace {key} "),
            Kind::Proxy => format!("neighbour replace proxy {key}"),
            _ => {
                let Some((address, device)) = key.split_once(" dev ") else { return false };
                let mac = value.trim_end_matches(" permanent");
                format!("neighbour replace {address} lladdr {mac} dev {device} ")
            }
        };
        let (exact, start) = (kind == Kind::Proxy, line);
        self.older.iter().any(|l| if exact { *l == start } else { l.starts_with(&start) })
    }

    /// Rules in chains that both sides have: which are missing, which are too many; or their order.
    fn rules(&mut self) {
        for (chain, expected) in &self.expected.snapshot.chains {
            let Some(found) = self.live.chains.get(chain) else { continue };
            if expected == found {
                continue;
            }
            let remedy = self.staged(chain);
            let missing = without(expected, found);
            let extra = without(found, expected);
            if missing.is_empty() && extra.is_empty() {
                let at = expected.iter().zip(found).position(|(e, f)| e != f).unwrap_or_default();
                let what = format!("{chain}, order from rule {}", at + 1);
                let sides = (expected.get(at).map(String::as_str), found.get(at).map(String::as_str));
                self.push(Kind::Rule, &what, sides, remedy, None);
                continue;
            }
            for (at, rule) in missing {
                let what = format!("{chain}, rule {}", at + 1);
                self.push(Kind::Rule, &what, (Some(rule), None), remedy.clone(), None);
            }
            for (at, rule) in extra {
                let what = format!("{chain}, at place {}", at + 1);
                self.push(Kind::Rule, &what, (None, Some(rule)), remedy.clone(), None);
            }
        }
    }
}

/// Whether a route, address or neighbour is of IPv6.
fn is_ipv6(kind: Kind, key: &str) -> bool {
    match kind {
        Kind::Route => key.starts_with("IPv6 "),
        Kind::Address | Kind::Neighbour | Kind::Proxy => {
            key.split(' ').next().is_some_and(|a| a.contains(':'))
        }
        _ => false,
    }
}

/// What `of` has more often than `than`, with places.
fn without<'a>(of: &'a [String], than: &[String]) -> Vec<(usize, &'a str)> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in than {
        *left.entry(rule).or_default() += 1;
    }
    of.iter()
        .enumerate()
        .filter(|(_, rule)| match left.get_mut(rule.as_str()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .map(|(at, rule)| (at, rule.as_str()))
        .collect()
}

/// `inet partywall` of `inet partywall decide`.
fn table_of(key: &str) -> String {
    let words: Vec<&str> = key.split([' ', ':']).collect();
    let start = words.iter().position(|w| matches!(*w, "inet" | "arp")).unwrap_or_default();
    words.iter().skip(start).take(2).copied().collect::<Vec<_>>().join(" ")
}

/// A command as a shell reads it.
fn shell(command: &[String]) -> String {
    let word = |w: &String| {
        let plain = !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-+@,=".contains(c));
        if plain { w.clone() } else { format!("'{}'", w.replace('\'', "'\\''")) }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}
