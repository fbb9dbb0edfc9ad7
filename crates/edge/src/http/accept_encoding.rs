//! Whether a client wants its stream compressed (RFC 9110, section 12.5.3).

use evergate_fanout::Encoding;
use http::{HeaderMap, header};

/// What the client likes best of what there is.
///
/// Gzip must be named to be chosen: a `*` comes from clients that have not thought about it. Between
/// gzip and `identity` the larger weight decides; at the same weight, gzip, since whoever names it
/// can read it.
pub(crate) fn preferred(headers: &HeaderMap) -> Encoding {
    let (mut gzip, mut identity, mut others) = (None, None, None);
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(weight).unwrap_or(1000);
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = Some(weight),
            "*" => others = Some(weight),
            _ => {}
        }
    }
    let identity_refused = identity.or(others) == Some(0);
    let gzip = gzip.or(others.filter(|_| identity_refused)).unwrap_or(0);
    // Nothing is said of `identity`: it will do, but what is named is better.
    if gzip > 0 && gzip >= identity.unwrap_or(0) { Encoding::Gzip } else { Encoding::Identity }
}

/// A `q` in thousandths; one that makes no sense counts as a refusal.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().ok().filter(|value| (0.0..=1.0).contains(value)).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    Some((value * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str]) -> Encoding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        preferred(&headers)
    }

    #[test]
    fn gzip_is_chosen_where_it_is_named_and_not_liked_less() {
        for wanted in [
            &["gzip"][..],
            &["gzip, deflate, br, zstd"],
            &["br;q=1.0, gzip;q=0.8, *;q=0.1"],
            &["GZIP;Q=0.5"],
            &["x-gzip"],
            &["deflate", "gzip"],
            &["gzip;q=0.5, identity;q=0.5"],
            &["identity;q=0, *"],
            &["identity;q=0.3,gzip;q=0.301"],
        ] {
            assert_eq!(of(wanted), Encoding::Gzip, "{wanted:?}");
        }
        for plain in [
            &[][..],
            &[""],
            &["identity"],
            &["br, deflate"],
            &["*"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["gzip; q = 0"],
            &["gzip;q=0.4, identity;q=0.5"],
            &["gzip;q=0.5, identity"],
            &["gzip;q=nan"],
            &["gzip;q=-1"],
            &["*;q=0"],
            &["gzipped"],
        ] {
            assert_eq!(of(plain), Encoding::Identity, "{plain:?}");
        }
    }
}
