//! Reading a header field that says one thing.

use http::HeaderMap;

use crate::publish::{Faults, Part};

/// The value of a field that may be there once. It is UTF-8 as it stands: nothing in it is
/// percent-encoded, so `%20` is three characters.
pub(super) fn one(headers: &HeaderMap, name: &'static str, faults: &mut Faults) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    let detail = match (values.next(), std::str::from_utf8(value.as_bytes())) {
        (None, Ok(value)) => return Some(value.to_owned()),
        (None, Err(_)) => "is not UTF-8",
        (Some(_), _) => "is given more than once",
    };
    faults.malformed(0, Part::Header(name), detail);
    None
}
