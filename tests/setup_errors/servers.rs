//! Mistakes with the server around programs.

use tower_dspy::{Host, doctor::Doctor};

use crate::{
    page::{found, says},
    support::{host, lm},
};

/// More than Linux ever lets a process have.
const CALLS: usize = 4_000_000_000;

#[tokio::test]
async fn fewer_open_files_than_calls_need() {
    let lm = lm("unused").await;
    let load = move |host: &Host| host.load("qa:Program").lm(lm.clone()).max_in_flight(CALLS);
    let doctor = Doctor::new().host(host().await).load(load);
    found("few-open-files", &doctor.run().await);
}

/// As with `#[tokio::main(flavor = "current_thread")]`, and as in these tests.
#[tokio::test]
async fn a_runtime_with_one_thread() {
    found("one-thread", &Doctor::new().run().await);
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let first = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    let error = tokio::net::TcpListener::bind(address).await.unwrap_err();
    says("port-in-use", error);
}
