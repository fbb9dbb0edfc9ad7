//! What an edge is told of access.

use std::sync::Arc;
use std::time::Duration;

use evergate_access::{Grants, Rules};

use crate::access::KeySource;

/// Who is let in.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// What a token must claim.
    pub rules: Rules,
    /// Where the keys are, at least one.
    pub sources: Vec<Arc<dyn KeySource>>,
    /// How often they are read anew.
    pub keys_refresh: Duration,
    /// For how long the keys of a source that cannot be read are believed.
    pub keys_stale_max: Duration,
    /// What may be done without a token.
    pub anonymous: Arc<Grants>,
    /// So long before its token expires a stream is told.
    pub reauth_before: Duration,
    /// The cookie that may hold a token, if one may.
    pub cookie: Option<String>,
    /// Whether the query parameter `access_token` may.
    pub query_token: bool,
}
