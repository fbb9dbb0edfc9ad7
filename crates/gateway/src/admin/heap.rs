//! `/debug/heap`: which code holds how much memory, as the allocator samples it. Off unless the process was
//! started with the allocator told to: it keeps a stack for each sampled allocation, which costs.
//!
//! `POST` begins to sample, `GET` takes a profile (pprof, gzipped), `DELETE` ends it.

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{About, problem, reply};

pub(super) const HEAP: &str = "/debug/heap";

const OFF: &str = "the allocator does not sample in this process: start it with _RJEM_MALLOC_CONF=prof:true,prof_active:false,lg_prof_sample:19";

pub(super) async fn heap(State(about): State<About>, method: Method, headers: HeaderMap) -> Response {
    if let Err(refused) = about.entry.admit(&headers) {
        return *refused;
    }
    let Some(profiler) = sampled::profiler() else { return problem(StatusCode::CONFLICT, OFF) };
    let answer = match method {
        Method::POST => profiler.begin().await.map(|()| reply_state(true)),
        Method::DELETE => profiler.end().await.map(|()| reply_state(false)),
        _ => profiler.take().await.map(|profile| match profile {
            Some(profile) => {
                let headers = [
                    (header::CONTENT_TYPE, "application/gzip"),
                    (header::CACHE_CONTROL, "no-store"),
                    (header::CONTENT_DISPOSITION, "attachment; filename=\"heap.pb.gz\""),
                ];
                (headers, profile).into_response()
            }
            None => problem(StatusCode::CONFLICT, "nothing is sampled yet: begin with POST"),
        }),
    };
    answer.unwrap_or_else(|why| {
        tracing::error!(why, "the allocator gives no profile");
        problem(StatusCode::INTERNAL_SERVER_ERROR, &why)
    })
}

fn reply_state(sampling: bool) -> Response {
    reply(StatusCode::OK, "application/json", &json!({ "sampling": sampling }))
}

/// The allocator's own profiler, where its build has one.
#[cfg(target_env = "gnu")]
mod sampled {
    use std::sync::Arc;

    use jemalloc_pprof::{JemallocProfCtl, PROF_CTL};
    use tokio::sync::Mutex;

    pub(super) struct Profiler(Arc<Mutex<JemallocProfCtl>>);

    /// `None` if the process was not started for it.
    pub(super) fn profiler() -> Option<Profiler> {
        PROF_CTL.as_ref().map(|profiler| Profiler(Arc::clone(profiler)))
    }

    impl Profiler {
        pub(super) async fn begin(&self) -> Result<(), String> {
            let mut profiler = self.0.lock().await;
            if profiler.activated() {
                return Ok(());
            }
            profiler.activate().map_err(|error| error.to_string())
        }

        pub(super) async fn end(&self) -> Result<(), String> {
            let mut profiler = self.0.lock().await;
            if !profiler.activated() {
                return Ok(());
            }
            profiler.deactivate().map_err(|error| error.to_string())
        }

        /// `None` if nothing is being sampled.
        pub(super) async fn take(&self) -> Result<Option<Vec<u8>>, String> {
            let profiler = Arc::clone(&self.0).lock_owned().await;
            if !profiler.activated() {
                return Ok(None);
            }
            // It writes a file and reads it, symbols and all.
            let taken = tokio::task::spawn_blocking(move || {
                let mut profiler = profiler;
                profiler.dump_pprof().map_err(|error| format!("{error:#}"))
            });
            taken.await.map_err(|error| error.to_string())?.map(Some)
        }
    }
}

/// Elsewhere the allocator is built without one: it needs the C library's unwinder.
#[cfg(not(target_env = "gnu"))]
mod sampled {
    pub(super) enum Profiler {}

    pub(super) fn profiler() -> Option<Profiler> {
        None
    }

    impl Profiler {
        pub(super) async fn begin(&self) -> Result<(), String> {
            match *self {}
        }

        pub(super) async fn end(&self) -> Result<(), String> {
            match *self {}
        }

        pub(super) async fn take(&self) -> Result<Option<Vec<u8>>, String> {
            match *self {}
        }
    }
}
