//! The files of a run: paths, texts, lines and columns.

use crate::span::{FileId, Span};

/// A place for people: lines and columns from 1, columns in Unicode characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// One file's text.
#[derive(Debug, Clone)]
pub struct Source {
    path: String,
    text: String,
    /// Byte offset at which each line begins.
    lines: Vec<u32>,
    /// Characters before each line; empty where every character is one byte.
    chars: Vec<u32>,
}

impl Source {
    /// A file's text; `path` is relative to the project's root, with `/`. What was not UTF-8 may be given lossily:
    /// the place of the first bad byte is the same in both.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines: Vec<u32> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .map(|at| u32::try_from(at).unwrap_or(u32::MAX))
            .collect();
        let chars = if text.is_ascii() { Vec::new() } else { chars_before_lines(&text) };
        Self { path: path.into(), text, lines, chars }
    }

    /// Relative to the project's root, with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a byte offset lies; one inside a character or after the end counts as the boundary before it.
    #[must_use]
    pub fn position(&self, offset: u32) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or_default() as usize;
        let end = self.floor(offset).max(start);
        let column = self.chars_between(start, end);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
        Position { line: number(line), column: number(column) }
    }

    fn chars_between(&self, start: usize, end: usize) -> usize {
        if self.chars.is_empty() {
            return end.saturating_sub(start);
        }
        self.text.get(start..end).map_or(0, |text| text.chars().count())
    }

    /// How many characters stand before a byte offset.
    pub(crate) fn chars_before(&self, offset: u32) -> usize {
        let line = self.lines.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or_default() as usize;
        let before = self.chars.get(line).copied().map_or(start, |chars| chars as usize);
        before + self.chars_between(start, self.floor(offset).max(start))
    }

    /// The nearest character boundary at or before `offset`, within the text.
    #[must_use]
    pub fn floor(&self, offset: u32) -> usize {
        let mut at = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The text of a line (from 1), without its end.
    #[must_use]
    pub fn line(&self, line: u32) -> Option<&str> {
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        let start = *self.lines.get(index)? as usize;
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        self.text.get(start..end).map(|line| line.trim_end_matches(['\n', '\r']))
    }
}

/// The files of a run, by their [`FileId`].
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Extend<Source> for Sources {
    fn extend<T: IntoIterator<Item = Source>>(&mut self, files: T) {
        self.files.extend(files);
    }
}

impl Sources {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, see [`Source::new`].
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let id = self.next();
        self.files.push(Source::new(path, text));
        id
    }

    /// The id that the next file added gets.
    #[must_use]
    pub fn next(&self) -> FileId {
        FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX))
    }

    #[must_use]
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.files.get(usize::try_from(file.0).ok()?)
    }

    /// The file's path; empty for one that is not known.
    #[must_use]
    pub fn path(&self, file: FileId) -> &str {
        self.get(file).map_or("", Source::path)
    }

    /// Begin and (exclusive) end of a span.
    #[must_use]
    pub fn range(&self, span: Span) -> (Position, Position) {
        let first = Position { line: 1, column: 1 };
        self.get(span.file)
            .map_or((first, first), |source| (source.position(span.start), source.position(span.end)))
    }

    /// The text of a span; empty where it lies in no file.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.file)
            .and_then(|source| source.text.get(source.floor(span.start)..source.floor(span.end)))
            .unwrap_or_default()
    }

    /// Every file in the order in which it was added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.files
            .iter()
            .enumerate()
            .map(|(at, source)| (FileId(u32::try_from(at).unwrap_or(u32::MAX)), source))
    }
}

/// How many characters stand before each line.
fn chars_before_lines(text: &str) -> Vec<u32> {
    let mut before = 0_u32;
    let mut out = vec![0];
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        before = before.saturating_add(u32::try_from(line.chars().count()).unwrap_or(u32::MAX));
        out.push(before);
    }
    out
}
