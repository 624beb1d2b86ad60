//! Clients that go away, in each phase of their call.

use super::*;

/// Where a reply can be when its client goes away: how it is asked for, and after which tokens.
fn phases(model: &str) -> Vec<(&'static str, Reply, Value, usize)> {
    let never = Gate::new();
    let text = || Reply::answer("one two three four five six");
    vec![
        ("held", text().held_by(&never), chat(model), 0),
        ("delay", text().delay(HOUR), chat(model), 0),
        ("delay, streaming", text().delay(HOUR), streamed(model), 0),
        ("hang", Reply::hang(), chat(model), 0),
        (
            "before the head",
            text().pause_after(3, &never),
            chat(model),
            3,
        ),
        ("drip before the head", text().drip(HOUR), chat(model), 0),
        (
            "first token of a stream",
            text().drip(HOUR),
            streamed(model),
            0,
        ),
        ("stream", text().pause_after(3, &never), streamed(model), 3),
        (
            "status, trickled",
            Reply::status(500).trickle(HOUR),
            chat(model),
            0,
        ),
        (
            "trickle before a token",
            text().trickle(MS).drip(HOUR),
            chat(model),
            0,
        ),
    ]
}

#[tokio::test]
async fn a_closed_socket_is_noticed_in_every_phase() {
    let lm = ScriptedLm::start().await.unwrap();
    for (n, (phase, reply, _, tokens)) in phases("").into_iter().enumerate() {
        let model = format!("raw-{n}");
        let (.., body, _) = phases(&model).swap_remove(n);
        lm.script(&model, reply);
        let before = Instant::now();
        let tcp = raw(&lm, &body).await;
        lm.wait_for(&model, running(tokens)).await.expect(phase);
        assert_eq!(lm.connections(), 1, "{phase}");

        drop(tcp);
        let seen = lm.wait_for(&model, gone).await.expect(phase);
        assert_eq!(seen[0].tokens, tokens, "{phase}");
        assert!(before <= seen[0].arrived, "{phase}");
        assert!(Some(seen[0].arrived) <= seen[0].client_gone, "{phase}");
        assert_eq!(seen[0].finished, None, "{phase}");
        lm.wait_for_connections(|open| open == 0)
            .await
            .expect(phase);
    }
}

#[tokio::test]
async fn a_dropped_call_is_noticed_in_every_phase() {
    let lm = shared().await;
    for (n, (phase, reply, _, tokens)) in phases("").into_iter().enumerate() {
        let model = format!("reqwest-{n}");
        let (.., body, _) = phases(&model).swap_remove(n);
        lm.script(&model, reply);
        let call = async {
            // With a head sent at once the call is in its body.
            let _ = post(lm, &body).await.expect("a head comes").bytes().await;
            unreachable!("the reply never ends");
        };
        tokio::select! {
            () = call => {}
            seen = lm.wait_for(&model, running(tokens)) => { seen.expect(phase); }
        }
        lm.wait_for(&model, gone).await.expect(phase);
    }
}

#[tokio::test]
async fn a_closed_socket_is_noticed_while_a_body_trickles() {
    let lm = shared().await;
    lm.script("trickle-gone", Reply::answer("x").trickle(HOUR));
    let mut tcp = raw(lm, &chat("trickle-gone")).await;
    let head = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(tcp);
    lm.wait_for("trickle-gone", gone).await.expect(SEEN);
}

#[tokio::test]
async fn a_client_that_only_stops_writing_counts_as_gone() {
    let lm = shared().await;
    lm.script("half-closed", Reply::hang());
    let mut tcp = raw(lm, &chat("half-closed")).await;
    lm.wait_for("half-closed", running(0)).await.expect(SEEN);
    tcp.shutdown().await.unwrap();
    lm.wait_for("half-closed", gone).await.expect(SEEN);
}

#[tokio::test]
async fn a_client_that_stops_reading_blocks_the_stream_until_it_disconnects() {
    let lm = shared().await;
    let text = "word ".repeat(100_000);
    lm.script("unread", Reply::content(text));
    let tcp = raw(lm, &streamed("unread")).await;
    lm.wait_for("unread", |r| r.iter().any(|r| r.tokens > 0))
        .await
        .expect(SEEN);
    drop(tcp);
    let seen = lm.wait_for("unread", gone).await.expect(SEEN);
    assert!(seen[0].tokens < 100_000, "{}", seen[0].tokens);
}
