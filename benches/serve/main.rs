//! A DSPy program behind axum, on a real loopback socket, with real clients: what HTTP adds to a
//! call, how soon the LM's connection closes when the client hangs up, and what a server's end
//! loses.
//!
//! Run: `cargo bench --bench serve`

mod added;
mod client;
mod disconnect;
mod rolling;
mod room;
mod sigterm;
#[path = "../support/mod.rs"]
mod support;

use support::{count, figure, works_left};

use self::room::Room;

#[tokio::main]
async fn main() {
    let room = Room::new().await;
    let added = added::measure(&room).await;
    let gone = disconnect::measure(&room).await;
    let ends = sigterm::measure(&room).await;
    let restarts = rolling::measure(&room).await;
    let left = works_left(&room.host).await;

    println!(
        "{} calls each way, interleaved; {} disconnects, one at a time and many at once, the \
         figure is the worse of the two; {} SIGTERMs and {} restarts with {} clients at work",
        added.direct.len(),
        gone.one.len() + gone.many.len(),
        sigterm::ROUNDS,
        rolling::RESTARTS,
        room::CLIENTS,
    );
    for (name, percentile) in [("p50", 50.0), ("p99", 99.0)] {
        let (direct, http) = (added.direct.ms(percentile), added.http.ms(percentile));
        figure(&format!("http_direct_{name}"), direct * 1e3, "us");
        figure(&format!("http_served_{name}"), http * 1e3, "us");
        let (one, many) = (gone.one.ms(percentile), gone.many.ms(percentile));
        figure(&format!("disconnect_to_lm_close_c1_{name}"), one, "ms");
        figure(&format!("disconnect_to_lm_close_c64_{name}"), many, "ms");
    }
    count("sigterm_answered", ends.answered);
    count("sigterm_refused", ends.refused);
    count("sigterm_never_accepted", ends.never_accepted);
    count("rolling_restart_calls", restarts.calls);
    count("rolling_restart_retries", restarts.retries);
    count("serve_works_left", left);
    let added = added.http.ms(50.0) - added.direct.ms(50.0);
    figure("http_added_p50", added * 1e3, "us");
    let gone = gone.one.ms(99.0).max(gone.many.ms(99.0));
    figure("disconnect_to_lm_close_p99", gone, "ms");
    count("rolling_restart_errors", restarts.errors);
    count("sigterm_lost", ends.lost);
}
