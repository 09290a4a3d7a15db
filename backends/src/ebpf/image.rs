//! Map images: a file per map (reference "Artifacts"). Little-endian; entries sorted by key; a BLAKE3 digest at the end.

use std::collections::BTreeMap;

/// First bytes of every image.
pub const MAGIC: &[u8; 6] = b"PWMAP\0";
/// Version of the format.
pub const VERSION: u16 = 1;
const HEAD: usize = 6 + 2 + 5 * 4 + 8;
const DIGEST: usize = 32;

/// What a map is and holds. `kind` and `flags` are the kernel's numbers; keys and values have the sizes said, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub kind: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Why bytes are no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Magic,
    /// The version that stands there.
    Version(u16),
    /// Bytes that the head promises, and that there are.
    Size {
        expected: u64,
        found: u64,
    },
    /// The entry, from 0, that does not come after the one before it.
    Order(u64),
    Digest,
    /// More entries than the map holds.
    Full {
        entries: u64,
        max_entries: u32,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => f.write_str("does not begin with the magic of a map image"),
            Self::Version(version) => write!(f, "has format version {version}, and {VERSION} is known"),
            Self::Size { expected, found } => write!(f, "has {found} bytes where {expected} are announced"),
            Self::Order(entry) => write!(f, "entry {entry} is not above the one before it"),
            Self::Digest => f.write_str("does not end in the digest of what it holds"),
            Self::Full { entries, max_entries } => {
                write!(f, "has {entries} entries for a map of at most {max_entries}")
            }
        }
    }
}

impl std::error::Error for Refused {}

impl Image {
    /// The image's bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + DIGEST);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        for word in [self.kind, self.key_size, self.value_size, self.max_entries, self.flags] {
            out.extend(word.to_le_bytes());
        }
        out.extend(u64::try_from(self.entries.len()).unwrap_or(u64::MAX).to_le_bytes());
        for (key, value) in &self.entries {
            out.extend(key);
            out.extend(value);
        }
        let digest = blake3::hash(&out);
        out.extend(digest.as_bytes());
        out
    }

    /// Reads an image back.
    ///
    /// # Errors
    /// The first thing that is not as [`Image::write`] writes it.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(Refused::Magic);
        }
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let least = u64::try_from(HEAD + DIGEST).unwrap_or(u64::MAX);
        let (Some(head), true) = (bytes.get(..HEAD), found >= least) else {
            return Err(Refused::Size { expected: least, found });
        };
        let version = u16::from_le_bytes(array(head, 6));
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        let word = |at: usize| u32::from_le_bytes(array(head, 8 + 4 * at));
        let count = u64::from_le_bytes(array(head, 28));
        let (key_size, value_size, max_entries) = (word(1), word(2), word(3));
        let entry = u64::from(key_size) + u64::from(value_size);
        let expected = count.checked_mul(entry).and_then(|n| n.checked_add(least)).unwrap_or(u64::MAX);
        if expected != found || (entry == 0 && count > 0) {
            return Err(Refused::Size { expected, found });
        }
        let (body, digest) = bytes.split_at(bytes.len() - DIGEST);
        if blake3::hash(body).as_bytes().as_slice() != digest {
            return Err(Refused::Digest);
        }
        if count > u64::from(max_entries) {
            return Err(Refused::Full { entries: count, max_entries });
        }
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let mut entries = BTreeMap::new();
        let mut last: Option<&[u8]> = None;
        let rest = body.get(HEAD..).unwrap_or_default();
        for (number, both) in
            rest.chunks_exact(size(key_size).saturating_add(size(value_size)).max(1)).enumerate()
        {
            let (key, value) = both.split_at(size(key_size));
            if last.is_some_and(|last| last >= key) {
                return Err(Refused::Order(u64::try_from(number).unwrap_or(u64::MAX)));
            }
            last = Some(key);
            entries.insert(key.to_vec(), value.to_vec());
        }
        Ok(Self { kind: word(0), key_size, value_size, max_entries, flags: word(4), entries })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}
