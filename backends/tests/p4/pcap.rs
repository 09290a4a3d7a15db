//! Files of frames, as libpcap has them: little-endian, microseconds.

use std::io::{self, Write};

/// Writes what stands before the first frame.
pub fn begin(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
    to.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    to.write_all(&65_535u32.to_le_bytes())?;
    to.write_all(&1u32.to_le_bytes())
}

/// Writes frames, 50 µs apart.
pub fn frames<'a>(to: &mut impl Write, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    for (at, frame) in (0u32..).zip(frames) {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [at / 20_000, at % 20_000 * 50, length, length] {
            to.write_all(&word.to_le_bytes())?;
        }
        to.write_all(frame)?;
    }
    to.flush()
}

/// The whole frames of a file that somebody may still be writing.
pub fn read(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 24;
    while let Some(head) = pcap.get(at..at + 16) {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = pcap.get(at + 16..at + 16 + length) else { break };
        out.push(frame.to_vec());
        at += 16 + length;
    }
    out
}
