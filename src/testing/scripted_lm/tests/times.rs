//! The order of answers, and the earliest instants of heads, tokens and bytes.

use super::*;

#[tokio::test]
async fn gates_set_the_order_of_answers() {
    let lm = shared().await;
    let (first, second) = (Gate::new(), Gate::new());
    lm.script(
        "ordered",
        [&first, &second].map(|gate| Reply::echo().held_by(gate)),
    );
    let mut early = raw(lm, &chat("ordered")).await;
    lm.wait_for("ordered", |r| r.len() == 1).await.expect(SEEN);
    let mut late = raw(lm, &chat("ordered")).await;
    lm.wait_for("ordered", |r| r.len() == 2).await.expect(SEEN);

    second.open();
    read_until(&mut late, "\r\n\r\n").await;
    let outcomes: Vec<_> = lm.requests("ordered").iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Running, Outcome::Answered]);

    first.open();
    first.wait().await;
    read_until(&mut early, "\r\n\r\n").await;
    lm.wait_for("ordered", answered).await.expect(SEEN);
}

#[tokio::test]
async fn tokens_sent_after_an_instant_are_counted() {
    let lm = shared().await;
    let gate = Gate::new();
    lm.script(
        "abandoned",
        Reply::content("a b c d e").pause_after(2, &gate),
    );
    let tcp = raw(lm, &chat("abandoned")).await;
    lm.wait_for("abandoned", running(2)).await.expect(SEEN);
    // The caller gives up here, but nobody tells the LM.
    let gave_up = Instant::now();
    gate.open();
    let seen = lm.wait_for("abandoned", answered).await.expect(SEEN);
    assert_eq!(seen[0].tokens_after(gave_up), 3);
    assert_eq!(seen[0].tokens_after(seen[0].arrived), 5);
    assert!(seen[0].running_at(gave_up));
    assert!(!seen[0].running_at(seen[0].finished.unwrap()));
    drop(tcp);
}

#[tokio::test]
async fn tokens_and_heads_are_never_early() {
    let lm = shared().await;
    let slow = Reply::content("a b c").delay(20 * MS).drip(10 * MS);
    lm.script("paced", slow);
    answer(lm, "paced").await;
    let seen = lm.wait_for("paced", answered).await.expect(SEEN);
    let mut last = seen[0].arrived + 20 * MS;
    for &token in &seen[0].token_times {
        assert!(token >= last + 10 * MS);
        last += 10 * MS;
    }
    assert_eq!(seen[0].tokens, 3);
}

#[tokio::test]
async fn bytes_are_never_early() {
    let lm = shared().await;
    // The bytes do not make up for the time that the token took.
    let slow = Reply::content("x").drip(50 * MS).trickle(MS / 10);
    lm.script("trickle-paced", slow);
    let body = post(lm, &chat("trickle-paced")).await.unwrap().bytes();
    let length = body.await.unwrap().len() as u32;
    let seen = lm.wait_for("trickle-paced", answered).await.expect(SEEN);
    let token = seen[0].token_times[0];
    assert!(seen[0].finished >= Some(token + length * MS / 10));
}

#[tokio::test]
async fn a_trickled_body_follows_its_head() {
    let lm = shared().await;
    let gate = Gate::new();
    lm.script(
        "trickle",
        Reply::content("x")
            .trickle(Duration::ZERO)
            .pause_after(0, &gate),
    );
    let mut tcp = raw(lm, &chat("trickle")).await;
    let head = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(running(0)(&lm.requests("trickle")));
    let length = head
        .split_once("content-length: ")
        .expect("it has a length")
        .1;
    let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
    gate.open();
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.unwrap();
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
}
