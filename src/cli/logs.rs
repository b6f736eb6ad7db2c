//! `orch logs`: what a task printed, from the file its agent wrote.
//!
//! Logs are files beneath the project, so they are there while Redis is away: then the
//! task is taken by its stored id.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::TaskId;

use super::args::Globals;
use super::connect::Session;
use super::text::safe_lines;
use super::{Exit, Failure, find, output};
use crate::paths;

/// How often a file is looked at while it is followed.
const LOOK: Duration = Duration::from_millis(200);
const CHUNK: usize = 64 * 1024;

/// Show what a task printed
///
/// The last attempt, unless --attempt says which. The files lie in the project, as
/// .orch/logs/<task>/<attempt>.log, on the host where the agent ran.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `orch tasks` shows it, or <goal>.<id>
    task: String,

    /// Which attempt, from 1 [default: the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,

    /// Go on with what it prints from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let id = session.known(task_id(&session, &args.task).await)?;
    let folder = folder(&session.project, &id);
    let path = pick(&id, &folder, args.attempt)?;
    tokio::select! {
        shown = show(&path, args.follow) => shown?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(Exit::Done)
}

async fn task_id(session: &Session, text: &str) -> anyhow::Result<TaskId> {
    let logged = TaskId::new(text).ok().filter(|id| folder(&session.project, id).is_dir());
    match (session.store.find_tasks(text).await, logged) {
        // A task that was removed still has its logs.
        (Ok(found), Some(id)) if found.is_empty() => Ok(id),
        (Err(error), Some(id)) if output::is_about_redis(&error) => Ok(id),
        (Err(error), _) => Err(error.into()),
        (Ok(_), _) => Ok(find::task(&session.store, text).await?.id),
    }
}

/// Where a task's logs lie.
pub(crate) fn folder(project: &Path, id: &TaskId) -> PathBuf {
    let log = paths::attempt_log(project, id, 1);
    log.parent().map(Path::to_owned).unwrap_or(log)
}

/// The attempts that have a log, oldest first.
pub(crate) fn attempts(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

fn pick(id: &TaskId, folder: &Path, wanted: Option<u32>) -> Result<PathBuf, Failure> {
    let found = attempts(folder);
    let attempt = match (wanted, found.last()) {
        (_, None) => {
            return Err(Failure::not_found(format!(
                "{id} has no log in {}: it has not run, or ran on another host or for another \
                 --project; `orch explain {id}` says more",
                folder.display()
            )));
        }
        (None, Some(last)) => *last,
        (Some(wanted), Some(_)) => wanted,
    };
    if !found.contains(&attempt) {
        let there: Vec<String> = found.iter().map(ToString::to_string).collect();
        return Err(Failure::not_found(format!(
            "{id} has no log of attempt {attempt}: there are {}",
            there.join(", ")
        )));
    }
    Ok(folder.join(format!("{attempt}.log")))
}

async fn show(path: &Path, follow: bool) -> anyhow::Result<()> {
    let fail = |error: std::io::Error| {
        Failure::negative(format!("cannot read {}: {error}", path.display()))
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("it is no regular file")).into());
    }
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut sink = Sink { terminal, held: Vec::new() };
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 if !follow => return Ok(sink.end()?),
            0 => {
                let (read, size) = (file.stream_position()?, file.metadata().map_err(fail)?.len());
                if size < read {
                    // Written anew.
                    file.seek(SeekFrom::Start(0))?;
                }
                tokio::time::sleep(LOOK).await;
            }
            count => sink.write(&buffer[..count])?,
        }
    }
}

/// Standard output: as it is, or made safe line by line where people look.
struct Sink {
    terminal: bool,
    held: Vec<u8>,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.terminal {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            return out.flush();
        }
        self.held.extend_from_slice(bytes);
        // A line that does not end is shown in pieces, not kept for ever.
        let end = match self.held.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if self.held.len() >= CHUNK => self.held.len(),
            None => return Ok(()),
        };
        let lines: Vec<u8> = self.held.drain(..end).collect();
        output::print(&safe_lines(&String::from_utf8_lossy(&lines)))
    }

    fn end(&mut self) -> std::io::Result<()> {
        let rest = std::mem::take(&mut self.held);
        output::print(&safe_lines(&String::from_utf8_lossy(&rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_attempt_should_be_picked_by_number() {
        let project = tempfile::tempdir().unwrap();
        let id = TaskId::new("t1").unwrap();
        let logs = folder(project.path(), &id);
        assert!(pick(&id, &logs, None).unwrap_err().to_string().contains("has no log in"));
        std::fs::create_dir_all(&logs).unwrap();
        for name in ["2.log", "10.log", "x.log", "11.tmp"] {
            std::fs::write(logs.join(name), "").unwrap();
        }
        assert_eq!(pick(&id, &logs, None).unwrap(), logs.join("10.log"));
        assert_eq!(pick(&id, &logs, Some(2)).unwrap(), logs.join("2.log"));
        let missing = pick(&id, &logs, Some(3)).unwrap_err().to_string();
        assert!(missing.ends_with("there are 2, 10"), "{missing}");
    }
}
