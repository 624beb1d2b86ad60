//! `qa-service` serves; `qa-service doctor` checks the set-up, and sends nothing to the LM.

use std::process::ExitCode;

use qa_service::{config::Config, server};
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    tracing_subscriber::fmt::init(); // RUST_LOG sets its level
    let config = Config::load()?;
    match std::env::args().nth(1).as_deref() {
        None => server::serve(config).await.map(|()| ExitCode::SUCCESS),
        Some("doctor") => {
            let diagnosis = server::doctor(&config).run().await;
            print!("{diagnosis}");
            Ok(diagnosis.into())
        }
        Some(command) => Err(format!("there is no command `{command}`").into()),
    }
}
