//! A service account of Google's, and the endpoint that gives tokens for what it signs.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The token that the endpoint gives.
pub(super) const TOKEN: &str = "a-token-of-google";

const EMAIL: &str = "tests@a-project.iam.gserviceaccount.com";

/// The file of a service account, in a folder that is removed with this.
#[derive(Debug)]
pub(super) struct ServiceAccount {
    folder: TempDir,
}

impl ServiceAccount {
    /// Makes a key and starts the endpoint, which gives a token for an assertion that it signed.
    pub(super) async fn start() -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).expect("a key");
        let private_key = pem(der.as_ref());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let uri = format!(
            "http://{}/token",
            listener.local_addr().expect("an address")
        );
        let router = Router::new()
            .route("/token", post(token))
            .with_state(Arc::new(key));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let account = json!({
            "type": "service_account", "project_id": "a-project", "client_email": EMAIL,
            "client_id": "1", "private_key_id": "1", "private_key": private_key, "token_uri": uri,
        });
        let folder = TempDir::new().expect("a folder");
        let account = std::fs::write(folder.path().join("account.json"), account.to_string());
        account.expect("a file");
        Self { folder }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("account.json")
    }
}

async fn token(
    State(key): State<Arc<KeyPair>>,
    form: String,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let refused = |why| (StatusCode::UNAUTHORIZED, why);
    let mut fields = form.split('&').filter_map(|field| field.split_once('='));
    let assertion = fields.find(|(name, _)| *name == "assertion");
    let (_, assertion) = assertion.ok_or_else(|| refused("no assertion"))?;
    let (signed, signature) = assertion
        .rsplit_once('.')
        .ok_or_else(|| refused("no signature"))?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| refused("no base64"))?;
    let public_key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key());
    let verified = public_key.verify(signed.as_bytes(), &signature);
    verified.map_err(|_| refused("another signature"))?;
    let claims = signed.split('.').nth(1).unwrap_or_default();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    if claims["iss"] != EMAIL {
        return Err(refused("another account"));
    }
    Ok(Json(
        json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}),
    ))
}

fn pem(der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let lines = encoded.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    let lines = lines.join("\n");
    format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n")
}
