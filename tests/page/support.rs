//! A server of a page, and calls to look at.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tower::{Layer, ServiceExt, util::BoxCloneService};
use tower_dspy::{
    CallId, CancelLayer, Deadline, DeadlineLayer, Error, ErrorKind, TrackLayer, Tracker,
    WithContext, page::DebugPage, testing::error_of,
};

/// As long as a test waits for what should happen at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// What a call does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Answer,
    Fail,
    Hang,
    /// It goes on after a cancel and after its deadline.
    CleanUp,
}

type Calls = BoxCloneService<WithContext<Work>, (), Error>;

/// Calls of `label` in `tracker`.
pub(crate) fn calls(tracker: &Tracker, label: &str) -> Calls {
    tracked(TrackLayer::new(tracker.clone()).with_label(label))
}

/// The same, which the tracker cannot cancel.
pub(crate) fn observed_calls(tracker: &Tracker, label: &str) -> Calls {
    tracked(
        TrackLayer::new(tracker.clone())
            .observe_only()
            .with_label(label),
    )
}

fn tracked(layer: TrackLayer) -> Calls {
    let work = async |work| match work {
        Work::Answer => Ok(()),
        Work::Fail => Err(error_of(ErrorKind::Program).expect("an error")),
        Work::Hang | Work::CleanUp => std::future::pending().await,
    };
    let stops = tower::service_fn(move |call: WithContext<Work>| work(call.request));
    let goes_on = stops;
    let stops = DeadlineLayer::new(LONG).layer(CancelLayer::new().layer(stops));
    let service = tower::service_fn(move |call: WithContext<Work>| {
        let (stops, goes_on) = (stops.clone(), goes_on);
        async move {
            match call.request {
                Work::CleanUp => goes_on.oneshot(call).await,
                _ => stops.oneshot(call).await,
            }
        }
    });
    BoxCloneService::new(layer.layer(service))
}

/// A call that has been made.
pub(crate) struct Made {
    pub(crate) id: CallId,
    pub(crate) answer: JoinHandle<Result<(), Error>>,
}

/// Makes a call that may take as long as `limit`.
pub(crate) fn make(calls: &Calls, work: Work, limit: Duration) -> Made {
    let mut call = WithContext::new(work);
    call.context.deadline = Some(Deadline::within(limit));
    let id = call.context.id();
    let answer = tokio::spawn(calls.clone().oneshot(call));
    Made { id, answer }
}

/// Makes a call, and waits for its answer.
pub(crate) async fn answered(calls: &Calls, work: Work, limit: Duration) -> CallId {
    let made = make(calls, work, limit);
    let _ = timeout(SOON, made.answer).await.expect("no answer");
    made.id
}

/// Waits until so many calls are under way.
pub(crate) async fn under_way(tracker: &Tracker, count: usize) {
    let all = async {
        while tracker.counts().running != count as u64 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, all).await.expect("calls that run");
}

/// A served page.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    /// Where the page is mounted.
    path: &'static str,
}

impl Site {
    pub(crate) async fn of(page: DebugPage) -> Self {
        Self::at("/debug/calls", page).await
    }

    /// A page that is nested at `path`, or merged if that is empty.
    pub(crate) async fn at(path: &'static str, page: DebugPage) -> Self {
        let app = match path {
            "" => page.into_router(),
            path => Router::new().nest(path, page.into_router()),
        };
        Self::serve(path, app).await
    }

    pub(crate) async fn as_service_at(path: &'static str, page: DebugPage) -> Self {
        let page = page.into_router::<()>();
        Self::serve(path, Router::new().nest_service(path, page)).await
    }

    async fn serve(path: &'static str, app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = Client::builder().redirect(Policy::none()).no_proxy();
        let client = client.timeout(SOON).build().unwrap();
        Self {
            address,
            client,
            path,
        }
    }

    /// The address of a path of the page: `` is the page itself.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, self.path)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// The body of an answer with status 200.
    pub(crate) async fn read(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.text().await.unwrap()
    }
}

/// The values of this attribute in a page.
pub(crate) fn attributes(html: &str, name: &str) -> Vec<String> {
    let start = format!(" {name}=\"");
    let values = html.split(&*start).skip(1);
    let values = values.filter_map(|rest| Some(rest.split_once('"')?.0));
    values.map(|value| value.replace("&amp;", "&")).collect()
}
