//! faulthandler's dump of all threads, read for the one that holds the GIL.
//!
//! The dump does not say which that is. All but one wait for the GIL, or for something else in a
//! place that is known: what is left is the one.

/// The thread that holds the GIL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    /// `file:line function`, innermost first.
    pub(super) frames: Vec<String>,
    /// The program that it runs, by the name that program.py gives its entry.
    pub(super) program: Option<String>,
}

/// Where threads wait without the GIL: an innermost frame there is nobody's who holds it.
const WAITS: &[&str] = &[
    "/selectors.py",
    "/threading.py",
    "/queue.py",
    "tower_dspy/loop.py",
    "tower_dspy/pool.py",
    "tower_dspy/exchange.py",
    "tower_dspy/watchdog.py",
];
/// In the frames of the loop's thread only.
const LOOP: &str = "tower_dspy/loop.py";
/// What program.py puts before a program's name.
const PROGRAM: &str = "program ";

struct Frame<'a> {
    file: &'a str,
    line: &'a str,
    function: &'a str,
}

/// Finds the thread that holds the GIL; the loop's, where it may be more than one.
pub(super) fn culprit(dump: &str) -> Option<Culprit> {
    let threads = threads(dump);
    let mut busy = threads.iter().filter(|thread| {
        let innermost = thread.first();
        innermost.is_some_and(|frame| !WAITS.iter().any(|place| frame.file.ends_with(place)))
    });
    let of_loop = |thread: &&Vec<Frame<'_>>| thread.iter().any(|frame| frame.file.ends_with(LOOP));
    let thread = busy.clone().find(of_loop).or_else(|| busy.next())?;
    Some(Culprit {
        frames: thread
            .iter()
            .map(|frame| format!("{}:{} {}", frame.file, frame.line, frame.function))
            .collect(),
        program: thread
            .iter()
            .find_map(|frame| frame.function.strip_prefix(PROGRAM))
            .map(str::to_owned),
    })
}

/// The frames of each thread, innermost first.
fn threads(dump: &str) -> Vec<Vec<Frame<'_>>> {
    let mut threads = Vec::new();
    for line in dump.lines() {
        if line.starts_with("Thread ") || line.starts_with("Current thread ") {
            threads.push(Vec::new());
        } else if let (Some(frame), Some(thread)) = (frame(line), threads.last_mut()) {
            thread.push(frame);
        }
    }
    threads
}

/// `  File "a/b.py", line 12 in function`
fn frame(line: &str) -> Option<Frame<'_>> {
    let (file, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Frame {
        file,
        line,
        function,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The form is CPython's; the threads are made up.
    const DUMP: &str = r#"Timeout (0:00:00.080000)!
Thread 0x00007f0e5d7fa6c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "<tower-dspy>/tower_dspy/watchdog.py", line 80 in _watch

Thread 0x00007f0e5dffb6c0 [tower-dspy-sync-0] (most recent call first):
  File "<tower-dspy>/tower_dspy/exchange.py", line 215 in _wait
  File "/venv/dspy/primitives/module.py", line 84 in __call__
  File "<tower-dspy>/tower_dspy/program.py", line 40 in program waits:Program

Thread 0x00007f0e6e5226c0 (most recent call first):
  File "/app/programs/slow.py", line 12 in match all
  File "<tower-dspy>/tower_dspy/program.py", line 48 in program question -> answer
  File "/usr/lib/python3.11/asyncio/events.py", line 80 in _run
  File "<tower-dspy>/tower_dspy/loop.py", line 71 in run
"#;

    #[test]
    fn the_thread_that_waits_for_nothing_is_the_one_and_its_program_is_named() {
        let culprit = culprit(DUMP).unwrap();
        assert_eq!(culprit.frames[0], "/app/programs/slow.py:12 match all");
        assert_eq!(culprit.frames.len(), 4);
        assert_eq!(culprit.program.as_deref(), Some("question -> answer"));
    }

    #[test]
    fn a_thread_of_a_pool_is_found_where_the_loop_sleeps() {
        let dump = DUMP
            .replace("/app/programs/slow.py", "/usr/lib/python3.11/selectors.py")
            .replace("tower_dspy/exchange.py", "/app/other.py");
        let culprit = culprit(&dump).unwrap();
        assert!(culprit.frames[0].ends_with("/app/other.py:215 _wait"));
        assert_eq!(culprit.program.as_deref(), Some("waits:Program"));
    }

    #[test]
    fn where_all_wait_nobody_is_named_and_garbage_is_no_dump() {
        let idle = DUMP.replace("/app/programs/slow.py", "/usr/lib/python3.11/selectors.py");
        assert_eq!(culprit(&idle), None);
        for garbage in [
            "",
            "Thread",
            "Thread 1\n  File",
            "  File \"a\", line 1 in b",
        ] {
            assert_eq!(culprit(garbage), None, "{garbage}");
        }
    }
}
