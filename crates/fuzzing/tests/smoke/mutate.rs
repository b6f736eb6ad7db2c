//! Mutations of seeds: the same ones in every run.

use std::fs;
use std::path::Path;

use fastrand::Rng;

/// The longest mutation, in bytes: most of what is wrong is wrong in little.
const MAX_BYTES: usize = 8 * 1024;
/// What is put in anywhere.
const HOSTILE: &[&str] = &[
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{1b}[2J",
    "\r",
    "\r\n",
    "\n",
    "\n\n",
    "\t",
    " ",
    "é",
    "日本",
    "👩‍👩‍👧",
    "\u{2028}",
    "\\",
    "\"",
    "'",
    "`",
    "```",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ":",
    ",",
    "|",
    "-",
    "#",
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "4294967296",
    "2147483648",
    "0.1",
    "NaN",
    "null",
    "true",
    "../",
    "\\u0000",
    "\\ud800",
    "-----8<-----\n",
];

/// Makes inputs of seeds.
pub(crate) struct Mutator {
    rng: Rng,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, seeds: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        let hostile = HOSTILE.iter().map(|word| word.as_bytes().to_vec());
        let words = words.into_iter().chain(hostile).collect();
        Self { rng: Rng::with_seed(seed), seeds, words }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut data = self.seed();
        for _ in 0..=self.rng.usize(..6) {
            self.change(&mut data);
        }
        data.truncate(MAX_BYTES);
        data
    }

    fn seed(&mut self) -> Vec<u8> {
        self.seeds[self.rng.usize(..self.seeds.len())].clone()
    }

    /// A piece of `data`, of any length, though short ones are likelier.
    fn range(&mut self, data: &[u8]) -> std::ops::Range<usize> {
        let start = self.rng.usize(..=data.len());
        let most = (data.len() - start).min(1 << self.rng.u32(..12));
        start..start + self.rng.usize(..=most)
    }

    fn change(&mut self, data: &mut Vec<u8>) {
        let range = self.range(data);
        match self.rng.u32(..8) {
            0 => drop(data.drain(range)),
            1 => {
                let piece = data[range].repeat(1 + self.rng.usize(..8));
                let at = self.rng.usize(..=data.len());
                data.splice(at..at, piece);
            }
            2 => data.truncate(range.start),
            3 => {
                let other = self.seed();
                let piece = self.range(&other);
                data.splice(range, other[piece].iter().copied());
            }
            4 => {
                if let Some(byte) = data.get_mut(range.start) {
                    *byte = self.rng.u8(..);
                }
            }
            5 => data[range].reverse(),
            _ => {
                let word = self.words[self.rng.usize(..self.words.len())].clone();
                let end = if self.rng.bool() { range.end } else { range.start };
                data.splice(range.start..end, word);
            }
        }
    }
}

/// The words of a dictionary of libFuzzer's: `"word"` or `name="word"`, a line each, with
/// `\"`, `\\` and `\xAB`.
pub(crate) fn words(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).unwrap_or_else(|| panic!("{}: {line}", path.display()))).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let quoted = line[line.find('"')? + 1..].strip_suffix('"')?;
    let mut word = Vec::new();
    let mut bytes = quoted.bytes();
    while let Some(byte) = bytes.next() {
        word.push(match byte {
            b'\\' => match bytes.next()? {
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                plain @ (b'"' | b'\\') => plain,
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(word)
}
