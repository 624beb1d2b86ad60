//! The limit of the requests that ask a provider to abort LM calls.

use std::sync::atomic::AtomicUsize;

use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;

use super::{super::abort::AT_ONCE, *};

#[tokio::test(start_paused = true)]
async fn so_many_aborts_are_sent_at_once_and_the_others_after_them() {
    let aborts = Arc::new(AtomicUsize::new(0));
    let count = aborts.clone();
    let (lm, _) = lm(move |_, request: LmRequest| {
        let is_abort = request.uri().path() == "/stop";
        let count = count.clone();
        async move {
            if is_abort {
                count.fetch_add(1, Ordering::Relaxed);
                sleep(SECOND).await;
            }
            let piece = Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"a")));
            let body = stream::iter([piece]).chain(stream::pending());
            Ok::<_, BoxError>(Response::new(StreamBody::new(body)))
        }
    });
    let lm = connect(&lm.abort(|_| {
        let request = ::http::Request::post("http://lm/stop");
        request.body(Bytes::new()).ok()
    }));
    for _ in 0..=AT_ONCE {
        let answer = lm.send(request(URL, "x", true)).await.expect("a head");
        drop(answer);
    }
    sleep(SECOND / 2).await;
    assert_eq!(aborts.load(Ordering::Relaxed), AT_ONCE);
    sleep(SECOND).await;
    assert_eq!(aborts.load(Ordering::Relaxed), AT_ONCE + 1);
}
