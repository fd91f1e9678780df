//! Splits the bytes of a host's file into lines and control lines. Pure.
//!
//! A control line starts with 0x1e, the word `drover` and the attempt's nonce, which hooks never see. It may come in
//! the middle of a line, where a background child's unfinished write stood before it.

use memchr::{memchr, memmem};

/// A line longer than this is cut: it would not fit into memory otherwise.
pub const LONGEST_LINE: usize = 1024 * 1024;
/// A control line is shorter: a path on Linux has 4,096 bytes at most.
const LONGEST_CONTROL: usize = 8 * 1024;

/// ASCII's record separator, with which a control line begins.
const CONTROL: u8 = 0x1e;

/// A part of a host's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// A control line.
    Control(Control),
}

/// A control line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `begin`, `end` or `finish`.
    pub what: String,
    /// Lifecycle event.
    pub event: String,
    /// Hook's location, or `-`.
    pub hook: String,
    /// Exit code, for `end` and `finish`.
    pub exit: Option<i32>,
}

/// Splits a byte stream into lines and control lines, however it is divided.
#[derive(Debug)]
pub struct Parser {
    mark: Vec<u8>,
    pending: Vec<u8>,
}

impl Parser {
    /// Makes a parser for the file of the attempt with this nonce.
    pub fn new(nonce: &str) -> Parser {
        Parser { mark: format!("\u{1e}drover {nonce} ").into_bytes(), pending: Vec::new() }
    }

    /// Takes the next bytes; calls `each` with every finished item and the number of bytes it took in the file.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Item, usize)) {
        while !bytes.is_empty() {
            let room = LONGEST_LINE - self.pending.len();
            match memchr(b'\n', &bytes[..room.min(bytes.len())]) {
                Some(at) => {
                    self.pending.extend_from_slice(&bytes[..at]);
                    bytes = &bytes[at + 1..];
                    self.line(1, &mut each);
                }
                None => {
                    let some = room.min(bytes.len());
                    self.pending.extend_from_slice(&bytes[..some]);
                    bytes = &bytes[some..];
                    if self.pending.len() == LONGEST_LINE {
                        // A control line that may have begun is left whole.
                        let end = LONGEST_LINE - LONGEST_CONTROL;
                        let end = memchr(CONTROL, &self.pending[end..]).map_or(LONGEST_LINE, |at| end + at);
                        let rest = self.pending.split_off(end);
                        self.line(0, &mut each);
                        self.pending = rest;
                    }
                }
            }
        }
    }

    /// Ends the file: what is pending is a line too.
    pub fn finish(&mut self, mut each: impl FnMut(Item, usize)) {
        if !self.pending.is_empty() {
            self.line(0, &mut each);
        }
    }

    fn line(&mut self, newline: usize, each: &mut impl FnMut(Item, usize)) {
        let mut line = std::mem::take(&mut self.pending);
        match memmem::find(&line, &self.mark) {
            Some(at) => {
                let control = parse_control(&line[at + self.mark.len()..]);
                let length = line.len() - at + newline;
                line.truncate(at);
                if at > 0 {
                    each(Item::Line(line), at);
                }
                each(Item::Control(control), length);
            }
            None => {
                let length = line.len() + newline;
                each(Item::Line(line), length);
            }
        }
    }
}

fn parse_control(text: &[u8]) -> Control {
    let text = String::from_utf8_lossy(text);
    let (what, fields) = text.split_once(' ').unwrap_or((&text, ""));
    let field = |name: &str| {
        fields
            .split(' ')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
            .to_owned()
    };
    Control {
        what: what.into(),
        event: field("event"),
        hook: field("hook"),
        exit: field("exit").parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(parser: &mut Parser, pieces: &[&[u8]]) -> (Vec<Item>, usize) {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut each = |item, length| {
            items.push(item);
            bytes += length;
        };
        pieces.iter().for_each(|piece| parser.feed(piece, &mut each));
        parser.finish(&mut each);
        (items, bytes)
    }

    #[test]
    fn a_control_line_is_found_behind_an_unfinished_line() {
        let text = b"half\x1edrover n1 end event=ApplicationStart hook=hooks/start exit=3 at=1\nwhole\n\x1edrover other begin\n";
        let (items, _) = all(&mut Parser::new("n1"), &[text]);
        assert_eq!(items[0], Item::Line(b"half".to_vec()));
        let control = Control {
            what: "end".into(),
            event: "ApplicationStart".into(),
            hook: "hooks/start".into(),
            exit: Some(3),
        };
        assert_eq!(items[1], Item::Control(control));
        assert_eq!(
            items[3],
            Item::Line(b"\x1edrover other begin".to_vec()),
            "another nonce is a line like any other"
        );
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (items, bytes) = all(&mut Parser::new("n"), &[&vec![b'x'; 3 * LONGEST_LINE + 5]]);
        assert_eq!((items.len(), bytes), (4, 3 * LONGEST_LINE + 5));
    }

    #[test]
    fn a_control_line_at_the_limit_is_left_whole() {
        let control = "\x1edrover n finish status=succeeded event=Install exit=0 at=1\n";
        for before in [LONGEST_LINE - 1, LONGEST_LINE - 9, LONGEST_LINE - control.len() + 1, LONGEST_LINE] {
            let text = [vec![b'x'; before], control.as_bytes().to_vec()].concat();
            let (items, bytes) = all(&mut Parser::new("n"), &[&text]);
            assert_eq!((items.len(), bytes), (2, text.len()), "{before}");
            assert!(matches!(&items[1], Item::Control(control) if control.what == "finish"), "{before}");
        }
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_up_the_items_are_the_same(
            text in proptest::collection::vec(prop_oneof![Just(b"\n".to_vec()), Just(b"\x1edrover n begin event=X hook=-\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..9)], 0..30),
            cut in 1..7usize,
        ) {
            let text = text.concat();
            let (whole, bytes) = all(&mut Parser::new("n"), &[&text]);
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            let (cut_up, cut_bytes) = all(&mut Parser::new("n"), &pieces);
            prop_assert_eq!(whole, cut_up);
            prop_assert_eq!((bytes, cut_bytes), (text.len(), text.len()));
        }
    }
}
