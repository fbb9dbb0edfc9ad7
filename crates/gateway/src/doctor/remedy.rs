//! How to mend each ailment, in the words of the products that were recognised.

use super::diagnosis::Ailment;
use super::product::Product;

/// What to do. Empty where nothing needs doing.
pub(crate) fn remedies(ailment: Ailment, products: &[Product]) -> Vec<String> {
    let own: Vec<String> = products
        .iter()
        .filter_map(|&product| Some(format!("{}: {}", product.name(), of_product(ailment, product)?)))
        .collect();
    let mut all: Vec<String> = general(ailment).into_iter().map(str::to_owned).collect();
    if own.is_empty() {
        // Somebody who does not say its name: HAProxy, or one that was told to keep it.
        all.extend([Product::Nginx, Product::HaProxy, Product::Envoy].into_iter().filter_map(|product| {
            Some(format!("if it is {}: {}", product.name(), of_product(ailment, product)?))
        }));
    }
    all.extend(own);
    all
}

fn general(ailment: Ailment) -> Option<&'static str> {
    match ailment {
        Ailment::Unreachable => {
            Some("check the name, the port, the certificate (--ca FILE) and the firewall")
        }
        Ailment::ServerError => Some(
            "a proxy does not reach an edge, and this status stops a browser's EventSource for ever: start the edge, and turn the proxy's own 502, 503 and 504 into a stream (docs/operating/proxies.md)",
        ),
        Ailment::Refused => Some("a lasting fault: check the path, the stream's name and the rights"),
        Ailment::NotAStream => Some("a proxy sends this path elsewhere: check its routes"),
        Ailment::Redirected => Some(
            "give clients the final URL: some browsers come back to the target for ever after, others never follow",
        ),
        Ailment::NoEdge => Some("start an edge; clients stay alive meanwhile and come back by themselves"),
        Ailment::Busy => Some("examine again when the gateway has room"),
        Ailment::Stranger => Some("check that the URL leads to Evergate, and that nothing rewrites the body"),
        Ailment::Buffered | Ailment::HeldBack | Ailment::Coalesced => Some(
            "switch off buffering, compression and rate limits for event streams in every proxy on the way",
        ),
        Ailment::Compressed => Some("leave event streams alone: Cache-Control says no-transform"),
        Ailment::CacheControlRewritten => Some("pass Cache-Control through as it is"),
        Ailment::StoredCopy => Some("exempt event streams from every cache: a copy is somebody else's past"),
        Ailment::AccelLost => None,
        Ailment::LengthTold => {
            Some("a proxy collects the whole stream before it answers: switch off buffering")
        }
        Ailment::CloseDelimited => {
            Some("let the proxy speak HTTP/1.1 with chunks, or HTTP/2, to its clients")
        }
        Ailment::CutWhenIdle => Some(
            "raise the idle timeout of the proxy above several heartbeats (sse.heartbeat, 15 s), say 90 s",
        ),
        Ailment::CutByAge => Some("lift the limit on the duration of a whole answer for event streams"),
        Ailment::Goaway => Some("examine again; if nothing was restarted, its log says why"),
        Ailment::NoHeartbeat => Some("check sse.heartbeat, and whether a proxy drops comment lines"),
        Ailment::LastEventIdLost => Some("let the request header Last-Event-ID through"),
        Ailment::NoHttp2 => Some("offer HTTP/2 over TLS where browsers connect"),
        Ailment::Http2Broken => Some("compare the proxy's settings for HTTP/2 with those for HTTP/1.1"),
        Ailment::OriginRefused => {
            Some("add the origin to http.cors_origins, and check that no proxy drops CORS headers")
        }
        Ailment::OriginTwice => {
            Some("let either the gateway (http.cors_origins) or the proxy send it, not both")
        }
        Ailment::PreflightFails => {
            Some("let OPTIONS through to the gateway; EventSource needs none, other clients do")
        }
        Ailment::PublishRefused | Ailment::NotPublished => {
            Some("give a gateway that takes test events: --publish-to URL, with --stream for one it accepts")
        }
    }
}

fn of_product(ailment: Ailment, product: Product) -> Option<&'static str> {
    let fits = |row: &&Row| row.0 == product && row.1.contains(&ailment);
    BY_PRODUCT.iter().find(fits).map(|row| row.2)
}

/// Who, what for, and what to do.
type Row = (Product, &'static [Ailment], &'static str);

const BY_PRODUCT: &[Row] = &[
    (
        Product::Nginx,
        &[Ailment::Buffered, Ailment::HeldBack, Ailment::LengthTold],
        "`proxy_buffering off;`, and no `proxy_ignore_headers X-Accel-Buffering`",
    ),
    (Product::Nginx, &[Ailment::Coalesced], "`proxy_buffering off;` and no `limit_rate`"),
    (Product::Nginx, &[Ailment::Compressed], "`gzip off;` in the location of the streams"),
    (
        Product::Nginx,
        &[Ailment::CacheControlRewritten],
        "no `expires`, and no `proxy_hide_header Cache-Control`",
    ),
    (Product::Nginx, &[Ailment::StoredCopy], "`proxy_cache off;` in the location of the streams"),
    (
        Product::Nginx,
        &[Ailment::AccelLost],
        "it keeps the field to itself; if another proxy stands in front of it, `proxy_pass_header X-Accel-Buffering;`",
    ),
    (Product::Nginx, &[Ailment::CloseDelimited], "`chunked_transfer_encoding on;`"),
    (Product::Nginx, &[Ailment::CutWhenIdle], "`proxy_read_timeout 90s;`"),
    (
        Product::Nginx,
        &[Ailment::LastEventIdLost],
        "no `proxy_set_header Last-Event-ID …`, and no `proxy_pass_request_headers off`",
    ),
    (Product::Nginx, &[Ailment::NoHttp2], "`listen 443 ssl http2;`, from 1.25.1 on `http2 on;`"),
    (
        Product::Nginx,
        &[Ailment::OriginTwice],
        "no `add_header Access-Control-Allow-Origin` where the gateway answers",
    ),
    (
        Product::Nginx,
        &[Ailment::ServerError],
        "`error_page 502 503 504 = @evergate_away;` as in deploy/proxies/nginx.conf",
    ),
    (Product::HaProxy, &[Ailment::Coalesced], "`option http-no-delay`"),
    (Product::HaProxy, &[Ailment::Compressed], "no `compression type text/event-stream`"),
    (Product::HaProxy, &[Ailment::StoredCopy], "no `http-request cache-use` for the streams"),
    (Product::HaProxy, &[Ailment::CutWhenIdle], "`timeout server 90s` and `timeout client 90s`"),
    (Product::HaProxy, &[Ailment::NoHttp2], "`bind … alpn h2,http/1.1`"),
    (
        Product::HaProxy,
        &[Ailment::ServerError],
        "`http-error` and `http-after-response` as in deploy/proxies/haproxy.cfg",
    ),
    (Product::Envoy, &[Ailment::Buffered, Ailment::HeldBack], "no buffer filter on the route"),
    (Product::Envoy, &[Ailment::Compressed], "no compressor filter for text/event-stream"),
    (Product::Envoy, &[Ailment::StoredCopy], "no cache filter on the route"),
    (Product::Envoy, &[Ailment::CutWhenIdle], "`stream_idle_timeout: 90s`, and the route's `idle_timeout`"),
    (
        Product::Envoy,
        &[Ailment::CutByAge],
        "`timeout: 0s` on the route (15 s by default), and no `max_stream_duration`",
    ),
    (Product::Envoy, &[Ailment::NoHttp2], "`alpn_protocols: [h2, http/1.1]`"),
    (Product::Envoy, &[Ailment::ServerError], "`local_reply_config` as in deploy/proxies/envoy.yaml"),
    (
        Product::Cloudflare,
        &[Ailment::Buffered, Ailment::HeldBack, Ailment::Compressed, Ailment::CacheControlRewritten],
        "keep Cache-Control: no-transform, and switch off what rewrites bodies for this path",
    ),
    (
        Product::Cloudflare,
        &[Ailment::CutWhenIdle],
        "it gives up after about 100 s without a byte: keep heartbeats well below that",
    ),
    (Product::Cloudflare, &[Ailment::StoredCopy], "a cache rule that bypasses this path"),
    (
        Product::CloudFront,
        &[Ailment::StoredCopy, Ailment::Buffered, Ailment::HeldBack, Ailment::CacheControlRewritten],
        "a cache policy that disables caching for this path",
    ),
    (Product::CloudFront, &[Ailment::CutWhenIdle], "raise the origin's response timeout"),
    (
        Product::Akamai,
        &[Ailment::StoredCopy, Ailment::Buffered, Ailment::HeldBack, Ailment::CacheControlRewritten],
        "no-store for this path, and no buffering of the response",
    ),
    (
        Product::Fastly,
        &[Ailment::StoredCopy, Ailment::Buffered, Ailment::HeldBack, Ailment::CacheControlRewritten],
        "return(pass) for this path, and streaming miss",
    ),
    (Product::Fastly, &[Ailment::CutWhenIdle], "raise between_bytes_timeout of the backend"),
    (
        Product::Varnish,
        &[Ailment::StoredCopy, Ailment::Buffered, Ailment::HeldBack, Ailment::CacheControlRewritten],
        "return (pipe) or return (pass) for this path, with beresp.do_stream",
    ),
    (Product::Varnish, &[Ailment::CutWhenIdle], "raise between_bytes_timeout of the backend"),
    (
        Product::Squid,
        &[Ailment::StoredCopy, Ailment::Buffered, Ailment::HeldBack, Ailment::CacheControlRewritten],
        "`cache deny` for this path",
    ),
    (Product::Squid, &[Ailment::CutWhenIdle], "raise `read_timeout`"),
    (
        Product::Caddy,
        &[Ailment::Buffered, Ailment::HeldBack, Ailment::Coalesced],
        "`flush_interval -1` in reverse_proxy",
    ),
    (Product::Caddy, &[Ailment::Compressed], "exclude text/event-stream from `encode`"),
    (
        Product::Apache,
        &[Ailment::Buffered, Ailment::HeldBack, Ailment::Coalesced],
        "`ProxyPass … flushpackets=on`, and no mod_deflate for text/event-stream",
    ),
    (Product::Apache, &[Ailment::Compressed], "`SetEnvIf Request_URI \"/events$\" no-gzip=1`"),
    (Product::Apache, &[Ailment::CutWhenIdle], "`ProxyPass … timeout=90`"),
    (
        Product::AwsLoadBalancer,
        &[Ailment::CutWhenIdle],
        "idle_timeout.timeout_seconds is 60 s by default: 120 or more",
    ),
    (
        Product::GoogleFrontEnd,
        &[Ailment::CutByAge, Ailment::CutWhenIdle],
        "timeoutSec of the backend service counts the whole stream (30 s by default): raise it",
    ),
];
