//! The proxy on the way to an API server, if there is one. A container runtime's environment often names one for pulling images,
//! and its plugins inherit that.

use std::net::IpAddr;

use chain::{Error, Result};
use hyper::Uri;
use hyper_util::client::{
    legacy::connect::proxy::Tunnel,
    proxy::matcher::{Intercept, Matcher},
};

/// A proxy that is asked to connect to the API server.
pub struct Proxy(Intercept);

impl Proxy {
    /// The proxy to `server`: its kubeconfig's `proxy-url`, else as the environment says, read as client-go reads it:
    /// `HTTPS_PROXY` (for `http` URLs `HTTP_PROXY`), but for what `NO_PROXY` lists and for this host itself.
    ///
    /// Errors (7): it is no `http` proxy.
    pub fn to(
        server: &Uri,
        own: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>> {
        let matcher = match own {
            Some(url) => Matcher::builder().all(url.to_owned()).build(),
            None if is_loopback(server.host()) => return Ok(None),
            None => {
                let value = |upper: &str, lower: &str| {
                    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
                    given(upper).or_else(|| given(lower)).unwrap_or_default()
                };
                Matcher::builder()
                    .https(value("HTTPS_PROXY", "https_proxy"))
                    .http(value("HTTP_PROXY", "http_proxy"))
                    .no(value("NO_PROXY", "no_proxy"))
                    .build()
            }
        };
        let Some(proxy) = matcher.intercept(server) else { return Ok(None) };
        if proxy.uri().scheme_str() != Some("http") {
            return Err(Error::config(format!(
                "proxy {} is of a kind that is not supported: name an http:// proxy, or exclude {server} by NO_PROXY",
                proxy.uri()
            )));
        }
        Ok(Some(Self(proxy)))
    }

    /// A connector through it.
    pub fn tunnel<C>(&self, connector: C) -> Tunnel<C> {
        let tunnel = Tunnel::new(self.0.uri().clone(), connector);
        match self.0.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        }
    }
}

fn is_loopback(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use chain::Code;

    use super::*;

    /// The proxy's URL.
    fn proxy(
        server: &str,
        own: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<String>> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Proxy::to(&server.parse().unwrap(), own, variable)?;
        Ok(proxy.map(|proxy| proxy.0.uri().to_string()))
    }

    #[test]
    fn the_environment_says_which_servers_are_behind_a_proxy() {
        let through = Some("http://proxy:3128/".to_owned());
        let no_proxy = "localhost,127.0.0.1,10.96.0.0/12, fd00::/8,.example,,";
        for (server, expected) in [
            ("https://10.0.0.1:6443", &through),
            ("https://api.test:6443", &through),
            ("https://[fe80::1]:6443", &through),
            ("https://10.96.0.1:443", &None),
            ("https://[fd00::1]:6443", &None),
            ("https://api.example", &None),
            ("https://127.1.2.3:6443", &None),
            ("https://[::1]:6443", &None),
            ("https://localhost:6443", &None),
            ("http://10.0.0.1", &None),
        ] {
            for url in ["http://proxy:3128", "proxy:3128"] {
                for (proxy_name, no_name) in
                    [("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")]
                {
                    let variables = [(proxy_name, url), (no_name, no_proxy)];
                    assert_eq!(&proxy(server, None, &variables).unwrap(), expected, "{server}");
                }
            }
            assert_eq!(proxy(server, None, &[]).unwrap(), None);
            assert_eq!(proxy(server, None, &[("HTTPS_PROXY", "")]).unwrap(), None);
        }
    }

    #[test]
    fn the_kubeconfigs_own_proxy_counts_for_its_server() {
        let variables = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "*")];
        for server in ["https://10.0.0.1:6443", "https://127.0.0.1:6443"] {
            let own = proxy(server, Some("http://own:8080"), &variables).unwrap();
            assert_eq!(own.as_deref(), Some("http://own:8080/"));
        }
    }

    #[test]
    fn other_kinds_of_proxies_are_named() {
        for url in ["https://proxy:3128", "socks5://proxy:1080"] {
            let error = proxy("https://10.0.0.1", None, &[("HTTPS_PROXY", url)]).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig);
            assert!(error.msg.contains(url), "{error}");
        }
    }
}
