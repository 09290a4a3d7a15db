//! Of what the fabric delivers, the mark tells the VNI besides the role: asking for a device by its name is dear, and a packet is
//! looked up by its device twice.

use crate::linux::model::{Atom, Entry, Ruleset, Table};
use crate::linux::numbers::{arrival, vxlan_name};
use std::collections::BTreeMap;

/// Tables that give a role, by VNI.
const GIVEN: [Table; 4] = [Table::Legit4, Table::Legit6, Table::LegitRange4, Table::LegitRange6];
/// Tables that are asked by a VXLAN device and a role; those of pairs are asked by the role alone from here on.
const ASKED: [Table; 5] = [Table::Land4, Table::Land6, Table::Back, Table::In4, Table::In6];

/// Puts the VNI into the roles, takes the device out of the tables of pairs, and adds the conntrack zone by role.
///
/// SOUNDNESS: the kernel hands what it unpacks to the device of the VNI that it has read, which is the one that `fabric` has looked up, and
/// the base chains ask for the role in the mark of what comes by a device of the group alone. A fragment may wait with its mark until
/// another generation runs, so what the mark says of a tenant is no number of a generation.
pub(super) fn told(rules: &mut Ruleset) {
    let vnis = rules.tables.get(&Table::Vnis).into_iter().flat_map(BTreeMap::keys);
    let devices: BTreeMap<String, u32> = vnis
        .filter_map(|key| match key.as_slice() {
            [Atom::Vni(vni)] => Some((vxlan_name(*vni), *vni)),
            _ => None,
        })
        .collect();
    for table in GIVEN {
        for (key, entry) in rules.tables.get_mut(&table).into_iter().flatten() {
            if let ([_, Atom::Vni(vni), _], Some(Atom::Mark(role))) = (key.as_slice(), &mut entry.value) {
                *role = arrival(*role, *vni);
            }
        }
    }
    let mut zones: BTreeMap<Vec<Atom>, Entry> = BTreeMap::new();
    for table in ASKED {
        let Some(entries) = rules.tables.remove(&table) else { continue };
        let mut out = BTreeMap::new();
        for (mut key, entry) in entries {
            let Some(Atom::Device(device)) = key.first().cloned() else { continue };
            let pairs = matches!(table, Table::In4 | Table::In6);
            // What is under no VNI that arrives here comes with no role.
            let Some(vni) = devices.get(&device) else { continue };
            for atom in &mut key {
                if let Atom::Mark(role) = atom {
                    *role = arrival(*role, *vni);
                    let zone = rules
                        .tables
                        .get(&Table::Zone)
                        .and_then(|t| t.get(&vec![Atom::Device(device.clone())]));
                    if let Some(zone) = zone {
                        zones.insert(vec![Atom::Mark(*role)], zone.clone());
                    }
                }
            }
            if pairs {
                key.remove(0);
            }
            out.insert(key, entry);
        }
        rules.tables.insert(table, out);
    }
    if !zones.is_empty() {
        rules.tables.insert(Table::Arrived, zones);
    }
}
