//! Programs that cannot be loaded, and what is said about them.

use tower::ServiceExt;
use tower_dspy::{Lm, service::LoadError};

use crate::support::{ask, host, lm, question};

async fn refused(target: &str) -> LoadError {
    let host = host().await;
    let load = host.load(target).lm(lm("unused").await);
    let error = load.await.expect_err(target);
    assert_eq!(error.target(), target);
    error
}

#[tokio::test]
async fn the_error_says_what_is_wrong_and_what_to_do() {
    for (target, said) in [
        ("shapes", "neither"),
        ("no_such_module:Ask", "there is no module `no_such_module`"),
        ("no.such.package:Ask", "there is no module `no`"),
        ("shapes.more:Ask", "there is no module `shapes.more`"),
        ("shapes:Missing", "has no `Missing`"),
        ("shapes:Holder.missing", "has no `Holder.missing`"),
        ("shapes:", "has no ``"),
        ("shapes:number", "is a int, not a module"),
        ("shapes:NotAModule", "is a class, but no dspy.Module"),
        ("shapes:NoWay", "has neither `forward` nor `aforward`"),
        ("shapes:TwoWays", "has 2 predictors"),
        ("shapes:privileged", "input field `config`"),
        ("shapes:PrivilegedField", "input field `demos`"),
        ("shapes:positional", "by position only"),
        ("shapes:sync_function", "TypeError"),
        ("shapes:needs_arguments", "TypeError"),
        ("question ->", "no output field"),
        ("question -> answer: no_such_type", "is not a signature"),
        ("-> answer ->", "is not a signature"),
        ("question -> 1answer", "is not a signature"),
        ("config -> answer", "input field `config`"),
    ] {
        let error = refused(target).await.to_string();
        assert!(error.contains(said), "{error}");
    }
    // None of them has spoilt anything.
    let host = host().await;
    question(&host, "after refusals")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_loading_raised_comes_with_its_traceback() {
    let error = refused("broken_import:Program").await;
    assert!(
        error
            .to_string()
            .contains("No module named 'no_such_library_at_all'"),
        "{error}"
    );
    assert!(
        error.traceback().contains("broken_import.py"),
        "{}",
        error.traceback()
    );

    let error = refused("shapes:broken_factory").await;
    assert!(
        error.to_string().contains("LookupError: no weights here"),
        "{error}"
    );
    assert!(
        error.traceback().contains("in broken_factory"),
        "{}",
        error.traceback()
    );
}

#[tokio::test]
async fn a_script_that_exits_when_imported_is_refused() {
    let error = refused("exits_at_import:Program").await;
    assert!(error.to_string().contains("SystemExit: usage"), "{error}");
    // Again the same: no half-imported module is left.
    let error = refused("exits_at_import:Program").await;
    assert!(error.to_string().contains("SystemExit: usage"), "{error}");
}

#[tokio::test]
async fn a_key_variable_that_is_not_set_is_named() {
    let host = host().await;
    let lm = Lm::new("openai/x").key_env("TOWER_DSPY_TESTS_NO_SUCH_KEY");
    let error = host.load("question -> answer").lm(lm).await.unwrap_err();
    assert!(
        error.to_string().contains("$TOWER_DSPY_TESTS_NO_SUCH_KEY"),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_without_any_lm_is_refused() {
    let host = host().await;
    let error = host.load("question -> answer").await.unwrap_err();
    assert!(error.to_string().contains("no LM"), "{error}");
}

#[tokio::test]
async fn a_function_must_be_one_and_async() {
    let host = host().await;
    for (target, said) in [
        ("shapes:sync_function", "not an async function"),
        ("shapes:Missing", "has no `Missing`"),
        ("no_such_module:f", "there is no module"),
    ] {
        let error = host.function(target, None).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
