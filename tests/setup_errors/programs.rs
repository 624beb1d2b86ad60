//! Mistakes with programs.

use tower_dspy::doctor::Doctor;

use crate::{
    page::{found, says},
    support::{host, lm},
};

#[tokio::test]
async fn programs_that_cannot_be_loaded() {
    let host = host().await;
    let lm = lm("unused").await;
    for (key, target) in [
        ("no-module", "no_such_module:Program"),
        ("no-attribute", "qa:Programm"),
        ("no-colon", "qa"),
        ("path-of-a-file", "programs/qa.py"),
        ("module-in-a-folder", "inner:Program"),
        ("module-beside", "folder.outer:Program"),
        ("not-a-program", "qa:Plain"),
        ("needs-arguments", "qa:needs"),
        ("missing-import", "imports:Program"),
        ("syntax-error", "syntax:Program"),
        ("exits-at-import", "script:Program"),
        ("bad-signature", "question -> 1answer"),
        ("reserved-field", "config -> answer"),
        ("two-predictors", "qa:Two"),
    ] {
        let error = host.load(target).lm(lm.clone()).await.expect_err(target);
        says(key, error);
        let doctor = Doctor::new().host(host.clone()).program(target, lm.clone());
        found(key, &doctor.run().await);
    }
}

#[tokio::test]
async fn a_program_without_an_lm() {
    let host = host().await;
    let target = "question -> answer";
    says("no-lm", host.load(target).await.unwrap_err());
    let doctor = Doctor::new().host(host).program(target, None);
    found("no-lm", &doctor.run().await);
}

#[tokio::test]
async fn a_state_that_is_not_there() {
    let host = host().await;
    let lm = lm("unused").await;
    let load = move |host: &tower_dspy::Host| {
        host.load("qa:Program")
            .lm(lm.clone())
            .state("no_such_state.json")
    };
    says("missing-state", load(&host).await.unwrap_err());
    found(
        "missing-state",
        &Doctor::new().host(host).load(load).run().await,
    );
}

#[tokio::test]
async fn a_program_that_may_have_no_call_in_flight() {
    let host = host().await;
    let lm = lm("unused").await;
    let load =
        move |host: &tower_dspy::Host| host.load("qa:Program").lm(lm.clone()).max_in_flight(0);
    says("max-in-flight-0", load(&host).await.unwrap_err());
    let doctor = Doctor::new().host(host).load(load);
    found("max-in-flight-0", &doctor.run().await);
}
