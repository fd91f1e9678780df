//! A host's log as it comes through a service for text: in frames that say where each piece belongs. Pure.
//!
//! A frame begins with the line `<RS>drover@ NONCE OFFSET BYTES text|base64 CKSUM`; what follows is that many bytes of the
//! host's file, as they are or as base64; CKSUM is POSIX's `cksum` of them. Outside of frames stand the runner's own
//! lines, the result last.
//!
//! Systems Manager's agent uploads whole lines in events, wherever its tick falls in a frame. An event keeps its last
//! newline while the command runs and loses it once the command is complete; no line of a frame is as long as an event
//! may be. After an upload whose answer was lost the same lines come again, in events cut elsewhere. So what came since
//! a header is tried, with lost newlines put in and repeated events taken out, until its length and checksum are the
//! frame's.

mod frame;
#[cfg(test)]
mod tests;

pub use frame::Item;

use frame::{Frame, parse_header};

/// Reads frames from a text, however that is divided.
#[derive(Debug)]
pub struct Frames {
    mark: String,
    frame: Option<Frame>,
    pending: Vec<u8>,
}

impl Frames {
    /// Makes a reader for the attempt with this nonce.
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
        if let Some(next) = line.strip_prefix(self.mark.as_bytes()).and_then(parse_header) {
            pass_on(self.frame.take().and_then(|frame| frame.repair()), each);
            self.frame = Some(next);
            return;
        }
        let Some(frame) = &mut self.frame else { return pass_on(result_line(line), each) };
        // Frames are whole lines: one that goes past the end comes after it, unless what came before came twice.
        if frame.is_past_with(line)
            && let Some(item) = frame.repair()
        {
            self.frame = None;
            each(item);
            return pass_on(result_line(line), each);
        }
        frame.add(line);
        if let Some(item) = frame.complete() {
            self.frame = None;
            each(item);
        } else if frame.is_past() {
            if frame.is_hopeless() {
                self.frame = None;
            }
            // The runner's own, after a frame that was torn.
            pass_on(result_line(line), each);
        }
    }
}

fn pass_on(item: Option<Item>, each: &mut impl FnMut(Item)) {
    if let Some(item) = item {
        each(item);
    }
}

/// Returns the runner's result, if the line holds it.
fn result_line(line: &[u8]) -> Option<Item> {
    let line = String::from_utf8_lossy(line);
    line.starts_with("drover: result ").then(|| Item::Result(line.trim_end().to_owned()))
}
