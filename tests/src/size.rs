//! How large a test is: small in the suite, larger by a variable for whoever measures.

/// What a variable says, or else this.
///
/// # Panics
/// If the variable is no number.
#[must_use]
pub fn of(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable)
        .map_or(otherwise, |size| size.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
