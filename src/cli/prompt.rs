//! `orch run -p TEXT`: one prompt to the provider, without Redis and without a fleet.

use std::time::Duration;

use providers::{FailureKind, Permissions, Request, Session, Step};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure, output};
use crate::llm::{self, launch::Launcher};
use crate::settings::Llm;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Asks, and prints the answer.
pub(crate) async fn run(prompt: &str, llm: &Llm) -> anyhow::Result<Exit> {
    let provider = llm::provider(llm)?;
    let scratch = tempfile::Builder::new().prefix("orch-prompt-").tempdir()?;
    let request = Request {
        step: Step::Prompt,
        prompt: prompt.to_owned(),
        schema: None,
        model: llm.model.clone(),
        session: Session::Ephemeral,
        permissions: Permissions::default(),
        budget_micros: None,
        folder: std::env::current_dir()?,
        scratch: scratch.path().to_owned(),
        log: scratch.path().join("log"),
        timeout: LIMIT,
    };
    let cancel = CancellationToken::new();
    let launcher = Launcher {
        environment: Vec::new(),
        marker: format!("prompt/{}", std::process::id()),
        cancel: cancel.clone(),
        systemg: None,
    };
    let interrupted = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => cancel.cancel(),
            Err(_) => std::future::pending().await,
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = providers::call(&*provider, &launcher, &request) => answer,
        () = interrupted => return Ok(Exit::Negative),
    };
    match answer {
        Ok(reply) => {
            output::print(&format!("{}\n", reply.text.trim_end()))?;
            Ok(Exit::Done)
        }
        Err(failure) => Err(match failure.kind {
            FailureKind::Refused => Failure::usage(failure.message).into(),
            FailureKind::Malformed(_)
            | FailureKind::Failed
            | FailureKind::Denied
            | FailureKind::Limit(_)
            | FailureKind::Budget
            | FailureKind::TimedOut
            | FailureKind::Cancelled => anyhow::anyhow!(failure.message),
        }),
    }
}
