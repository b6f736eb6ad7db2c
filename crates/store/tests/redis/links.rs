//! Ways to reach Redis: passwords, users, sockets, databases, TLS.

use std::process::Command;

use store::{Error, Options, RedisUrl, Store};
use testkit::RedisServer;

use crate::world::{goal, take_lead};

async fn open(url: &str) -> Store {
    Store::new(&Options::from(url.parse::<RedisUrl>().unwrap())).await.unwrap()
}

/// A script and a waiting read go through.
async fn assert_works(store: &Store) {
    take_lead(store, "us").await;
    let mut waiting = store.waiting().unwrap();
    let mut position = store.end_of_events().await.unwrap();
    let short = std::time::Duration::from_millis(10);
    assert!(waiting.events(&mut position, short).await.unwrap().is_empty());
}

async fn assert_denied(url: &str) {
    let error = open(url).await.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }) && !error.is_transient(), "{url}: {error:?}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("wr0ng"), "{shown}");
}

#[tokio::test]
async fn password_should_be_needed_and_do() {
    let server = RedisServer::options().password("s3cret:/@").start();
    assert_works(&open(&server.url()).await).await;
    let port = server.port();
    assert_denied(&format!("redis://:wr0ng@127.0.0.1:{port}")).await;
    assert_denied(&format!("redis://127.0.0.1:{port}")).await;
}

/// Regression: the first refusal of the login was the answer for ever.
#[tokio::test]
async fn password_that_is_set_right_later_should_do_for_the_same_handle() {
    let server = RedisServer::options().password("other").start();
    let store = open(&format!("redis://:right@127.0.0.1:{}", server.port())).await;
    let error = store.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let mut connection = server.connection();
    let set =
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("right").query(&mut connection);
    let () = set.unwrap();
    assert_works(&store).await;
}

#[tokio::test]
async fn acl_user_should_do() {
    let server = RedisServer::options().user("orch", "s3cret").start();
    assert!(server.url().contains("orch:s3cret@"), "{}", server.url());
    assert_works(&open(&server.url()).await).await;
    let port = server.port();
    assert_denied(&format!("redis://orch:wr0ng@127.0.0.1:{port}")).await;
    assert_denied(&format!("redis://nobody:wr0ng@127.0.0.1:{port}")).await;
}

#[tokio::test]
async fn user_without_the_right_should_be_denied_and_told_what_for() {
    let server = RedisServer::options()
        .user("orch", "s3cret")
        .config("user reader on >r3ad ~* &* +@read +@connection")
        .start();
    let store = open(&format!("redis://reader:r3ad@127.0.0.1:{}", server.port())).await;
    assert_eq!(store.goal(&goal("g")).await.unwrap(), None);
    let error = store.report_problems("[]").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("report problems"), "{error}");
}

#[tokio::test]
async fn unix_socket_should_do() {
    let server = RedisServer::options().unix_socket().start();
    assert!(server.url().starts_with("unix:"), "{}", server.url());
    assert_works(&open(&server.url()).await).await;
    let server = RedisServer::options().unix_socket().user("orch", "s3cret").start();
    assert_works(&open(&server.url()).await).await;
    drop(server);
    let error = open("unix:///nowhere/redis.sock").await.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn database_number_should_be_kept_apart() {
    let server = RedisServer::start();
    let (zero, two) = (open(&server.url()).await, open(&format!("{}/2", server.url())).await);
    assert_works(&two).await;
    zero.report_problems("zero").await.unwrap();
    assert_eq!(two.problems().await.unwrap(), None);
    two.report_problems("two").await.unwrap();
    assert_eq!(zero.problems().await.unwrap().as_deref(), Some("zero"));
    assert!(zero.leaders().await.unwrap().is_empty());
    assert_eq!(two.leaders().await.unwrap().len(), 4);
}

#[tokio::test]
async fn tls_should_do_with_the_authority_and_fail_without() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl program to make certificates with");
        return;
    }
    let server = RedisServer::options().tls().password("s3cret").start();
    let url: RedisUrl = server.url().parse().unwrap();
    assert!(url.expose().starts_with("rediss://"));
    let options = Options { url: url.clone(), ca_file: Some(server.ca_file()) };
    assert_works(&Store::new(&options).await.unwrap()).await;

    let unknown = Store::new(&Options::from(url.clone())).await.unwrap();
    let error = unknown.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let absent = Options { url, ca_file: Some("/nowhere/ca.pem".into()) };
    let Err(error) = Store::new(&absent).await else { panic!("made without its file") };
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
}
