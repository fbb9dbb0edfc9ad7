//! What operators lay down.

use std::time::Duration;

use evergate_domain::cluster::{
    AfterDegradation, Breaker, Canary, CanaryState, ClusterSettings, Digest, EpochSpan, Limit, Slot,
    SlotNumber, StreamPolicy,
};
use evergate_domain::{Epoch, Level, RegionName, Retention, SlowReader, StreamName};
use evergate_proto::control::v1 as proto;

use super::{DecodeError, checked, narrow};

pub(super) fn encode_slot(number: SlotNumber, slot: &Slot) -> proto::Slot {
    let epochs = slot.epochs().iter().map(|span| proto::slot::Epoch {
        epoch: span.epoch.get(),
        home: span.home.to_string(),
        ended: span.ends.is_some(),
        ends: span.ends.map_or(0, Digest::get),
    });
    proto::Slot { number: number.get().into(), epochs: epochs.collect() }
}

pub(super) fn decode_slot(slot: &proto::Slot) -> Result<(SlotNumber, Slot), DecodeError> {
    let number = checked("slot", SlotNumber::new(slot.number.into()))?;
    let epochs = slot.epochs.iter().map(|span| {
        Ok(EpochSpan {
            epoch: decode_epoch(span.epoch)?,
            home: checked("home", RegionName::new(&span.home))?,
            ends: span.ended.then(|| Digest::new(span.ends)),
        })
    });
    let history = Slot::from_history(epochs.collect::<Result<_, DecodeError>>()?);
    Ok((number, history.ok_or_else(|| DecodeError::new("slot", "its epochs are no history"))?))
}

pub(super) fn decode_epoch(number: u64) -> Result<Epoch, DecodeError> {
    Epoch::new(number).ok_or_else(|| DecodeError::new("epoch", &format!("{number} is too large")))
}

pub(super) fn encode_policy(stream: &StreamName, policy: &StreamPolicy) -> proto::StreamPolicy {
    let level = match policy.level {
        Level::Home => proto::Level::Home,
        Level::Replicated => proto::Level::Replicated,
        Level::Quorum => proto::Level::Quorum,
    };
    let slow_reader = match policy.slow_reader {
        SlowReader::CatchUp => proto::SlowReader::CatchUp,
        SlowReader::Conflate => proto::SlowReader::Conflate,
        SlowReader::Gap => proto::SlowReader::Gap,
        SlowReader::Disconnect => proto::SlowReader::Disconnect,
    };
    let after_degradation = match policy.after_degradation {
        AfterDegradation::Replay => proto::AfterDegradation::Replay,
        AfterDegradation::Skip => proto::AfterDegradation::Skip,
    };
    let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    proto::StreamPolicy {
        stream: stream.to_string(),
        events: policy.retention.events,
        bytes: policy.retention.bytes,
        age_ms: policy.retention.age.map(millis),
        level: level.into(),
        slow_reader: slow_reader.into(),
        after_degradation: after_degradation.into(),
    }
}

pub(super) fn decode_policy(policy: &proto::StreamPolicy) -> Result<(StreamName, StreamPolicy), DecodeError> {
    let level = match policy.level() {
        proto::Level::Unspecified => return Err(DecodeError::absent("level")),
        proto::Level::Home => Level::Home,
        proto::Level::Replicated => Level::Replicated,
        proto::Level::Quorum => Level::Quorum,
    };
    let slow_reader = match policy.slow_reader() {
        proto::SlowReader::Unspecified => return Err(DecodeError::absent("slow_reader")),
        proto::SlowReader::CatchUp => SlowReader::CatchUp,
        proto::SlowReader::Conflate => SlowReader::Conflate,
        proto::SlowReader::Gap => SlowReader::Gap,
        proto::SlowReader::Disconnect => SlowReader::Disconnect,
    };
    let after_degradation = match policy.after_degradation() {
        proto::AfterDegradation::Unspecified => return Err(DecodeError::absent("after_degradation")),
        proto::AfterDegradation::Replay => AfterDegradation::Replay,
        proto::AfterDegradation::Skip => AfterDegradation::Skip,
    };
    let retention = Retention {
        events: policy.events,
        bytes: policy.bytes,
        age: policy.age_ms.map(Duration::from_millis),
    };
    let stream = checked("stream", StreamName::new(&policy.stream))?;
    Ok((stream, StreamPolicy { retention, level, slow_reader, after_degradation }))
}

pub(super) fn encode_breaker(name: &str, breaker: &Breaker) -> proto::Breaker {
    proto::Breaker {
        name: name.to_owned(),
        failures: breaker.failures,
        budget_permille_min: breaker.budget_permille_min.into(),
        p99_ms_max: breaker.p99_ms_max,
        open_ms: breaker.open_ms,
    }
}

pub(super) fn decode_breaker(breaker: &proto::Breaker) -> Result<(String, Breaker), DecodeError> {
    let decoded = Breaker {
        failures: breaker.failures,
        budget_permille_min: narrow("budget_permille_min", breaker.budget_permille_min)?,
        p99_ms_max: breaker.p99_ms_max,
        open_ms: breaker.open_ms,
    };
    Ok((breaker.name.clone(), decoded))
}

pub(super) fn encode_limit(name: &str, limit: &Limit) -> proto::Limit {
    proto::Limit { name: name.to_owned(), per_second: limit.per_second, burst: limit.burst }
}

pub(super) fn decode_limit(limit: &proto::Limit) -> (String, Limit) {
    (limit.name.clone(), Limit { per_second: limit.per_second, burst: limit.burst })
}

pub(super) fn encode_canary(canary: &Canary) -> proto::Canary {
    let (state, why) = match &canary.state {
        CanaryState::Off => (proto::CanaryState::Off, ""),
        CanaryState::Running => (proto::CanaryState::Running, ""),
        CanaryState::RolledBack { why } => (proto::CanaryState::RolledBack, &**why),
    };
    proto::Canary { share_permille: canary.share_permille.into(), state: state.into(), why: why.to_owned() }
}

pub(super) fn decode_canary(canary: &proto::Canary) -> Result<Canary, DecodeError> {
    let state = match canary.state() {
        proto::CanaryState::Unspecified => return Err(DecodeError::absent("state of a canary")),
        proto::CanaryState::Off => CanaryState::Off,
        proto::CanaryState::Running => CanaryState::Running,
        proto::CanaryState::RolledBack => CanaryState::RolledBack { why: canary.why.clone() },
    };
    Ok(Canary { share_permille: narrow("share_permille", canary.share_permille)?, state })
}

pub(super) fn encode_settings(settings: &ClusterSettings) -> proto::Settings {
    proto::Settings {
        lease_ms: settings.lease_ms,
        hysteresis_ms: settings.hysteresis_ms,
        drains_at_once: settings.drains_at_once,
        drain_share_permille: settings.drain_share_permille.into(),
        bound_permille: settings.bound_permille.into(),
        retry_ms_max: settings.retry_ms_max,
        rebalance_after_ms: settings.rebalance_after_ms,
    }
}

pub(super) fn decode_settings(settings: &proto::Settings) -> Result<ClusterSettings, DecodeError> {
    Ok(ClusterSettings {
        lease_ms: settings.lease_ms,
        hysteresis_ms: settings.hysteresis_ms,
        drains_at_once: settings.drains_at_once,
        drain_share_permille: narrow("drain_share_permille", settings.drain_share_permille)?,
        bound_permille: narrow("bound_permille", settings.bound_permille)?,
        retry_ms_max: settings.retry_ms_max,
        rebalance_after_ms: settings.rebalance_after_ms,
    })
}
