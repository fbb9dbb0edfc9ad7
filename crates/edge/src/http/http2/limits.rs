//! What one HTTP/2 connection may have.

use std::time::Duration;

use h2::server::Builder;

use crate::config::ConnectionLimits;
use crate::http::connection::PARSER_SLACK;

/// Requests and event streams under way at once. Clients open another connection beyond it.
pub(super) const STREAMS_MAX: u32 = 128;

/// Bytes of a request's body that may be on their way to us.
const STREAM_WINDOW: u32 = 128 << 10;

/// The same of all requests together, read or not.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// The largest frame that is taken; the least that there may be.
const FRAME_MAX: u32 = 16 << 10;

/// Bytes of one stream that wait for the socket.
const SEND_BUFFER_MAX: usize = 64 << 10;

/// Streams that a client opened and reset before they were looked at. One that goes on with it is cut off.
const PENDING_RESETS_MAX: usize = 20;

/// Streams that were reset because of what the client sent on them. One that goes on with it is cut off.
const ERRORS_MAX: usize = 256;

/// What the frames of bodies that were not read yet may cost beside their bytes: some thousands of the
/// smallest ones.
const DATA_FRAME_BUDGET: usize = 1 << 20;

/// Streams that are remembered after we reset them, and how long: what is still on its way for them is no
/// mistake of the client's.
const REMEMBERED: (usize, Duration) = (32, Duration::from_secs(1));

/// Everything that the protocol lets us say, and that its implementation bounds by itself. Field blocks end
/// after as many continuations as their size may take.
pub(super) fn settings(limits: &ConnectionLimits) -> Builder {
    let header_list = u32::try_from(limits.head_bytes_max * PARSER_SLACK).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(header_list)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .data_frame_budget(DATA_FRAME_BUDGET)
        .max_concurrent_reset_streams(REMEMBERED.0)
        .reset_stream_duration(REMEMBERED.1);
    builder
}
