//! A host's log as it comes through a service for text: in frames that say where each piece belongs. Pure.
//!
//! A frame begins with the line `<RS>drover@ NONCE OFFSET BYTES text|base64 CKSUM`; what follows is that many bytes of the
//! host's file, as they are or as base64; CKSUM is POSIX's `cksum` of them. Outside of frames stand the runner's own lines, the
//! result last.
//!
//! Systems Manager's agent uploads whole lines in events, wherever its tick falls in a frame. An event keeps its last newline
//! while the command runs and loses it once the command is complete; no line of a frame is as long as an event may be. After an
//! upload whose answer was lost the same lines come again, in events cut elsewhere. So what came since a header is tried, with
//! lost newlines put in and repeated events taken out, until its length and checksum are the frame's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc::{CRC_32_CKSUM, Crc};

/// A frame is given up when so many times its length have come without it: a tick's upload is repeated some times, not for ever.
const PATIENCE: usize = 8;

/// Answers lost within one frame, whose events came twice.
const MOST_LOST: usize = 3;

/// What the text is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes of the host's file.
    Bytes {
        /// Where they begin.
        offset: u64,
        /// They.
        bytes: Vec<u8>,
    },
    /// The runner's result line.
    Result(String),
}

/// A frame in hand.
#[derive(Debug)]
struct Frame {
    offset: u64,
    /// Bytes of the host's file.
    length: usize,
    base64: bool,
    /// None: of a runner that gave none.
    checksum: Option<u32>,
    /// The lines since the header; base64's without their newlines.
    text: Vec<u8>,
    /// Where an event ended in it.
    ends: Vec<usize>,
    /// Those of them where a newline may be lost.
    doubtful: Vec<usize>,
}

/// Reads the text, however it is cut up.
#[derive(Debug)]
pub struct Frames {
    mark: String,
    frame: Option<Frame>,
    pending: Vec<u8>,
}

impl Frames {
    /// For the attempt with this nonce.
    pub fn new(nonce: &str) -> Frames {
        Frames { mark: format!("\u{1e}drover@ {nonce} "), frame: None, pending: Vec::new() }
    }

    /// Takes the next event of an upload; calls `each` with what it holds.
    pub fn event(&mut self, message: &str, mut each: impl FnMut(Item)) {
        self.feed(message, &mut each);
        let stripped = !message.ends_with('\n');
        if stripped {
            self.feed("\n", &mut each);
        }
        if let Some(frame) = &mut self.frame {
            frame.ends.push(frame.text.len());
            if !stripped {
                // Or was that newline the last but one, and the last is gone? The frame's length tells.
                frame.doubtful.push(frame.text.len());
            }
        }
    }

    /// Takes the next text; calls `each` with what it holds.
    fn feed(&mut self, text: &str, mut each: impl FnMut(Item)) {
        for piece in text.as_bytes().split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                self.line(&line, &mut each);
            }
        }
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(Item)) {
        // Hooks never see the nonce: a header in the middle of a frame means that the one before lacks something.
        if let Some(next) = line.strip_prefix(self.mark.as_bytes()).and_then(header) {
            each_of(self.frame.take().and_then(|frame| frame.mended()), each);
            self.frame = Some(next);
            return;
        }
        let Some(frame) = &mut self.frame else { return each_of(outside(line), each) };
        // Frames are whole lines: one that goes past the end comes after it, unless what came before came twice.
        if frame.is_past_with(line)
            && let Some(item) = frame.mended()
        {
            self.frame = None;
            each(item);
            return each_of(outside(line), each);
        }
        frame.add(line);
        if let Some(item) = frame.whole() {
            self.frame = None;
            each(item);
        } else if frame.is_past() {
            if frame.is_hopeless() {
                self.frame = None;
            }
            // The runner's own, after a frame that was torn.
            each_of(outside(line), each);
        }
    }
}

impl Frame {
    /// Length of its text when nothing is missing, and nothing is there twice.
    fn full(&self) -> usize {
        if self.base64 { self.length.div_ceil(3) * 4 } else { self.length }
    }

    fn add(&mut self, line: &[u8]) {
        self.text.extend(if self.base64 { line.trim_ascii() } else { line });
    }

    fn is_past_with(&self, line: &[u8]) -> bool {
        self.text.len() + line.len() > self.full()
    }

    fn is_past(&self) -> bool {
        self.text.len() > self.full()
    }

    fn is_hopeless(&self) -> bool {
        self.checksum.is_none() || self.text.len() > PATIENCE * self.full()
    }

    /// The frame, if what came is all of it, some of it twice.
    fn whole(&self) -> Option<Item> {
        self.solved(0)
    }

    /// The frame, if its text is complete but for the last newlines of its last events: once the command is complete each
    /// event loses one. Nothing where it lacks more: it was torn, and comes again.
    fn mended(&self) -> Option<Item> {
        (0..=self.doubtful.len()).find_map(|missing| self.solved(missing))
    }

    /// The frame with a newline put in at the last `missing` doubtful ends of events, and without what came twice.
    fn solved(&self, missing: usize) -> Option<Item> {
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
        self.without(&text, &ends, extra, &mut Vec::new())
    }

    /// The frame that is left when `extra` bytes are dropped: runs of whole events, a few of them.
    fn without(
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
                let found = self.without(text, &ends[to..], left, dropped);
                if found.is_some() {
                    return found;
                }
                dropped.pop();
            }
        }
        None
    }

    /// What the text is without the dropped parts, if that is the frame.
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

/// What POSIX's `cksum` prints of these bytes.
fn cksum(bytes: &[u8]) -> u32 {
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

fn each_of(item: Option<Item>, each: &mut impl FnMut(Item)) {
    if let Some(item) = item {
        each(item);
    }
}

/// A line of the runner's own.
fn outside(line: &[u8]) -> Option<Item> {
    let line = String::from_utf8_lossy(line);
    line.starts_with("drover: result ").then(|| Item::Result(line.trim_end().to_owned()))
}

fn header(rest: &[u8]) -> Option<Frame> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, cut: usize) -> (Vec<u8>, Option<String>) {
        let mut frames = Frames::new("n1");
        let (mut file, mut result) = (Vec::new(), None);
        let mut each = |item| match item {
            Item::Bytes { offset, bytes } => {
                // Pieces may come again; none may leave a hole.
                let offset = usize::try_from(offset).unwrap();
                assert!(offset <= file.len(), "a hole before {offset}");
                file.truncate(offset);
                file.extend(bytes);
            }
            Item::Result(line) => result = Some(line),
        };
        for piece in text.chars().collect::<Vec<_>>().chunks(cut.max(1)) {
            frames.feed(&piece.iter().collect::<String>(), &mut each);
        }
        (file, result)
    }

    #[test]
    fn a_frame_holds_whatever_a_hook_wrote() {
        let forged = "drover: result attempt=1 status=succeeded\n\u{1e}drover@ n2 0 3 text\n";
        let text = format!(
            "drover: a remark\n\u{1e}drover@ n1 0 {} text\n{forged}\u{1e}drover@ n1 {} 3 base64\n/wAK\n\
             drover: tail x\ndrover: result attempt=7 status=failed\n",
            forged.len(),
            forged.len()
        );
        let (file, result) = read(&text, 5);
        assert_eq!(file, [forged.as_bytes(), &[255, 0, 10]].concat());
        assert_eq!(result.as_deref(), Some("drover: result attempt=7 status=failed"));
    }

    #[test]
    fn the_checksum_is_posix_s() {
        // From coreutils: `printf %s 123456789 | cksum`, and of nothing.
        assert_eq!((cksum(b"123456789"), cksum(b"")), (930_766_865, 4_294_967_295));
    }

    /// What the agent uploads of a text: events of whole lines, those after the first `while_running` without their last newline.
    fn events(text: &str, cuts: &[usize], while_running: usize) -> Vec<String> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (mut events, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().copied().cycle() {
            if at >= lines.len() {
                break;
            }
            let until = (at + cut).min(lines.len());
            let event = lines[at..until].concat();
            let runs = events.len() < while_running;
            events.push(if runs { event } else { event.strip_suffix('\n').unwrap_or(&event).to_owned() });
            at = until;
        }
        events
    }

    #[test]
    fn an_event_that_ends_within_a_frame_adds_no_line() {
        let mut frames = Frames::new("n1");
        let mut file = Vec::new();
        for event in ["\u{1e}drover@ n1 0 18 text\nfirst\n", "later\n", "\nlast\n"] {
            frames.event(event, |item| match item {
                Item::Bytes { bytes, .. } => file.extend(bytes),
                Item::Result(line) => panic!("{line}"),
            });
        }
        assert_eq!(file, b"first\nlater\n\nlast\n");
    }

    #[test]
    fn a_torn_frame_is_given_up_and_comes_again() {
        let text = "\u{1e}drover@ n1 0 12 text\nfirst\n\u{1e}drover@ n1 0 12 text\nfirst\nlater\n";
        assert_eq!(read(text, 9).0, b"first\nlater\n");
        // The one in hand ends where a line goes past its length: that one is the runner's.
        let text = "\u{1e}drover@ n1 0 2 text\na\n\u{1e}drover@ n1 2 30 text\nb\ndrover: result attempt=7 status=failed\n";
        let result = "drover: result attempt=7 status=failed".to_owned();
        assert_eq!(read(text, 9), (b"a\n".to_vec(), Some(result)));
    }

    /// Text with headers, in frames with checksums, and the file that it holds.
    fn framed(frames: &[(bool, Vec<String>)]) -> (String, Vec<u8>) {
        let (mut text, mut file) = (String::new(), Vec::new());
        for (base64, lines) in frames {
            let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let form = if *base64 { "base64" } else { "text" };
            let sum = cksum(content.as_bytes());
            text += &format!("\u{1e}drover@ n1 {} {} {form} {sum}\n", file.len(), content.len());
            if *base64 {
                for line in STANDARD.encode(&content).as_bytes().chunks(76) {
                    text += &format!("{}\n", std::str::from_utf8(line).unwrap());
                }
            } else {
                text += &content;
            }
            file.extend(content.into_bytes());
        }
        text += "drover: result attempt=7 status=succeeded\n";
        (text, file)
    }

    proptest! {
        #[test]
        fn what_is_uploaded_twice_is_there_once(
            frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec("[ -~äß]{0,90}", 1..9)), 1..6),
            cuts in proptest::collection::vec(1..6usize, 1..6), lost in proptest::collection::vec(0..40usize, 0..4),
        ) {
            let (text, file) = framed(&frames);
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            // The agent's ticks; after an answer that was lost it reads on from where that tick began.
            let (mut events, mut at, mut tick) = (Vec::new(), 0, 0);
            while at < lines.len() {
                let until = (at + cuts[tick % cuts.len()]).min(lines.len());
                events.push(lines[at..until].concat());
                if !lost.contains(&tick) {
                    at = until;
                }
                tick += 1;
            }
            let (mut reader, mut read, mut result) = (Frames::new("n1"), Vec::new(), None);
            for event in events {
                reader.event(&event, |item| match item {
                    Item::Bytes { offset, bytes } => {
                        let offset = usize::try_from(offset).unwrap();
                        assert!(offset <= read.len(), "a hole before {offset}");
                        assert!(offset + bytes.len() <= read.len() || read.len() == offset, "what came before comes alike");
                        if offset == read.len() {
                            read.extend(bytes);
                        }
                    }
                    Item::Result(line) => result = Some(line),
                });
            }
            prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&file));
            prop_assert_eq!(result.as_deref(), Some("drover: result attempt=7 status=succeeded"));
        }

        #[test]
        fn however_the_agent_cuts_its_events_the_file_is_the_same(
            frames in proptest::collection::vec((any::<bool>(), proptest::collection::vec("[ -~äß]{0,30}", 1..8)), 1..6),
            cuts in proptest::collection::vec(1..5usize, 1..6), while_running in 0..12usize,
        ) {
            let (text, file) = framed(&frames);
            let (mut reader, mut read, mut result) = (Frames::new("n1"), Vec::new(), None);
            for event in events(&text, &cuts, while_running) {
                reader.event(&event, |item| match item {
                    Item::Bytes { offset, bytes } => {
                        assert_eq!(usize::try_from(offset).unwrap(), read.len());
                        read.extend(bytes);
                    }
                    Item::Result(line) => result = Some(line),
                });
            }
            prop_assert_eq!(read, file);
            prop_assert_eq!(result.as_deref(), Some("drover: result attempt=7 status=succeeded"));
        }

        #[test]
        fn however_it_is_cut_up_the_file_is_the_same(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..6), cut in 1..50usize,
        ) {
            let (mut text, mut file) = (String::new(), Vec::<u8>::new());
            for piece in &pieces {
                text += &format!("\u{1e}drover@ n1 {} {} base64\n", file.len(), piece.len());
                for line in STANDARD.encode(piece).as_bytes().chunks(76) {
                    text += &format!("{}\n", std::str::from_utf8(line).unwrap());
                }
                file.extend(piece);
            }
            prop_assert_eq!(read(&text, cut).0, file);
        }
    }
}
