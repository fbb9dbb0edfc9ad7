//! Which products stand in between, as far as they say so.

use http::HeaderMap;

use super::client::text;

/// A product between the gateway and a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    Nginx,
    /// It never says so: only ever guessed at.
    HaProxy,
    Envoy,
    Cloudflare,
    CloudFront,
    Akamai,
    Fastly,
    Varnish,
    Caddy,
    Apache,
    Squid,
    AwsLoadBalancer,
    GoogleFrontEnd,
}

/// A field, what its value holds in lower case, and whom that gives away. Empty: any value.
const SIGNS: [(&str, &str, Product); 19] = [
    ("server", "nginx", Product::Nginx),
    ("server", "openresty", Product::Nginx),
    ("server", "envoy", Product::Envoy),
    ("server", "istio-envoy", Product::Envoy),
    ("x-envoy-upstream-service-time", "", Product::Envoy),
    ("server", "cloudflare", Product::Cloudflare),
    ("cf-ray", "", Product::Cloudflare),
    ("x-amz-cf-id", "", Product::CloudFront),
    ("via", "cloudfront", Product::CloudFront),
    ("server", "akamai", Product::Akamai),
    ("x-served-by", "cache-", Product::Fastly),
    ("via", "varnish", Product::Varnish),
    ("x-varnish", "", Product::Varnish),
    ("server", "caddy", Product::Caddy),
    ("via", "caddy", Product::Caddy),
    ("server", "apache", Product::Apache),
    ("via", "squid", Product::Squid),
    ("server", "awselb", Product::AwsLoadBalancer),
    ("via", "google", Product::GoogleFrontEnd),
];

/// Whom the fields of an answer give away. HAProxy, for one, says nothing.
pub(crate) fn recognise(headers: &HeaderMap) -> Vec<Product> {
    let mut found = Vec::new();
    for (field, sign, product) in SIGNS {
        let shown = headers.contains_key(field) && text(headers, field).to_ascii_lowercase().contains(sign);
        if shown && !found.contains(&product) {
            found.push(product);
        }
    }
    found
}

impl Product {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Cloudflare => "Cloudflare",
            Self::CloudFront => "CloudFront",
            Self::Akamai => "Akamai",
            Self::Fastly => "Fastly",
            Self::Varnish => "Varnish",
            Self::Caddy => "Caddy",
            Self::Apache => "Apache httpd",
            Self::Squid => "Squid",
            Self::AwsLoadBalancer => "AWS load balancer",
            Self::GoogleFrontEnd => "Google front end",
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn products_give_themselves_away_and_strangers_do_not() {
        let found = |fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            recognise(&fields.collect())
        };
        assert_eq!(found(&[("server", "nginx/1.22.1")]), [Product::Nginx]);
        assert_eq!(found(&[("server", "istio-envoy")]), [Product::Envoy]);
        assert_eq!(
            found(&[("server", "cloudflare"), ("cf-ray", "1"), ("via", "1.1 varnish")]),
            [Product::Cloudflare, Product::Varnish]
        );
        assert_eq!(found(&[("server", "mine"), ("x-trace-id", "1")]), []);
    }
}
