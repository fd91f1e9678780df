//! What is read from frames, however an agent cuts and repeats them.

use super::{frame::cksum, *};
use base64::{Engine as _, engine::general_purpose::STANDARD};
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

/// What the agent uploads of a text: events of whole lines, those after the first `while_running` without their last
/// newline.
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
