//! `orch init`: a project that works as it stands.
//!
//! Everything is checked before anything is written, and no file that exists is changed,
//! but that `.gitignore` gains the lines it lacks.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::text::safe;
use super::{Exit, Failure, connect, output};

const USUAL_PORT: u16 = 6379;
const LISTENS: Duration = Duration::from_millis(300);
const IGNORED: [&str; 3] = ["/.orch", "/.env", "/heartbeat/*.ack.md"];

pub(super) const AGENT: &str = include_str!("agent.md");
const HEARTBEAT: &str = include_str!("heartbeat.md");
const ENV: &str = include_str!("env");
const REDIS: &str = include_str!("../../../deploy/redis.sh");

/// Make a project that works
///
/// Writes INSTRUCTIONS.md with two agents and a goal that works without a model and with
/// one, instructions/, heartbeat/, systemg.yaml, deploy/redis.sh, .env and lines of
/// .gitignore. Refuses where one of the files is there already.
///
/// ORCH_LLM_PROVIDER in .env says who is asked: offline (nobody) at first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; made where it does not exist
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,

    /// The port of the project's own Redis [default: 6379, or a free one where that is taken]
    #[arg(long, value_name = "PORT")]
    redis_port: Option<u16>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let folder = connect::absolute(&args.folder)?;
    let port = args.redis_port.unwrap_or_else(free_port);
    let program = std::env::current_exe()
        .map_err(|error| Failure::negative(format!("cannot tell where orch itself is: {error}")))?;
    let files = files(&program)?;
    let there: Vec<&str> = files
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| folder.join(name).symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        return Err(Failure::negative(format!(
            "{} has {} already: nothing was written. Take another folder, or move {} away",
            folder.display(),
            there.join(", "),
            if there.len() == 1 { "it" } else { "them" }
        ))
        .into());
    }
    for (name, text) in &files {
        write_new(&folder.join(name), text)?;
    }
    let env = env_file(&folder, port)?;
    let ignored = ignore(&folder)?;
    output::print(&said(&args.folder, &files, port, env, ignored))?;
    Ok(Exit::Done)
}

/// 6379, unless somebody listens there: two projects must not share a Redis unawares.
fn free_port() -> u16 {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT));
    if TcpStream::connect_timeout(&usual, LISTENS).is_err() {
        return USUAL_PORT;
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    free.map_or(USUAL_PORT, |address| address.port())
}

fn files(program: &Path) -> Result<Vec<(&'static str, String)>, Failure> {
    let program = program
        .to_str()
        .ok_or_else(|| Failure::negative("the path of orch is not UTF-8: move it".to_owned()))?;
    // A JSON string is a YAML string too.
    let program = serde_json::json!(program).to_string();
    let heartbeat =
        |name: &str, path: &str| HEARTBEAT.replace("{name}", name).replace("{path}", path);
    let agent = |name: &str| AGENT.replace("{name}", name);
    Ok(vec![
        ("INSTRUCTIONS.md", include_str!("INSTRUCTIONS.md").to_owned()),
        ("instructions/research_agent.md", agent("research_agent")),
        ("instructions/analysis_agent.md", agent("analysis_agent")),
        ("heartbeat/research.md", heartbeat("research_agent", "heartbeat/research.md")),
        ("heartbeat/analysis.md", heartbeat("analysis_agent", "heartbeat/analysis.md")),
        ("systemg.yaml", include_str!("systemg.yaml").replace("{orch}", &program)),
        ("deploy/redis.sh", REDIS.replace("run \\`make setup\\`", "install it")),
    ])
}

/// Writes a file that must not be there, and the folders above it.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |error: std::io::Error| {
        Failure::negative(format!("cannot write {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)
}

/// Writes `.env` unless there is one. Whether it did.
fn env_file(folder: &Path, port: u16) -> Result<bool, Failure> {
    let path = folder.join(".env");
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    write_new(&path, &ENV.replace("{port}", &port.to_string()))?;
    // A key may be written into it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(|error| {
        Failure::negative(format!("cannot keep {} from others: {error}", path.display()))
    })?;
    Ok(true)
}

/// Adds what `.gitignore` lacks. Whether it had to.
fn ignore(folder: &Path) -> Result<bool, Failure> {
    let path = folder.join(".gitignore");
    let fail = |error: std::io::Error| {
        Failure::negative(format!("cannot write {}: {error}", path.display()))
    };
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fail(error)),
    };
    let missing: Vec<&str> =
        IGNORED.into_iter().filter(|line| !old.lines().any(|l| l.trim() == *line)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let mut added = if old.is_empty() || old.ends_with('\n') { String::new() } else { "\n".into() };
    for line in missing {
        added.push_str(line);
        added.push('\n');
    }
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(&path).map_err(fail)?;
    file.write_all(added.as_bytes()).map_err(fail)?;
    Ok(true)
}

fn said(folder: &Path, files: &[(&str, String)], port: u16, env: bool, ignored: bool) -> String {
    let mut names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    names.extend(env.then_some(".env"));
    names.extend(ignored.then_some(".gitignore"));
    let mut out = String::from("Made:\n");
    for name in names {
        out.push_str(&format!("  {name}\n"));
    }
    if !env {
        out.push_str(
            "  (.env was there and stays as it is: REDIS_URL in it says where Redis is, and\n  \
             ORCH_LLM_PROVIDER which model is asked: claude without it, nobody with offline)\n",
        );
    }
    let here = folder.as_os_str() == ".";
    let cd = if here {
        String::new()
    } else {
        format!("  cd {}\n", safe(&folder.display().to_string()))
    };
    let redis = if env && port != USUAL_PORT {
        format!("\nPort {USUAL_PORT} is not used: this project's Redis gets port {port} (.env).\n")
    } else {
        String::new()
    };
    out.push_str(&format!(
        "{redis}\nNext:\n{cd}\
         \x20 orch doctor                            is everything there?\n\
         \x20 sysg start --daemonize                 start Redis, the orchestrator and the agents\n\
         \x20 orch status --watch                    look on; Ctrl-C ends it\n\
         \x20 cat .orch/work/goal-001/report.md      what the tasks made\n\
         \x20 edit .env                              have a model do it: ORCH_LLM_PROVIDER=claude\n\
         \x20 echo PAUSE >> heartbeat/research.md    steer an agent; RESUME lets it go on\n\
         \x20 sysg stop                              stop it all\n"
    ));
    out
}
