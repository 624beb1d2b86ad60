//! Clients that disconnect in the middle of a call, over real sockets.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    response::IntoResponse,
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::ServiceExt;
use tower_dspy::{CallContext, Cancel, Cause, InboundLayer, drop_scope};

use super::support::SOON;

/// What a call that ended early was told: by the drop, and by its node.
type Told = (Cause, Option<Cause>);

/// Tells of its drop.
struct Watch {
    cancel: Cancel,
    told: mpsc::UnboundedSender<Told>,
    begun: mpsc::UnboundedSender<Cancel>,
}

impl Watch {
    fn begin(self) -> Self {
        let _ = self.begun.send(self.cancel.clone());
        self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.told.send((drop_scope::cause(), self.cancel.cause()));
    }
}

struct Room {
    app: Router,
    begun: mpsc::UnboundedReceiver<Cancel>,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Room {
    /// `/wait` reads its body and never answers; `/drip` sends one chunk, and no other; `/whole`
    /// sends two and is done.
    fn new() -> Self {
        let (begun, began) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let watch = move |context: CallContext| Watch {
            cancel: context.cancel,
            told: tell.clone(),
            begun: begun.clone(),
        };
        let (wait, drip, whole) = (watch.clone(), watch.clone(), watch);
        let app = Router::new()
            .route(
                "/wait",
                post(
                    |Extension(context): Extension<CallContext>, _: Bytes| async move {
                        let _watch = wait(context).begin();
                        std::future::pending::<()>().await
                    },
                ),
            )
            .route(
                "/drip",
                get(|Extension(context): Extension<CallContext>| async move {
                    let watch = drip(context);
                    chunks(1)
                        .chain(stream::once(async move {
                            let _watch = watch.begin();
                            std::future::pending().await
                        }))
                        .boxed()
                        .into_body()
                }),
            )
            .route(
                "/whole",
                get(|Extension(context): Extension<CallContext>| async move {
                    let watch = whole(context).begin();
                    let body = chunks(2).map(move |chunk| {
                        let _with_the_body = &watch;
                        chunk
                    });
                    body.boxed().into_body()
                }),
            )
            .layer(InboundLayer::new());
        Self {
            app,
            begun: began,
            told,
        }
    }

    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = self.app.clone();
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    async fn begun(&mut self) -> Cancel {
        let begun = tokio::time::timeout(SOON, self.begun.recv()).await;
        begun.expect("no call began").unwrap()
    }

    async fn told(&mut self) -> Told {
        let told = tokio::time::timeout(SOON, self.told.recv()).await;
        told.expect("nobody was told").unwrap()
    }
}

fn chunks(n: usize) -> stream::Iter<std::vec::IntoIter<Result<Bytes, Infallible>>> {
    stream::iter(vec![Ok(Bytes::from_static(b"chunk")); n])
}

trait IntoBody {
    fn into_body(self) -> axum::response::Response;
}

impl<S> IntoBody for S
where
    S: stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    fn into_body(self) -> axum::response::Response {
        Body::from_stream(self).into_response()
    }
}

const GONE: Told = (Cause::ClientGone, Some(Cause::ClientGone));

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_works_cancels_the_handler() {
    let mut room = Room::new();
    let address = room.serve().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"POST /wait HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi";
    client.write_all(request).await.unwrap();
    let call = room.begun().await;
    assert_eq!(call.cause(), None);
    drop(client);
    assert_eq!(room.told().await, GONE);
    assert_eq!(call.cause(), Some(Cause::ClientGone));
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_a_stream_cancels_the_stream() {
    let mut room = Room::new();
    let address = room.serve().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET /drip HTTP/1.1\r\nhost: here\r\n\r\n";
    client.write_all(request).await.unwrap();
    room.begun().await;
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(client);
    assert_eq!(room.told().await, GONE);
}

#[tokio::test]
async fn an_answer_read_to_its_end_cancels_nothing() {
    let mut room = Room::new();
    let address = room.serve().await;
    let response = reqwest::get(format!("http://{address}/whole"))
        .await
        .unwrap();
    assert_eq!(response.text().await.unwrap(), "chunkchunk");
    let call = room.begun().await;
    assert_eq!(room.told().await, (Cause::Dropped, None));
    assert_eq!(call.cause(), None);
}

#[tokio::test]
async fn dropping_a_body_before_its_end_cancels_the_call() {
    let mut room = Room::new();
    let to = |path| Request::get(path).body(Body::empty()).unwrap();
    let response = room.app.clone().oneshot(to("/whole")).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    let call = room.begun().await;
    drop(body);
    assert_eq!(room.told().await, GONE);
    assert_eq!(call.cause(), Some(Cause::ClientGone));
}

#[tokio::test]
async fn a_node_in_the_extensions_is_the_parent_of_the_calls() {
    let mut room = Room::new();
    let above = Cancel::new();
    let mut context = CallContext::new();
    context.cancel = above.clone();
    let request = Request::post("/wait").extension(context);
    let request = request.body(Body::empty()).unwrap();
    let answer = tokio::spawn(room.app.clone().oneshot(request));
    let call = room.begun().await;
    above.cancel(Cause::Shutdown);
    assert_eq!(call.cause(), Some(Cause::Shutdown));
    answer.abort();
    // The first cause stays.
    assert_eq!(
        room.told().await,
        (Cause::ClientGone, Some(Cause::Shutdown))
    );
}

#[tokio::test]
async fn the_cause_that_the_dropper_names_is_kept() {
    let mut room = Room::new();
    let request = Request::post("/wait").body(Body::empty()).unwrap();
    let call = tokio::spawn(room.app.clone().oneshot(request));
    room.begun().await;
    call.abort();
    assert_eq!(
        room.told().await,
        (Cause::ClientGone, Some(Cause::ClientGone))
    );

    let request = Request::post("/wait").body(Body::empty()).unwrap();
    let mut call = Box::pin(room.app.clone().oneshot(request));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop_scope::with(Cause::Deadline, || drop(call));
    assert_eq!(room.told().await, (Cause::Deadline, Some(Cause::Deadline)));
}
