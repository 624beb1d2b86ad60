//! Proxies by the environment: each test runs again in a process that has its variables.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
};

use super::*;

const ALONE: &str = "TOWER_DSPY_TEST_ALONE";
const VARIABLES: [&str; 9] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "REQUEST_METHOD",
];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

/// Whether this is the process with the variables.
fn is_child() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs the test `name` of this file in a process with these variables, and requires it to pass.
fn in_child(name: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(env::current_exe().expect("a path"));
    for variable in VARIABLES {
        child.env_remove(variable);
    }
    child.args([
        "--exact",
        &format!("lm::tests::proxy::{name}"),
        "--nocapture",
    ]);
    child.env(ALONE, name).envs(variables.iter().copied());
    let output = child.output().expect("a process");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{variables:?}\n{said}");
    assert!(said.contains("1 passed"), "no test `{name}`\n{said}");
}

/// Serves each connection at a port of its own.
fn serve(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let _ = serve(tcp);
        }
    });
    address.to_string()
}

fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = tcp.read(&mut request)?;
    tcp.write_all(ANSWER)
}

/// A SOCKS5 server that answers in place of whatever it is asked for.
fn socks5(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut greeting = [0; 3];
    tcp.read_exact(&mut greeting)?;
    assert_eq!(greeting, [5, 1, 0]);
    tcp.write_all(&[5, 0])?;
    let mut asked = [0; 512];
    let _ = tcp.read(&mut asked)?;
    tcp.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    answer(tcp)
}

async fn asks(base: &str) -> Result<String, LmFailure> {
    let lm = connect(&lm_at(base));
    text(lm.send(request(base, "x", false)).await?.into_body()).await
}

#[tokio::test]
async fn a_socks_proxy_is_used() {
    if is_child() {
        let answer = asks("http://192.0.2.1/v1").await;
        assert_eq!(answer.as_deref(), Ok("hi"));
        return;
    }
    let proxy = serve(socks5);
    for (variable, scheme) in [("ALL_PROXY", "socks5"), ("http_proxy", "socks5h")] {
        let url = format!("{scheme}://{proxy}");
        in_child("a_socks_proxy_is_used", &[(variable, &url)]);
    }
}

#[tokio::test]
async fn an_unusable_proxy_is_refused_by_the_name_of_its_variable() {
    if is_child() {
        let error = lm_at(URL).connect().expect_err("no such proxy");
        assert!(matches!(error, LmConfigError::Proxy { .. }), "{error}");
        let variable = env::var("EXPECTED").expect("a name");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(&format!("${variable}")), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
        return;
    }
    for (variable, url) in [
        ("ALL_PROXY", "socks://me:secret@proxy:1080"),
        ("all_proxy", "socks://proxy:1080"),
        ("HTTP_PROXY", "me:secret at proxy"),
        ("http_proxy", "http://me:secret@"),
        ("HTTPS_PROXY", "ftp://proxy"),
        ("https_proxy", "http://proxy:port"),
    ] {
        in_child(
            "an_unusable_proxy_is_refused_by_the_name_of_its_variable",
            &[(variable, url), ("EXPECTED", variable)],
        );
    }
}

#[tokio::test]
async fn an_unused_proxy_variable_is_not_refused() {
    if is_child() {
        lm_at(URL).connect().expect("nothing is wrong");
        return;
    }
    for variables in [
        // As desktops set them.
        &[
            ("ALL_PROXY", "socks://proxy:1080"),
            ("http_proxy", "http://proxy:1"),
            ("HTTPS_PROXY", "proxy:1"),
        ][..],
        &[("ALL_PROXY", "socks://proxy"), ("NO_PROXY", "localhost, *")],
        &[("ALL_PROXY", ""), ("all_proxy", "socks://proxy")],
        &[("HTTP_PROXY", "socks://proxy"), ("REQUEST_METHOD", "GET")],
    ] {
        in_child("an_unused_proxy_variable_is_not_refused", variables);
    }
}

#[tokio::test]
async fn no_proxy_for_any_host_covers_addresses_too() {
    if is_child() {
        let server = serve(answer);
        let answer = asks(&format!("http://{server}/v1")).await;
        assert_eq!(answer.as_deref(), Ok("hi"));
        return;
    }
    // Nobody listens there.
    let proxy = ("ALL_PROXY", "http://127.0.0.1:1");
    for none in [("NO_PROXY", "*"), ("no_proxy", "example.com,*")] {
        in_child("no_proxy_for_any_host_covers_addresses_too", &[proxy, none]);
    }
}
