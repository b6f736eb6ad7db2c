//! What the tasks did in the world, by their own files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What one task wrote.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Under which grants it began, in this order.
    pub(crate) began: Vec<u64>,
    /// Under which grants it came to its end.
    pub(crate) ended: Vec<u64>,
}

/// All files of a folder, by task.
pub(crate) fn read(folder: &Path) -> BTreeMap<String, Effects> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let task = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        all.insert(task, parse(&text).unwrap_or_else(|line| panic!("{}: {line}", path.display())));
    }
    all
}

fn parse(text: &str) -> Result<Effects, String> {
    let mut effects = Effects::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let what = words.next();
        let epoch = words.next().and_then(|epoch| epoch.parse().ok()).ok_or(line)?;
        match what {
            Some("begin") => effects.began.push(epoch),
            Some("end") => effects.ended.push(epoch),
            _ => return Err(line.to_owned()),
        }
    }
    Ok(effects)
}

/// The numbers that occur twice.
pub(crate) fn twice(numbers: &[u64]) -> Vec<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let mut twice: Vec<u64> =
        sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    twice.dedup();
    twice
}
