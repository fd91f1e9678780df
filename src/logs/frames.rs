//! A host's log as it comes through a service for text: in frames that say where each piece belongs. Pure.
//!
//! A frame begins with the line `<RS>drover@ NONCE OFFSET BYTES text|base64`; what follows is that many bytes of the
//! host's file, as they are or as base64. Outside of frames stand the runner's own lines, the result last.
//!
//! Systems Manager's agent uploads whole lines in events, wherever its tick falls in a frame. An event keeps its last newline
//! while the command runs and loses it once the command is complete; no line of a frame is as long as an event may be.

use base64::{Engine as _, engine::general_purpose::STANDARD};

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

#[derive(Debug)]
enum State {
    Outside,
    Text { offset: u64, length: u64, text: Vec<u8>, ends: Vec<usize> },
    Base64 { offset: u64, left: u64, text: Vec<u8> },
}

/// Reads the text, however it is cut up.
#[derive(Debug)]
pub struct Frames {
    mark: String,
    state: State,
    pending: Vec<u8>,
}

impl Frames {
    /// For the attempt with this nonce.
    pub fn new(nonce: &str) -> Frames {
        Frames { mark: format!("\u{1e}drover@ {nonce} "), state: State::Outside, pending: Vec::new() }
    }

    /// Takes the next event of an upload; calls `each` with what it holds.
    pub fn event(&mut self, message: &str, mut each: impl FnMut(Item)) {
        self.feed(message, &mut each);
        if !message.ends_with('\n') {
            return self.feed("\n", &mut each);
        }
        // Or was it the last but one, and the last is gone? The frame's length tells.
        if let State::Text { text, ends, .. } = &mut self.state {
            ends.push(text.len());
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
        // Hooks never see the nonce: a header in the middle of a frame means that the one before is not whole.
        if let Some(state) = line.strip_prefix(self.mark.as_bytes()).and_then(header) {
            each_of(self.mended(), each);
            self.state = state;
            return;
        }
        match &mut self.state {
            // Frames of text are whole lines: one that goes past the end comes after it.
            State::Text { length, text, .. } if (text.len() + line.len()) as u64 > *length => {
                each_of(self.mended(), each);
                each_of(outside(line), each);
            }
            State::Text { offset, length, text, .. } => {
                text.extend(line);
                if text.len() as u64 == *length {
                    each(Item::Bytes { offset: *offset, bytes: std::mem::take(text) });
                    self.state = State::Outside;
                }
            }
            State::Base64 { offset, left, text } => {
                text.extend(line.trim_ascii());
                if (text.len() as u64) >= left.div_ceil(3) * 4 {
                    let item =
                        STANDARD.decode(&*text).ok().map(|bytes| Item::Bytes { offset: *offset, bytes });
                    self.state = State::Outside;
                    each_of(item, each);
                }
            }
            State::Outside => each_of(outside(line), each),
        }
    }

    /// The frame in hand, which is over too soon: what it lacks are the last newlines of its last events, since once the
    /// command is complete each event loses one. Nothing where it lacks more: it was torn, and comes again.
    fn mended(&mut self) -> Option<Item> {
        let State::Text { offset, length, mut text, ends } =
            std::mem::replace(&mut self.state, State::Outside)
        else {
            return None;
        };
        let missing = usize::try_from(length).ok()?.checked_sub(text.len())?;
        let first = ends.len().checked_sub(missing)?;
        for end in ends[first..].iter().rev() {
            text.insert(*end, b'\n');
        }
        Some(Item::Bytes { offset, bytes: text })
    }
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

fn header(rest: &[u8]) -> Option<State> {
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let offset = fields.next()?.parse().ok()?;
    let length = fields.next()?.parse().ok()?;
    match fields.next()? {
        "text" => Some(State::Text { offset, length, text: Vec::new(), ends: Vec::new() }),
        "base64" => Some(State::Base64 { offset, left: length, text: Vec::new() }),
        _ => None,
    }
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

    proptest! {
        #[test]
        fn however_the_agent_cuts_its_events_the_file_is_the_same(
            frames in proptest::collection::vec(proptest::collection::vec("[ -~äß]{0,30}", 1..8), 1..6),
            cuts in proptest::collection::vec(1..5usize, 1..6), while_running in 0..12usize,
        ) {
            let (mut text, mut file) = (String::new(), String::new());
            for lines in &frames {
                let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
                text += &format!("\u{1e}drover@ n1 {} {} text\n{content}", file.len(), content.len());
                file += &content;
            }
            text += "drover: result attempt=7 status=succeeded\n";
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
            prop_assert_eq!(String::from_utf8(read).unwrap(), file);
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
