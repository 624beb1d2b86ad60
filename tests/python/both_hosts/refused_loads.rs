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
            "programs/qa.py",
            Kind::Target,
            "write `programs.qa:Program`",
        ),
        ("programs/qa.py:Ask", Kind::Target, "`programs.qa:Ask`"),
        ("shapes.Ask", Kind::Target, "did you mean `shapes:Ask`?"),
        ("shapes:Ask()", Kind::Target, "did you mean `shapes:Ask`?"),
        ("shapes:", Kind::Target, "neither"),
        (
            "no_such_module:Ask",
            Kind::NotFound,
            "there is no module `no_such_module`. Python searched `",
        ),
        ("no_such_module:Ask", Kind::NotFound, "/programs`"),
        ("no_such_module:Ask", Kind::NotFound, "by `python_path`"),
        ("shape:Ask", Kind::NotFound, "did you mean `shapes:Ask`?"),
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
        ("shapes:ask", Kind::NotFound, "did you mean `Ask`? It has `"),
        ("shapes:number", Kind::NotAProgram, "is a int, not a module"),
        (
            "shapes:number",
            Kind::NotAProgram,
            "name a dspy.Module class",
        ),
        (
            "shapes:NotAModule",
            Kind::NotAProgram,
            "`class NotAModule(dspy.Module)`",
        ),
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
        (
            "shapes:sync_function",
            Kind::NotAProgram,
            "is a sync function with `question`",
        ),
        ("shapes:sync_function", Kind::NotAProgram, "an `async def`"),
        (
            "mistakes:TakesArguments",
            Kind::NotAProgram,
            "takes `depth` when it is made",
        ),
        (
            "mistakes:returns_a_text",
            Kind::NotAProgram,
            "returned a str, not a dspy.Module",
        ),
        (
            "needs_a_package:Program",
            Kind::Package,
            "python -m pip install scikit-learn`",
        ),
        (
            "mistakes.inner:Program",
            Kind::NotFound,
            "`mistakes` is a module, and no package",
        ),
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
        assert!(!error.to_string().contains("HostError"), "{error}");
        // The sentence alone: no frames of the host, and no exception of its own.
        assert_eq!(format!("{error:?}"), error.to_string() + &below(&error));
    }
    // None of them has spoilt anything.
    let host = host().await;
    question(&host, "after refusals")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}

/// What `Debug` has below the sentence: the traceback, if the program's own code raised.
fn below(error: &LoadError) -> String {
    match error.traceback().trim_end() {
        "" => String::new(),
        traceback => format!("\n\n{traceback}"),
    }
}

#[tokio::test]
async fn an_error_out_of_main_has_the_traceback_with_line_breaks_and_no_frames_of_the_host() {
    let error: Box<dyn std::error::Error> = refused("shapes:broken_factory").await.into();
    let printed = format!("Error: {error:?}");
    let lines: Vec<_> = printed.lines().collect();
    assert!(
        lines[0].contains("LookupError: no weights here (at /"),
        "{printed}"
    );
    assert!(lines[0].ends_with(" broken_factory)"), "{printed}");
    assert_eq!(lines[2], "Traceback (most recent call last):", "{printed}");
    assert!(lines[3].contains("programs/shapes.py\", line"), "{printed}");
    assert_eq!(*lines.last().unwrap(), "LookupError: no weights here");
    assert!(!printed.contains("<tower-dspy>"), "{printed}");
}

#[tokio::test]
async fn a_syntax_error_of_a_program_has_its_file_and_its_line() {
    let host = host().await;
    let load = host.load_source("x = 1\n\ndef broken(:\n", "broken");
    let error = load.await.unwrap_err();
    assert_eq!(error.kind(), Kind::Raised);
    let said = error.to_string();
    assert!(said.contains("SyntaxError: "), "{said}");
    assert!(said.ends_with("(at <source:broken>:3)"), "{said}");
}

#[tokio::test]
async fn a_module_in_a_folder_below_one_that_is_searched_is_named() {
    let error = refused("qa_of_a_folder:Program").await;
    assert_eq!(error.kind(), Kind::NotFound);
    let said = error.to_string();
    let meant = "did you mean `folder.qa_of_a_folder:Program`?";
    assert!(said.contains(meant), "{said}");
}

#[tokio::test]
async fn an_import_of_a_module_beside_the_program_names_its_folder() {
    let error = refused("folder.qa_of_a_folder:Program").await;
    assert_eq!(error.kind(), Kind::Package);
    let said = error.to_string();
    assert!(said.contains("imports `helpers_of_qa`"), "{said}");
    assert!(said.contains("/programs/folder` has it"), "{said}");
    assert!(said.contains("python_path("), "{said}");
}

#[tokio::test]
async fn a_max_in_flight_of_0_is_refused() {
    let host = host().await;
    let load = || {
        host.load("question -> answer")
            .lm(Lm::new("openai/x").key("k"))
    };
    for load in [load().max_in_flight(0), load().max_in_flight_per_tenant(0)] {
        let error = load.await.unwrap_err();
        assert_eq!(error.kind(), Kind::Option);
        assert!(error.to_string().contains("give it at least 1"), "{error}");
    }
}

#[tokio::test]
async fn an_exception_raised_by_loading_has_its_traceback() {
    let error = refused("broken_import:Program").await;
    assert_eq!(error.kind(), Kind::Package);
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
    assert!(
        error.to_string().contains("load it with `.lm(..)`"),
        "{error}"
    );
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
