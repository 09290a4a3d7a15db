//! The nodes' drop counters.

use crate::lab::error::LabError;
use crate::lab::tool;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Packets by drop reason.
pub(crate) type Drops = BTreeMap<String, u64>;

/// `nft -j list counters`.
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    counter: Option<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    packets: u64,
}

/// Reads the counters `drop_<reason>` of the nft target in a node's namespace, or the map `reasons` of the eBPF target.
///
/// # Errors
/// The table is not there, or its listing cannot be read.
pub(crate) fn read(netns: &str) -> Result<Drops, LabError> {
    let pins = crate::lab::ebpf::pins(netns);
    if pins.is_dir() {
        let what = format!("cannot read the counters of {netns}");
        return crate::ebpf::pins::reasons(&pins).map_err(|e| LabError::io(what)(std::io::Error::other(e)));
    }
    let args = ["netns", "exec", netns, "nft", "-j", "list", "counters", "table", "inet", "partywall"];
    parse(&tool::run("ip", &args)?)
        .map_err(|e| LabError::io(format!("cannot read the counters of {netns}"))(e.into()))
}

fn parse(json: &str) -> Result<Drops, serde_json::Error> {
    let listing: Listing = serde_json::from_str(json)?;
    let counters = listing.nftables.into_iter().filter_map(|item| item.counter);
    Ok(counters.filter_map(|c| Some((c.name.strip_prefix("drop_")?.replace('_', "-"), c.packets))).collect())
}

/// What came on top since `before`; reasons that did not move are left out.
pub(crate) fn since(before: &Drops, after: &Drops) -> Drops {
    after
        .iter()
        .map(|(reason, n)| (reason.clone(), n.saturating_sub(before.get(reason).copied().unwrap_or(0))))
        .filter(|(_, n)| *n > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, since};

    #[test]
    fn drop_counters_by_reason() {
        let listing = |n: u64| {
            format!(
                r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6"}}}},
                {{"counter":{{"family":"inet","name":"drop_bad_vtep","table":"partywall","handle":1,"packets":{n},"bytes":9}}}},
                {{"counter":{{"family":"inet","name":"rule_x","table":"partywall","handle":2,"packets":5,"bytes":9}}}}]}}"#
            )
        };
        let (before, after) = (parse(&listing(1)).unwrap(), parse(&listing(3)).unwrap());
        assert_eq!(since(&before, &after).into_iter().collect::<Vec<_>>(), [("bad-vtep".to_owned(), 2)]);
    }
}
