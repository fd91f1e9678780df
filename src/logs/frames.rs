//! A host's log as it comes through a service for text: in frames that say where each piece belongs. Pure.
//!
//! A frame begins with the line `<RS>drover@ NONCE OFFSET BYTES text|base64`; what follows is that many bytes of the
//! host's file, as they are or as base64. Outside of frames stand the runner's own lines, the result last.

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
    Text { offset: u64, left: u64 },
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

    /// Takes the next text; calls `each` with what it holds.
    pub fn feed(&mut self, text: &str, mut each: impl FnMut(Item)) {
        for piece in text.as_bytes().split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                if let Some(item) = self.line(line) {
                    each(item);
                }
            }
        }
    }

    fn line(&mut self, line: Vec<u8>) -> Option<Item> {
        // Hooks never see the nonce: a header in the middle of a frame means that the one before was torn.
        if let Some(state) = line.strip_prefix(self.mark.as_bytes()).and_then(header) {
            self.state = state;
            return None;
        }
        match &mut self.state {
            State::Text { offset, left } if *left > 0 => {
                let length = (line.len() as u64).min(*left);
                let item =
                    Item::Bytes { offset: *offset, bytes: line[..usize::try_from(length).ok()?].to_vec() };
                *offset += length;
                *left -= length;
                Some(item)
            }
            State::Base64 { offset, left, text } if *left > 0 => {
                text.extend(line.trim_ascii());
                if (text.len() as u64) < left.div_ceil(3) * 4 {
                    return None;
                }
                let (offset, bytes) = (*offset, STANDARD.decode(&*text));
                self.state = State::Outside;
                Some(Item::Bytes { offset, bytes: bytes.ok()? })
            }
            _ => {
                let line = String::from_utf8_lossy(&line);
                line.starts_with("drover: result ").then(|| Item::Result(line.trim_end().to_owned()))
            }
        }
    }
}

fn header(rest: &[u8]) -> Option<State> {
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let offset = fields.next()?.parse().ok()?;
    let left = fields.next()?.parse().ok()?;
    match fields.next()? {
        "text" => Some(State::Text { offset, left }),
        "base64" => Some(State::Base64 { offset, left, text: Vec::new() }),
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

    #[test]
    fn a_torn_frame_is_given_up_and_comes_again() {
        let text = "\u{1e}drover@ n1 0 12 text\nfirst\n\u{1e}drover@ n1 0 12 text\nfirst\nlater\n";
        assert_eq!(read(text, 9).0, b"first\nlater\n");
    }

    proptest! {
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
