//! The check of an LM's settings, and its key with where it may go.

use http::Uri;

use super::{
    base_url::{origin_of, own_origin},
    config_error::LmConfigError,
    credential::Credential,
    key::{Origin, SecretKey},
    key_source::key,
    model::{Lm, LmKey},
    provider::LmProvider,
    reserved_options,
};

/// Checks what needs no provider: the options, the base URL, and a key that the LM was given.
pub(super) fn check(lm: &Lm) -> Result<(), LmConfigError> {
    reserved_options::check(lm)?;
    own_origin(lm)?;
    match lm.key {
        LmKey::ProvidersOwn => Ok(()),
        _ => key(lm, &LmProvider::default(), None).map(drop),
    }
}

/// Warns of an address that is allowed and mostly a mistake.
fn warn_of_address(lm: &Lm, key: Option<&SecretKey>, origin: Option<&Origin>) {
    let (Some(origin), Some(_)) = (origin, &lm.base_url) else {
        return;
    };
    if key.is_some() && origin.is_plain() && !origin.is_nearby() {
        tracing::warn!(
            target: "tower_dspy",
            model = lm.model,
            address = origin.as_str(),
            "the LM's key and prompts are sent unencrypted: give `Lm::base_url` with `https`",
        );
    }
    let has_port = |url: &String| url.parse::<Uri>().is_ok_and(|uri| uri.port().is_some());
    if origin.is_local() && !lm.base_url.as_ref().is_some_and(has_port) {
        tracing::warn!(
            target: "tower_dspy",
            model = lm.model,
            address = origin.as_str(),
            "the LM's address on this machine has no port: most servers need one in `Lm::base_url`",
        );
    }
}

/// The key of an LM and where it may go.
///
/// # Errors
/// If there is no key and the provider wants one.
pub(super) fn credential(lm: &Lm, provider: &LmProvider) -> Result<Credential, LmConfigError> {
    let mut origin = own_origin(lm)?;
    if origin.is_none()
        && let Some(url) = &provider.url
    {
        origin = Some(origin_of(url)?);
    }
    let key = key(lm, provider, origin.as_ref())?;
    warn_of_address(lm, key.as_ref(), origin.as_ref());
    Ok(Credential {
        key,
        origin,
        is_token: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's side says of a provider at this address.
    fn provider(url: &str, variables: &[&str]) -> LmProvider {
        LmProvider {
            url: Some(url.to_owned()),
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            has_credentials: false,
        }
    }

    fn origin(found: &Credential) -> Option<&str> {
        found.origin.as_ref().map(Origin::as_str)
    }

    #[test]
    fn the_address_of_the_lm_goes_before_that_of_its_provider() {
        let there = provider("https://api.there.example/v1/chat", &[]);
        let lm = Lm::new("there/x").key("k");
        let found = credential(&lm, &there).expect("it is complete");
        assert_eq!(origin(&found), Some("https://api.there.example:443"));
        let lm = lm.base_url("https://gateway.example/v1");
        let found = credential(&lm, &there).expect("it is complete");
        assert_eq!(origin(&found), Some("https://gateway.example:443"));
    }

    #[test]
    fn a_provider_with_credentials_of_its_own_needs_no_key() {
        let lm = Lm::new("cloud/x");
        let mut cloud = provider("https://cloud.example", &["TOWER_DSPY_NO_SUCH_VARIABLE"]);
        let error = credential(&lm, &cloud).expect_err("no key");
        assert!(matches!(error, LmConfigError::NoKey { .. }), "{error}");
        cloud.has_credentials = true;
        assert!(
            credential(&lm, &cloud)
                .expect("it is complete")
                .key
                .is_none()
        );
    }

    #[test]
    fn a_server_on_this_machine_needs_no_key() {
        for url in [
            "http://localhost:8000/v1",
            "http://127.0.0.1:1",
            "http://[::1]:9",
        ] {
            let local = provider(url, &["TOWER_DSPY_NO_SUCH_VARIABLE"]);
            let found = credential(&Lm::new("local/x"), &local).expect("it is complete");
            assert!(found.key.is_none());
        }
    }

    #[test]
    fn an_empty_key_variable_counts_as_missing() {
        let lm = Lm::new("ollama_chat/x").key("");
        let found = credential(&lm, &LmProvider::by_name(&lm));
        assert!(found.expect("it is complete").key.is_none());
    }

    #[test]
    fn without_python_an_lm_needs_an_address() {
        let lm = Lm::new("mine/x").key("secret");
        let error = lm.connect().expect_err("no address");
        assert!(matches!(error, LmConfigError::NoAddress { .. }), "{error}");
        assert!(error.to_string().contains("$MINE_BASE_URL"), "{error}");
        let lm = lm.base_url("http://127.0.0.1:9/v1");
        lm.connect().expect("an address");
        let found = credential(&lm, &LmProvider::by_name(&lm)).expect("an address");
        assert_eq!(origin(&found), Some("http://127.0.0.1:9"));
    }
}
