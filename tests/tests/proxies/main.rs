//! The gateway behind nginx, HAProxy and Envoy, each with the very file of `deploy/proxies`, and what
//! `evergate doctor` says of them when they are set up wrong.

mod addresses;
mod admission;
mod away;
mod browsers;
mod calls;
mod doctor;
mod early;
mod edges;
mod rolling;
mod streams;

use evergate_tests::frame::Item;
use evergate_tests::subscription::{Next, Subscription};

pub(crate) const EVENTS: &str = "/v1/streams/s/events";

/// Each story is told through each product, as a test of its own.
macro_rules! through_each {
    ($($story:ident),+ $(,)?) => {
        mod nginx { $(#[tokio::test] async fn $story() {
            super::$story(concat!("nginx::", stringify!($story)), evergate_tests::proxy::Product::Nginx).await;
        })+ }
        mod haproxy { $(#[tokio::test] async fn $story() {
            super::$story(concat!("haproxy::", stringify!($story)), evergate_tests::proxy::Product::HaProxy).await;
        })+ }
        mod envoy { $(#[tokio::test] async fn $story() {
            super::$story(concat!("envoy::", stringify!($story)), evergate_tests::proxy::Product::Envoy).await;
        })+ }
    };
}
pub(crate) use through_each;

/// Waits for `n` heartbeats.
pub(crate) async fn heartbeats(stream: &mut Subscription, n: usize) {
    let mut heard = 0;
    while heard < n {
        match stream.next().await {
            Next::Item(Item::Comment(_)) => heard += 1,
            other @ (Next::Item(Item::Frame(_) | Item::Retry(_)) | Next::End(_)) => {
                panic!("a heartbeat was expected, not {other:?}")
            }
        }
    }
}
