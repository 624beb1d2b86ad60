//! The proxies that the environment names, as the HTTP client reads them.
//!
//! The client passes over what it cannot use, and the prompts would go out past a proxy that was to
//! see them. So that is refused when the LM is connected.

use std::env;

use http::Uri;

use super::config_error::LmConfigError;

/// The schemes of proxies that the client knows.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Whether there are to be proxies at all.
///
/// # Errors
/// If a variable that the client goes by names none that it can use.
pub(super) fn any() -> Result<bool, LmConfigError> {
    // Set by a web server, along with what a request chose for HTTP_PROXY.
    if env::var_os("REQUEST_METHOD").is_some() {
        return Ok(false);
    }
    // The client takes it for names of hosts alone, not for addresses.
    let none = first(["NO_PROXY", "no_proxy"]);
    if none.is_some_and(|(_, hosts)| hosts.split(',').any(|host| host.trim() == "*")) {
        return Ok(false);
    }
    for names in [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"]] {
        let own = first(names).filter(|(_, url)| !url.is_empty());
        let proxy = own.or_else(|| first(["ALL_PROXY", "all_proxy"]));
        if let Some((variable, url)) = proxy
            && !url.is_empty()
            && !is_usable(&url)
        {
            return Err(LmConfigError::Proxy { variable });
        }
    }
    Ok(true)
}

/// The first of these variables that is set, be it to nothing.
fn first(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| {
        let value = env::var_os(name)?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

fn is_usable(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        let known = uri.scheme_str().is_none_or(|name| SCHEMES.contains(&name));
        known
            && uri.authority().is_some_and(|at| {
                let place = at.as_str().rsplit('@').next().unwrap_or_default();
                !at.host().is_empty() && (place == at.host() || at.port_u16().is_some())
            })
    })
}
