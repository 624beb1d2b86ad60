//! Programs that cannot be loaded, and the errors that say why.

use tower::ServiceExt;
use tower_dspy::{Lm, LoadError, LoadErrorKind as Kind};

use crate::support::{ask, host, lm, question};

async fn refused(target: &str) -> LoadError {
    let host = host().await;
    let load = host.load(target).lm(lm("unused").await);
    let error = load.await.expect_err(target);
    assert_eq!(error.target(), target);
    error
}

#[tokio::test]
async fn a_load_error_names_the_problem_and_the_remedy() {
    for (target, kind, said) in [
        ("shapes", Kind::Target, "neither"),
        (
            "no_such_module:Ask",
            Kind::NotFound,
            "there is no module `no_such_module`",
        ),
        (
            "no.such.package:Ask",
            Kind::NotFound,
            "there is no module `no`",
        ),
        (
            "shapes.more:Ask",
            Kind::NotFound,
            "there is no module `shapes.more`",
        ),
        ("shapes:Missing", Kind::NotFound, "has no `Missing`"),
        (
            "shapes:Holder.missing",
            Kind::NotFound,
            "has no `Holder.missing`",
        ),
        ("shapes:", Kind::NotFound, "has no ``"),
        ("shapes:number", Kind::NotAProgram, "is a int, not a module"),
        (
            "shapes:NotAModule",
            Kind::NotAProgram,
            "is a class, but no dspy.Module",
        ),
        (
            "shapes:NoWay",
            Kind::NotAProgram,
            "has neither `forward` nor `aforward`",
        ),
        ("shapes:TwoWays", Kind::Schema, "has 2 predictors"),
        ("shapes:privileged", Kind::Schema, "input field `config`"),
        (
            "shapes:PrivilegedField",
            Kind::Schema,
            "input field `demos`",
        ),
        ("shapes:positional", Kind::Schema, "by position only"),
        ("shapes:sync_function", Kind::Raised, "TypeError"),
        ("shapes:needs_arguments", Kind::Raised, "TypeError"),
        ("question ->", Kind::Schema, "no output field"),
        (
            "question -> answer: no_such_type",
            Kind::Target,
            "is not a signature",
        ),
        ("-> answer ->", Kind::Target, "is not a signature"),
        ("question -> 1answer", Kind::Target, "is not a signature"),
        ("config -> answer", Kind::Schema, "input field `config`"),
    ] {
        let error = refused(target).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
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
async fn an_exception_raised_by_loading_has_its_traceback() {
    let error = refused("broken_import:Program").await;
    assert_eq!(error.kind(), Kind::Raised);
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
    assert_eq!(error.kind(), Kind::Raised);
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
    assert_eq!(error.kind(), Kind::Lm);
    assert!(
        error.to_string().contains("$TOWER_DSPY_TESTS_NO_SUCH_KEY"),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_without_any_lm_is_refused() {
    let host = host().await;
    let error = host.load("question -> answer").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Lm, "{error}");
}

#[tokio::test]
async fn only_async_functions_can_be_loaded_as_functions() {
    let host = host().await;
    for (target, kind, said) in [
        (
            "shapes:sync_function",
            Kind::NotAProgram,
            "not an async function",
        ),
        ("shapes:Missing", Kind::NotFound, "has no `Missing`"),
        ("no_such_module:f", Kind::NotFound, "there is no module"),
    ] {
        let error = host.function(target, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}
