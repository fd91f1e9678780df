//! One frame: the text since its header, and the bytes of the host's file that it holds.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc::{CRC_32_CKSUM, Crc};

/// A frame is given up when this many times its length have come without completing it: an upload is repeated a few
/// times only.
const PATIENCE: usize = 8;

/// The most uploads within one frame that may have been repeated.
const MOST_LOST: usize = 3;

/// A part of an uploaded text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes of the host's file.
    Bytes {
        /// The offset at which they begin.
        offset: u64,
        /// The bytes themselves.
        bytes: Vec<u8>,
    },
    /// The runner's result line.
    Result(String),
}

/// A frame of which the header has come.
#[derive(Debug)]
pub(super) struct Frame {
    offset: u64,
    /// Bytes of the host's file.
    length: usize,
    base64: bool,
    /// The frame's checksum; none from a runner that gives none.
    checksum: Option<u32>,
    /// The lines since the header; those of base64 without their newlines.
    pub(super) text: Vec<u8>,
    /// The offsets in `text` at which an event ended.
    pub(super) ends: Vec<usize>,
    /// Those of them at which a newline may be lost.
    pub(super) doubtful: Vec<usize>,
}

impl Frame {
    /// Returns the length of its text when nothing is missing or repeated.
    fn full(&self) -> usize {
        if self.base64 { self.length.div_ceil(3) * 4 } else { self.length }
    }

    pub(super) fn add(&mut self, line: &[u8]) {
        self.text.extend(if self.base64 { line.trim_ascii() } else { line });
    }

    pub(super) fn is_past_with(&self, line: &[u8]) -> bool {
        self.text.len() + line.len() > self.full()
    }

    pub(super) fn is_past(&self) -> bool {
        self.text.len() > self.full()
    }

    pub(super) fn is_hopeless(&self) -> bool {
        self.checksum.is_none() || self.text.len() > PATIENCE * self.full()
    }

    /// Returns the frame's bytes, if all of it has come, some of it perhaps twice.
    pub(super) fn complete(&self) -> Option<Item> {
        self.solve(0)
    }

    /// Returns the frame's bytes, if its text is complete but for the last newlines of its last events: once the
    /// command is complete each event loses one. Nothing where it lacks more: it was torn, and comes again.
    pub(super) fn repair(&self) -> Option<Item> {
        (0..=self.doubtful.len()).find_map(|missing| self.solve(missing))
    }

    /// Returns the frame's bytes with a newline inserted at the last `missing` doubtful ends of events, and without
    /// what came twice.
    fn solve(&self, missing: usize) -> Option<Item> {
        let extra = (self.text.len() + missing).checked_sub(self.full())?;
        if extra > 0 && self.checksum.is_none() {
            return None;
        }
        let put_in = &self.doubtful[self.doubtful.len().checked_sub(missing)?..];
        let mut text = self.text.clone();
        for end in put_in.iter().rev() {
            text.insert(*end, b'\n');
        }
        let shifted = |at: &usize| at + put_in.iter().filter(|end| **end < *at).count();
        let mut ends: Vec<usize> = self.ends.iter().map(shifted).collect();
        ends.dedup();
        self.without_repeats(&text, &ends, extra, &mut Vec::new())
    }

    /// Returns the frame's bytes after dropping `extra` bytes in a few runs of whole events.
    fn without_repeats(
        &self,
        text: &[u8],
        ends: &[usize],
        extra: usize,
        dropped: &mut Vec<(usize, usize)>,
    ) -> Option<Item> {
        if extra == 0 {
            return self.read(text, dropped);
        }
        if dropped.len() == MOST_LOST {
            return None;
        }
        for (at, from) in ends.iter().enumerate() {
            for (to, end) in ends.iter().enumerate().skip(at + 1) {
                let Some(left) = extra.checked_sub(end - from) else { break };
                dropped.push((*from, *end));
                let found = self.without_repeats(text, &ends[to..], left, dropped);
                if found.is_some() {
                    return found;
                }
                dropped.pop();
            }
        }
        None
    }

    /// Returns the text without the dropped parts, if its checksum is the frame's.
    fn read(&self, text: &[u8], dropped: &[(usize, usize)]) -> Option<Item> {
        let mut kept = Vec::with_capacity(self.full());
        let mut at = 0;
        for (from, to) in dropped {
            kept.extend_from_slice(text.get(at..*from)?);
            at = *to;
        }
        kept.extend_from_slice(text.get(at..)?);
        let mut bytes = if self.base64 { STANDARD.decode(&kept).ok()? } else { kept };
        bytes.truncate(self.length);
        let sound = self.checksum.is_none_or(|checksum| checksum == cksum(&bytes));
        sound.then_some(Item::Bytes { offset: self.offset, bytes })
    }
}

/// Returns what POSIX's `cksum` prints of these bytes.
pub(super) fn cksum(bytes: &[u8]) -> u32 {
    const CKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_CKSUM);
    let mut digest = CKSUM.digest();
    digest.update(bytes);
    // Their number too, its lowest byte first, without leading zeros.
    let mut length = bytes.len();
    while length > 0 {
        digest.update(&[(length & 0xff) as u8]);
        length >>= 8;
    }
    digest.finalize()
}

/// Reads a frame's header, after the mark that it begins with.
pub(super) fn parse_header(rest: &[u8]) -> Option<Frame> {
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let offset = fields.next()?.parse().ok()?;
    let length = fields.next()?.parse().ok()?;
    let base64 = match fields.next()? {
        "text" => false,
        "base64" => true,
        _ => return None,
    };
    let checksum = fields.next().and_then(|field| field.parse().ok());
    Some(Frame { offset, length, base64, checksum, text: Vec::new(), ends: Vec::new(), doubtful: Vec::new() })
}
