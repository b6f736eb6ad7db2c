//! Hostile inputs that are too large to be committed: what is linear in the length of the
//! input ends soon on them, and what is quadratic does not.

use std::collections::BTreeSet;

/// How large they are, in bytes: enough for a square to be seen.
const BYTES: usize = 96 * 1024;

/// Lines that are shorter, in bytes, say too little to be repeated.
const LEAST_LINE: usize = 8;
/// Of all others, every such one is repeated; a fuzzer tries them all.
const EVERY_LINE: usize = 5;

/// What is repeated up to that length.
const PIECES: &[&str] = &[
    "a",
    "é",
    " ",
    "\n",
    "\r\n",
    "\0",
    "{",
    "[",
    "(",
    "`",
    "\"",
    "#",
    "- ",
    "> ",
    "* a\n",
    "\t",
    "{\"a\":",
    "[1,",
    "```\n",
    "<!--",
    "**",
    "a: ",
    "a: &a [*a]\n",
    "- - ",
    "1.",
    "|",
    "\\",
    "### a\n",
    "x\n\n",
    "[a](",
    "![",
    "&amp;",
    "\u{202e}",
    "=",
    "try again in ",
    "hit your ",
];

/// Each with what it is.
pub(crate) fn hostile<'a>(
    seeds: impl Iterator<Item = &'a Vec<u8>>,
) -> impl Iterator<Item = (String, Vec<u8>)> {
    let long = PIECES.iter().map(|piece| {
        let data = piece.repeat(BYTES / piece.len()).into_bytes();
        (format!("{piece:?}, repeated"), data)
    });
    let bytes = std::iter::once(("bytes that are no text".to_owned(), vec![0xff; BYTES]));
    let seeds: Vec<&Vec<u8>> = seeds.filter(|seed| !seed.is_empty()).collect();
    let shown = |piece: &[u8]| format!("{:.40?}, counted", String::from_utf8_lossy(piece));
    // Many of each seed and of each of its lines: what is compared with all of its kind.
    let lines = seeds.iter().flat_map(|seed| seed.split_inclusive(|byte| *byte == b'\n'));
    let lines = lines.filter(|line| line.len() > LEAST_LINE).step_by(EVERY_LINE);
    let whole = seeds.iter().map(|seed| seed.as_slice());
    let pieces: BTreeSet<&[u8]> = whole.chain(lines).collect();
    let counted: Vec<_> = pieces.into_iter().map(|one| (shown(one), counted(one))).collect();
    long.chain(bytes).chain(counted)
}

/// `piece` again and again, each time with other numbers, so that its ids differ.
fn counted(piece: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(BYTES + piece.len());
    let mut count = 0_u32;
    while data.len() < BYTES {
        count += 1;
        let mut in_number = false;
        for byte in piece {
            if !byte.is_ascii_digit() {
                data.push(*byte);
            } else if !in_number {
                data.extend(count.to_string().bytes());
            }
            in_number = byte.is_ascii_digit();
        }
    }
    data
}
