//! Text from elsewhere, made fit for a terminal.

use std::fmt::{self, Write};

/// Prints text with its control characters escaped, so that a stranger's bytes cannot move the
/// cursor, change colours or fake a line.
pub(crate) struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            // A tab moves the cursor, but only forward.
            if character.is_control() && character != '\t' {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped_and_letters_are_not() {
        assert_eq!(Printable("a\tb ü €").to_string(), "a\tb ü €");
        assert_eq!(Printable("a\nb\x1b[0m\u{9b}").to_string(), "a\\nb\\u{1b}[0m\\u{9b}");
    }
}
