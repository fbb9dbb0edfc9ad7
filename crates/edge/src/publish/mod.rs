//! Publishing, by whatever road it comes.
