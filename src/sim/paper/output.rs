//! What a command on a paper instance prints, a log in frames included.

use std::sync::{Mutex, PoisonError};

use crc::{CRC_32_CKSUM, Crc};

/// The most bytes of the log that a frame holds.
const FRAME: usize = 64 * 1024;

/// A command's standard output.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Mutex<Vec<u8>>,
}

impl Output {
    /// Appends what the command prints.
    pub(super) fn print(&self, text: &[u8]) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
    }

    /// Returns the first characters, which are all that the agent replies with.
    pub(super) fn first(&self, characters: usize) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).chars().take(characters).collect()
    }

    /// Returns at most `most` bytes from this offset on.
    pub(super) fn bytes_from(&self, offset: usize, most: usize) -> Vec<u8> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.get(offset..).unwrap_or_default().iter().take(most).copied().collect()
    }
}

/// Prints a part of a log, which is whole lines of plain text, in frames that name its offset.
pub(super) fn print_frames(nonce: &str, log: &[u8], mut offset: usize, output: &Output) {
    let mut rest = log;
    while !rest.is_empty() {
        let most = rest.len().min(FRAME);
        let length = rest[..most].iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
        let (piece, after) = rest.split_at(length);
        let header = format!("\u{1e}drover@ {nonce} {offset} {length} text {}\n", cksum(piece));
        output.print(header.as_bytes());
        output.print(piece);
        offset += length;
        rest = after;
    }
}

/// Computes POSIX's `cksum`, which includes the length, its lowest byte first.
fn cksum(bytes: &[u8]) -> u32 {
    const CKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_CKSUM);
    let mut digest = CKSUM.digest();
    digest.update(bytes);
    let mut length = bytes.len();
    while length > 0 {
        digest.update(&[(length & 0xff) as u8]);
        length >>= 8;
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_posix_s() {
        assert_eq!((cksum(b"123456789"), cksum(b"")), (930_766_865, 4_294_967_295));
    }

    #[test]
    fn a_log_is_printed_in_frames_of_whole_lines() {
        let output = Output::default();
        let log = "x".repeat(FRAME - 10) + "\n" + &"y".repeat(20) + "\n";
        print_frames("n1", log.as_bytes(), 7, &output);
        let printed = output.first(usize::MAX);
        let headers: Vec<&str> = printed.lines().filter(|line| line.starts_with('\u{1e}')).collect();
        assert!(headers[0].starts_with(&format!("\u{1e}drover@ n1 7 {} text ", FRAME - 9)));
        assert!(headers[1].starts_with(&format!("\u{1e}drover@ n1 {} 21 text ", FRAME - 2)));
    }
}
