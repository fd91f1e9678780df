//! Makes what a hook wrote safe for a terminal or a page.

use std::fmt::Write as _;

/// Returns `text` without control characters, tabs excepted; colours (SGR) stay if `keep_colour`. Of a line that
/// overwrites itself by carriage returns, the last state stays.
pub fn clean(text: &str, keep_colour: bool) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').next().unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\t' => out.push(c),
            '\x1b' => match rest.clone().next() {
                Some('[') => {
                    rest.next();
                    coloured |= control_sequence(&mut rest, keep_colour, &mut out);
                }
                // Operating system commands, device control and other strings: up to BEL or ST.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    rest.next();
                    skip_string(&mut rest);
                }
                // Other escapes: intermediate bytes and a final one.
                _ => {
                    let _ = rest.by_ref().find(|c| !matches!(c, ' '..='/'));
                }
            },
            '\u{9b}' => coloured |= control_sequence(&mut rest, keep_colour, &mut out),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut rest),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    out
}

/// Reads a control sequence after its introducer; writes it out again if it is a colour and wanted.
fn control_sequence(rest: &mut std::str::Chars<'_>, keep: bool, out: &mut String) -> bool {
    let mut parameters = String::new();
    for c in rest.by_ref() {
        match c {
            ' '..='?' => parameters.push(c),
            'm' if keep && parameters.chars().all(|c| matches!(c, '0'..='9' | ';' | ':')) => {
                let _ = write!(out, "\x1b[{parameters}m");
                return true;
            }
            _ => return false,
        }
    }
    false
}

fn skip_string(rest: &mut std::str::Chars<'_>) {
    while let Some(c) = rest.next() {
        match c {
            '\x07' | '\u{9c}' => return,
            '\x1b' if rest.clone().next() == Some('\\') => {
                rest.next();
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_the_cursor_stays_where_it_is() {
        assert_eq!(clean("\x1b[1;31mred\x1b[0m", true), "\x1b[1;31mred\x1b[0m\x1b[0m");
        assert_eq!(clean("\x1b[1;31mred\x1b[0m", false), "red");
        assert_eq!(clean("a\x1b[2J\x1b[Hb\x1b]0;title\x07c\x1b]8;;u\x1b\\d\x1bMe\x1b(Bf", true), "abcdef");
        assert_eq!(clean("\u{9b}2Jx\u{9d}52;c;AA\u{9c}y\x07\x08\tz", true), "xy\tz");
        assert_eq!(clean("\x1b[?25lx\x1b[>4;2my", true), "xy");
        assert_eq!(clean("10 %\r50 %\r100 %\r\n", true), "100 %");
        assert_eq!(clean("cut \x1b[3", true), "cut ");
    }
}
