//! Each ailment from its evidence, and none from a healthy way.

use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(pair).collect()
}

fn open(resume: &str) -> First {
    First::Open { resume: resume.to_owned(), cursor: "1-2".to_owned() }
}

fn look(first: First) -> Look {
    Look {
        version: Version::HTTP_11,
        status: 200,
        headers: headers(&[
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("transfer-encoding", "chunked"),
        ]),
        explanation: None,
        first,
        first_after: Duration::from_millis(3),
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn healthy() -> Evidence {
    Evidence {
        compressible: Some(look(open("live"))),
        plain: Some(look(open("live"))),
        published: Published::Done(Delivery {
            delays: vec![ms(4), ms(5), ms(900)],
            acknowledged: vec![ms(3), ms(6), ms(3)],
            missing: false,
            train: Some((ms(460), ms(455))),
        }),
        idle: Some(Idle { waited: ms(20_000), age: ms(22_000), heartbeats: 1, end: None }),
        resumed: Some(look(open("exact"))),
        http2: Http2::Answered(look(open("live"))),
        cors: Some(Cors {
            origin: "https://a".into(),
            allowed: vec!["*".into()],
            preflight: Some((204, true)),
        }),
        ..Evidence::default()
    }
}

fn ailments(evidence: &Evidence) -> Vec<Ailment> {
    diagnose(evidence).into_iter().map(|finding| finding.ailment).collect()
}

/// A healthy way but for one thing has one ailment.
#[track_caller]
fn finds(ailment: Ailment, spoil: impl FnOnce(&mut Evidence)) {
    let mut evidence = healthy();
    spoil(&mut evidence);
    assert_eq!(ailments(&evidence), [ailment]);
}

fn with(name: &'static str, value: &'static str) -> Option<Look> {
    let mut look = look(open("live"));
    look.headers.insert(name, HeaderValue::from_static(value));
    Some(look)
}

fn without(name: &'static str) -> Option<Look> {
    let mut look = look(open("live"));
    look.headers.remove(name);
    Some(look)
}

fn delivery(evidence: &mut Evidence) -> &mut Delivery {
    match &mut evidence.published {
        Published::Done(delivery) => delivery,
        other @ (Published::NotAsked | Published::Refused(_)) => panic!("{other:?}"),
    }
}

#[test]
fn a_healthy_way_has_nothing() {
    assert_eq!(ailments(&healthy()), []);
}

#[test]
fn what_the_head_tells() {
    finds(Ailment::CacheControlRewritten, |it| it.compressible = with("cache-control", "max-age=60"));
    finds(Ailment::AccelLost, |it| it.compressible = without("x-accel-buffering"));
    finds(Ailment::StoredCopy, |it| it.compressible = with("age", "7"));
    finds(Ailment::StoredCopy, |it| it.compressible = with("x-cache", "HIT from here"));
    finds(Ailment::Compressed, |it| it.compressible = with("content-encoding", "gzip"));
    finds(Ailment::LengthTold, |it| it.compressible = with("content-length", "100"));
    finds(Ailment::CloseDelimited, |it| it.compressible = without("transfer-encoding"));
    finds(Ailment::Redirected, |it| it.redirects.push((302, "https://b".into())));
}

#[test]
fn a_stream_whose_head_is_held_back_is_buffered_and_not_unreachable() {
    let silent = Evidence { silent_but: Some(headers(&[("server", "nginx")])), ..Evidence::default() };
    let findings = diagnose(&silent);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].ailment, &findings[0].products[..]), (Ailment::Buffered, &[Product::Nginx][..]));
    let unreachable = Evidence { unreachable: Some("refused".into()), ..Evidence::default() };
    assert_eq!(ailments(&unreachable), [Ailment::Unreachable]);
}

#[test]
fn what_the_beginning_tells() {
    finds(Ailment::Buffered, |it| it.plain = Some(look(First::Nothing)));
    finds(Ailment::CutByAge, |it| it.plain = Some(look(First::Ended)));
    finds(Ailment::Stranger, |it| it.plain = Some(look(First::Stranger)));
    finds(Ailment::NoEdge, |it| it.plain = Some(look(First::Busy { reason: "no-edge".into() })));
    finds(Ailment::Busy, |it| it.plain = Some(look(First::Busy { reason: "full".into() })));
    finds(Ailment::HeldBack, |it| {
        it.plain = Some(Look { first_after: ms(1_500), ..look(open("live")) });
    });
}

#[test]
fn what_is_no_stream_is_all_that_is_told() {
    let answer = |status, kind: &'static str| Evidence {
        compressible: Some(Look {
            status,
            headers: headers(&[("content-type", kind)]),
            first: First::NoStream,
            ..look(First::NoStream)
        }),
        ..Evidence::default()
    };
    assert_eq!(ailments(&answer(200, "text/html")), [Ailment::NotAStream]);
    assert_eq!(ailments(&answer(404, "application/problem+json")), [Ailment::Refused]);
    assert_eq!(ailments(&answer(502, "text/html")), [Ailment::ServerError]);
}

#[test]
fn what_events_tell() {
    finds(Ailment::Buffered, |it| delivery(it).missing = true);
    finds(Ailment::HeldBack, |it| delivery(it).delays = vec![ms(900), ms(800), ms(3)]);
    finds(Ailment::Coalesced, |it| delivery(it).train = Some((ms(460), ms(2))));
    finds(Ailment::PublishRefused, |it| it.published = Published::Refused("403".into()));
    finds(Ailment::NotPublished, |it| it.published = Published::NotAsked);
}

#[test]
fn what_an_idle_stream_tells() {
    let ended = |age, heartbeats, silent, goaway| {
        Some(Idle {
            waited: ms(60_000),
            age: ms(age),
            heartbeats,
            end: Some(End { silent: ms(silent), cut: None, goaway }),
        })
    };
    finds(Ailment::CutWhenIdle, |it| it.idle = ended(6_000, 0, 5_000, false));
    finds(Ailment::CutByAge, |it| it.idle = ended(15_000, 14, 900, false));
    finds(Ailment::Goaway, |it| it.idle = ended(15_000, 14, 900, true));
    finds(Ailment::NoHeartbeat, |it| {
        it.idle = Some(Idle { waited: ms(60_000), age: ms(61_000), heartbeats: 0, end: None });
    });
}

#[test]
fn what_the_other_requests_tell() {
    finds(Ailment::LastEventIdLost, |it| it.resumed = Some(look(open("live"))));
    finds(Ailment::StoredCopy, |it| it.stored_copy = true);
    finds(Ailment::NoHttp2, |it| it.http2 = Http2::NotOffered);
    finds(Ailment::Http2Broken, |it| it.http2 = Http2::Answered(look(First::Nothing)));
    let cors = |allowed: &[&str], preflight| {
        let allowed = allowed.iter().map(|&origin| origin.to_owned()).collect();
        Some(Cors { origin: "https://a".into(), allowed, preflight })
    };
    finds(Ailment::OriginRefused, |it| it.cors = cors(&[], Some((204, true))));
    finds(Ailment::OriginRefused, |it| it.cors = cors(&["https://b"], Some((204, true))));
    finds(Ailment::OriginTwice, |it| it.cors = cors(&["https://a", "*"], Some((204, true))));
    finds(Ailment::PreflightFails, |it| it.cors = cors(&["https://a"], Some((405, false))));
}
