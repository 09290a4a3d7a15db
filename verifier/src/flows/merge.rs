//! Fewer boxes for the same flows.

use crate::cover::extent::Extent;

/// A box without one of its fields, and where that begins.
type Field = (fn(&Extent) -> Extent, fn(&Extent) -> u128);

/// Disjoint boxes for the same flows as these, which are disjoint: neighbours that differ on one field only are joined, field by field,
/// until none are left. Ascending; greedy, so there may be fewer still.
#[must_use]
pub fn merged(mut boxes: Vec<Extent>) -> Vec<Extent> {
    // Sorted by both, neighbours on the field stand side by side.
    let fields: [Field; 5] = [
        (|e| Extent { y: (0, 0), ..*e }, |e| e.y.0.into()),
        (|e| Extent { x: (0, 0), ..*e }, |e| e.x.0.into()),
        (|e| Extent { protocol: (0, 0), ..*e }, |e| e.protocol.0.into()),
        (|e| Extent { dst: (0, 0), ..*e }, |e| e.dst.0),
        (|e| Extent { src: (0, 0), ..*e }, |e| e.src.0),
    ];
    loop {
        let before = boxes.len();
        for (others, low) in fields {
            boxes.sort_unstable_by_key(|e| (others(e), low(e)));
            let mut out: Vec<Extent> = Vec::with_capacity(boxes.len());
            for next in boxes {
                match out.last_mut() {
                    Some(last) => match last.joined(&next) {
                        Some(joined) => *last = joined,
                        None => out.push(next),
                    },
                    None => out.push(next),
                }
            }
            boxes = out;
        }
        if boxes.len() == before {
            break;
        }
    }
    boxes.sort_unstable();
    boxes
}
