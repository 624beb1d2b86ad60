use serde_json::json;

use super::*;

const NOW: Duration = Duration::from_secs(1);

type Tested = Programs<&'static str, &'static str>;

fn description(input: &str) -> Value {
    json!({"inputs": [input], "outputs": ["answer"]})
}

fn answer(target: u64) -> LoadAnswer {
    Ok((WorkerTarget(target), Ok(description("question"))))
}

fn gone() -> Fault {
    Fault::new("", "the worker process is gone")
}

/// The specs that a worker is given, in their order.
fn given(actions: &Actions<&'static str, &'static str>, to: u64) -> Vec<Value> {
    let given = actions.iter().filter_map(|action| match action {
        ProgramAction::Load { worker, spec, .. } if worker.0 == to => Some((**spec).clone()),
        _ => None,
    });
    given.collect()
}

/// Programs with one, load 1, in workers 1 and 2.
fn loaded() -> Tested {
    let mut programs = Tested::default();
    programs.spawned(WorkerId(1), Generation(0));
    programs.spawned(WorkerId(2), Generation(0));
    let actions = programs.load(json!("old"), "load", &[WorkerId(1), WorkerId(2)]);
    assert_eq!(actions.len(), 2);
    assert_eq!(
        programs.answered(WorkerId(1), LoadId(1), answer(11), NOW),
        []
    );
    let answered = programs.answered(WorkerId(2), LoadId(1), answer(12), NOW);
    let [ProgramAction::Loaded { request, result }] = &answered[..] else {
        panic!("{answered:?}");
    };
    assert_eq!(
        (*request, result.as_ref().unwrap().load),
        ("load", LoadId(1))
    );
    programs
}

#[test]
fn a_load_is_answered_when_each_worker_has_answered() {
    let mut programs = loaded();
    assert!(programs.has_all(WorkerId(1)) && programs.has_all(WorkerId(2)));
    assert_eq!(
        (
            programs.target(WorkerId(1), LoadId(1)),
            programs.target(WorkerId(2), LoadId(1))
        ),
        (Ok(WorkerTarget(11)), Ok(WorkerTarget(12)))
    );
    assert_eq!(
        programs.target(WorkerId(1), LoadId(9)),
        Err("none of that name")
    );
    programs.spawned(WorkerId(3), Generation(0));
    assert_eq!(given(&programs.load_all(WorkerId(3)), 3), [json!("old")]);
    assert!(!programs.has_all(WorkerId(3)));
}

#[test]
fn a_worker_loads_until_it_has_answered_all_loads() {
    let mut programs = loaded();
    assert!(!programs.is_loading(WorkerId(1)));
    programs.load(json!("second"), "second", &[WorkerId(1)]);
    programs.load(json!("third"), "third", &[WorkerId(1)]);
    assert!(programs.is_loading(WorkerId(1)) && !programs.is_loading(WorkerId(2)));
    programs.answered(WorkerId(1), LoadId(2), answer(2), NOW);
    assert!(programs.is_loading(WorkerId(1)));
    programs.answered(WorkerId(1), LoadId(3), Err(gone()), NOW);
    assert!(!programs.is_loading(WorkerId(1)));
    assert!(!programs.is_loading(WorkerId(9)));
}

#[test]
fn a_worker_that_dies_while_it_loads_fails_the_load() {
    let mut programs = loaded();
    programs.load(json!("deadly"), "second", &[WorkerId(1), WorkerId(2)]);
    assert_eq!(
        programs.answered(WorkerId(2), LoadId(2), answer(22), NOW),
        []
    );
    let actions = programs.lost(WorkerId(1), &gone());
    let unload = ProgramAction::Unload {
        worker: WorkerId(2),
        load: LoadId(2),
        target: WorkerTarget(22),
    };
    let failed = ProgramAction::Loaded {
        request: "second",
        result: Err(gone()),
    };
    assert_eq!(actions, [unload, failed]);
    assert!(programs.has_all(WorkerId(2)));
}

#[test]
fn a_load_that_kills_the_worker_that_tries_it_is_given_to_no_other() {
    let mut programs = loaded();
    programs.load(json!("deadly"), "second", &[WorkerId(1), WorkerId(2)]);
    programs.lost(WorkerId(1), &gone());
    programs.spawned(WorkerId(3), Generation(0));
    assert_eq!(given(&programs.load_all(WorkerId(3)), 3), [json!("old")]);
    // The other had it already: it is refused, whatever becomes of it.
    let unload = ProgramAction::Unload {
        worker: WorkerId(2),
        load: LoadId(2),
        target: WorkerTarget(5),
    };
    assert_eq!(
        programs.answered(WorkerId(2), LoadId(2), answer(5), NOW),
        [unload]
    );
    assert_eq!(programs.lost(WorkerId(2), &gone()), []);
}

#[test]
fn a_worker_that_the_pool_ended_leaves_the_answer_to_the_others() {
    let mut programs = loaded();
    programs.load(json!("more"), "second", &[WorkerId(1), WorkerId(2)]);
    assert_eq!(
        programs.answered(WorkerId(2), LoadId(2), answer(22), NOW),
        []
    );
    let actions = programs.forget(WorkerId(1));
    assert!(matches!(
        &actions[..],
        [ProgramAction::Loaded { result: Ok(_), .. }]
    ));
}

#[test]
fn a_load_that_no_worker_has_answered_waits_for_the_next_worker() {
    let mut programs = loaded();
    programs.load(json!("more"), "second", &[WorkerId(1)]);
    assert_eq!(programs.forget(WorkerId(1)), []);
    programs.spawned(WorkerId(3), Generation(0));
    assert_eq!(
        given(&programs.load_all(WorkerId(3)), 3),
        [json!("old"), json!("more")]
    );
    let actions = programs.answered(WorkerId(3), LoadId(2), answer(32), NOW);
    assert!(matches!(
        &actions[..],
        [ProgramAction::Loaded { result: Ok(_), .. }]
    ));
}

#[test]
fn a_later_worker_that_cannot_load_a_program_serves_the_others() {
    let mut programs = loaded();
    programs.spawned(WorkerId(3), Generation(0));
    programs.load_all(WorkerId(3));
    let actions = programs.answered(
        WorkerId(3),
        LoadId(1),
        Err(Fault::new("", "no memory")),
        NOW,
    );
    assert!(matches!(
        &actions[..],
        [ProgramAction::Lacks {
            worker: WorkerId(3),
            ..
        }]
    ));
    assert!(programs.has_all(WorkerId(3)));
    assert_eq!(programs.target(WorkerId(3), LoadId(1)), Err("no memory"));
}

#[test]
fn a_program_that_a_later_worker_could_not_load_is_tried_again_after_a_pause_that_doubles() {
    let mut programs = loaded();
    programs.spawned(WorkerId(3), Generation(0));
    programs.load_all(WorkerId(3));
    let mut now = NOW;
    for pause in [100, 200, 400] {
        programs.answered(
            WorkerId(3),
            LoadId(1),
            Err(Fault::new("", "no memory")),
            now,
        );
        now += Duration::from_millis(pause - 1);
        assert_eq!(programs.retry(now), []);
        now += Duration::from_millis(1);
        assert_eq!(given(&programs.retry(now), 3), [json!("old")]);
        assert_eq!(programs.retry(now), [], "it has not answered");
        assert!(programs.has_all(WorkerId(3)));
    }
    assert_eq!(
        programs.answered(WorkerId(3), LoadId(1), answer(31), now),
        []
    );
    assert_eq!(
        programs.target(WorkerId(3), LoadId(1)),
        Ok(WorkerTarget(31))
    );
    assert_eq!(programs.retry(now + Duration::from_secs(60)), []);
}

#[test]
fn a_worker_whose_generation_was_replaced_tries_no_program_again() {
    let mut programs = loaded();
    programs.spawned(WorkerId(3), Generation(0));
    programs.load_all(WorkerId(3));
    programs.answered(
        WorkerId(3),
        LoadId(1),
        Err(Fault::new("", "no memory")),
        NOW,
    );
    programs.replace(LoadId(1), json!("new"), "replace");
    programs.swap();
    assert_eq!(programs.retry(NOW + Duration::from_secs(60)), []);
}

#[test]
fn a_later_worker_that_loads_a_program_with_other_fields_does_not_serve_it() {
    let mut programs = loaded();
    programs.spawned(WorkerId(3), Generation(0));
    programs.load_all(WorkerId(3));
    let actions = programs.answered(
        WorkerId(3),
        LoadId(1),
        Ok((WorkerTarget(31), Ok(description("text")))),
        NOW,
    );
    let unload = ProgramAction::Unload {
        worker: WorkerId(3),
        load: LoadId(1),
        target: WorkerTarget(31),
    };
    let [
        first,
        ProgramAction::Lacks {
            worker: WorkerId(3),
            fault,
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(first, &unload);
    assert!(fault.message.contains("other fields"));
    assert!(programs.has_all(WorkerId(3)) && programs.target(WorkerId(3), LoadId(1)).is_err());
}

#[test]
fn a_replacement_takes_over_in_one_step() {
    let mut programs = loaded();
    assert_eq!(programs.replace(LoadId(1), json!("new"), "replace"), []);
    let new = programs.replacing().unwrap();
    programs.spawned(WorkerId(3), new);
    assert_eq!(given(&programs.load_all(WorkerId(3)), 3), [json!("new")]);
    assert_eq!(programs.serving(), Generation(0));
    assert_eq!(
        programs.answered(WorkerId(3), LoadId(1), answer(31), NOW),
        []
    );
    assert!(programs.has_all(WorkerId(3)) && programs.is_replacing(WorkerId(3)));
    assert_eq!(programs.swap(), Some("replace"));
    assert_eq!((programs.serving(), programs.replacing()), (new, None));
    programs.spawned(WorkerId(4), new);
    assert_eq!(given(&programs.load_all(WorkerId(4)), 4), [json!("new")]);
}

#[test]
fn a_replacement_that_fails_leaves_the_old_program_serving() {
    let other = || Ok((WorkerTarget(31), Ok(description("text"))));
    for fails in 0..3 {
        let mut programs = loaded();
        programs.replace(LoadId(1), json!("new"), "replace");
        programs.replace(LoadId(1), json!("next"), "waits");
        let new = programs.replacing().unwrap();
        programs.spawned(WorkerId(3), new);
        programs.load_all(WorkerId(3));
        let actions = match fails {
            0 => programs.answered(WorkerId(3), LoadId(1), Err(gone()), NOW),
            1 => programs.answered(WorkerId(3), LoadId(1), other(), NOW),
            _ => programs.lost(WorkerId(3), &gone()),
        };
        let [ProgramAction::NotReplaced { request, fault }, rest @ ..] = &actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(*request, "replace");
        assert_eq!(fault.message.contains("other fields"), fails == 1);
        let discard = ProgramAction::Discard {
            worker: WorkerId(3),
        };
        assert_eq!(rest, &[discard][usize::from(fails == 2)..]);
        assert_eq!(
            (programs.serving(), programs.target(WorkerId(1), LoadId(1))),
            (Generation(0), Ok(WorkerTarget(11)))
        );
        // The next one begins, and a late message of the discarded worker does not fail it.
        assert_eq!(programs.replacement_request(), Some(&"waits"));
        assert_ne!(programs.replacing(), Some(new));
        assert_eq!(
            programs.answered(WorkerId(3), LoadId(1), Err(gone()), NOW),
            []
        );
        programs.spawned(WorkerId(4), Generation(0));
        assert_eq!(given(&programs.load_all(WorkerId(4)), 4), [json!("old")]);
    }
}

#[test]
fn a_program_that_is_not_loaded_is_not_replaced() {
    let mut programs = loaded();
    programs.unload(LoadId(1), |_| true);
    let actions = programs.replace(LoadId(1), json!("new"), "replace");
    assert!(matches!(
        &actions[..],
        [ProgramAction::NotReplaced {
            request: "replace",
            ..
        }]
    ));
    assert_eq!(programs.replacing(), None);
}

#[test]
fn a_program_is_unloaded_where_it_remains() {
    let mut programs = loaded();
    let actions = programs.unload(LoadId(1), |worker| worker == WorkerId(2));
    let unload = ProgramAction::Unload {
        worker: WorkerId(2),
        load: LoadId(1),
        target: WorkerTarget(12),
    };
    assert_eq!(actions, [unload]);
    assert_eq!(
        programs.target(WorkerId(1), LoadId(1)),
        Ok(WorkerTarget(11))
    );
}
