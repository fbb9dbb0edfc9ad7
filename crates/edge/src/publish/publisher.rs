//! The one road to the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use evergate_domain::{AgreedLimits, Allowance, EventDraft, StreamName, StreamPolicies};
use evergate_eventlog::{AppendError, EventLog, Placed};
use evergate_telemetry::Tracer;
use tokio::sync::Semaphore;

use super::ingest::Ingest;
use super::{Admitted, ProducerBindings, PublishError, Sender, Submission};
use crate::config::PublishLimits;
use crate::memory::Shortage;
use crate::meter::{Meters, smaller};

/// Takes submissions, decides whether they may go to the log, and sends them there. Cheap to clone.
///
/// Everything that can be refused without the log is refused before anything is sent to it.
#[derive(Clone)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<dyn EventLog>,
    policies: Arc<StreamPolicies>,
    limits: PublishLimits,
    producers: ProducerBindings,
    meters: Meters,
    tracer: Tracer,
    shortage: Arc<Shortage>,
    /// Places for large bodies over HTTP.
    large: Arc<Semaphore>,
    /// Whether the last append failed for a reason of the log's own, so that an outage is one line
    /// in the output and not one for each event.
    failing: AtomicBool,
}

/// By which way a submission came: a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Grpc,
    GrpcStream,
}

/// Large bodies over HTTP that are in memory at once, from all connections together.
const LARGE_BODIES_MAX: usize = 64;

const EVENTS: &str = "evergate_publish_events_total";
const SECONDS: &str = "evergate_publish_seconds";

impl Publisher {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        policies: Arc<StreamPolicies>,
        limits: PublishLimits,
        agreed: &AgreedLimits,
        producers: ProducerBindings,
        tracer: Tracer,
        shortage: Arc<Shortage>,
    ) -> Self {
        let meters = Meters::of_publishes(&limits.rates, agreed);
        let large = Arc::new(Semaphore::new(LARGE_BODIES_MAX));
        let failing = AtomicBool::new(false);
        let shared = Shared { log, policies, limits, producers, meters, tracer, shortage, large, failing };
        Self { shared: Arc::new(shared) }
    }

    /// The bounds on a submission.
    pub(crate) fn limits(&self) -> PublishLimits {
        self.shared.limits
    }

    /// Places for bodies that are large, of which so many are in memory at once; more of them wait.
    pub(super) fn large_bodies(&self) -> &Arc<Semaphore> {
        &self.shared.large
    }

    /// Whether an event has room at all now.
    pub(super) fn has_room(&self) -> Result<(), PublishError> {
        if self.shared.shortage.refuses_publishes() { Err(PublishError::ShortOfMemory) } else { Ok(()) }
    }

    /// Takes so many events from the budgets of whoever sends them; `None` if nothing is bounded.
    pub(super) fn charge(&self, sender: &Sender, events: usize) -> Result<Option<Allowance>, PublishError> {
        self.has_room()?;
        let who = sender.caller.principal().map(AsRef::as_ref);
        let taken = self.shared.meters.of_sender(sender.from.group(), who, counted(events));
        taken.map_err(|(whose, too_fast)| PublishError::TooFast { whose, too_fast })
    }

    /// Admits a submission, or says why not. Limits come first, then whether its sender may, also as whom,
    /// then whether the stream exists, then the level, whether there is memory, and at last the stream's budget,
    /// which only those use up who may.
    pub(super) fn admit(&self, sender: &Sender, submission: Submission) -> Result<Admitted, PublishError> {
        let (mut admitted, level) = submission.check(self.shared.limits)?;
        sender.may_publish(&admitted.stream, &admitted.events)?;
        let producers = admitted.events.iter().enumerate();
        for (index, producer) in
            producers.filter_map(|(index, event)| Some((index, event.producer.as_ref()?)))
        {
            if !self.shared.producers.allow(sender.identity.as_deref(), &producer.id) {
                return Err(PublishError::NotItsProducer { index, producer: producer.id.clone() });
            }
        }
        if !self.shared.policies.exists(&admitted.stream) {
            return Err(PublishError::UnknownStream);
        }
        let offered = self.shared.log.level(&admitted.stream);
        // The cluster may ask for more than whoever publishes, and for more than this log has to give.
        let agreed = self.shared.policies.agreed.of(&admitted.stream, |policy| policy.level);
        match level.max(agreed) {
            // More safety than was asked for is no reason to refuse.
            Some(demanded) if demanded > offered => {
                return Err(PublishError::LevelUnavailable { stream: admitted.stream, demanded, offered });
            }
            Some(_) | None => {}
        }
        if !self.shared.shortage.takes(admitted.events.iter().map(room_of).sum()) {
            return Err(PublishError::ShortOfMemory);
        }
        let taken = self.shared.meters.of_stream(&admitted.stream, counted(admitted.events.len()));
        admitted.allowance = taken.map_err(|(whose, too_fast)| PublishError::TooFast { whose, too_fast })?;
        Ok(admitted)
    }

    /// Appends admitted events of one stream: all or none.
    ///
    /// Not cancel-safe, as the log's append is not: it may take effect although nobody waits for it.
    pub(super) async fn append(
        &self,
        stream: &StreamName,
        mut events: Vec<EventDraft>,
    ) -> Result<Vec<Placed>, PublishError> {
        let expected = events.len();
        let ingest = Ingest::begin(&self.shared.tracer, &mut events);
        let result = self.shared.log.append(stream, events).await;
        if let Some(ingest) = ingest {
            ingest.end(stream, self.shared.log.level(stream), result.as_deref());
        }
        self.notice(result.as_ref().err());
        let placed = result?;
        assert_eq!(placed.len(), expected, "the log answers for each event");
        Ok(placed)
    }

    /// Admits and appends; tells what is left of the budgets.
    ///
    /// `charged` is what is left of the sender's.
    pub(super) async fn publish(
        &self,
        sender: &Sender,
        submission: Submission,
        charged: Option<Allowance>,
    ) -> Result<(Vec<Placed>, Option<Allowance>), PublishError> {
        let Admitted { stream, events, allowance } = self.admit(sender, submission)?;
        let placed = self.append(&stream, events).await?;
        Ok((placed, smaller(charged, allowance)))
    }

    /// Counts a submission that was answered.
    pub(super) fn count(&self, transport: Transport, arrived: Instant, answer: Result<&[Placed], Refusal>) {
        let transport = transport.label();
        let counted = |result: &'static str, events: usize| {
            if events > 0 {
                metrics::counter!(EVENTS, "transport" => transport, "result" => result)
                    .increment(events as u64);
            }
        };
        match answer {
            Ok(placed) => {
                let duplicates = placed.iter().filter(|placed| placed.duplicate).count();
                counted("published", placed.len() - duplicates);
                counted("duplicate", duplicates);
            }
            Err(refusal) => counted(refusal.word, refusal.events.max(1)),
        }
        metrics::histogram!(SECONDS, "transport" => transport).record(arrived.elapsed().as_secs_f64());
    }

    fn notice(&self, error: Option<&AppendError>) {
        let failing = match error {
            None | Some(AppendError::SequenceTooOld { .. } | AppendError::OtherLevel { .. }) => false,
            Some(AppendError::Full(_) | AppendError::Unavailable(_)) => true,
            Some(AppendError::Closed) => return,
        };
        // A read first: most appends change nothing, and a write would move the line between cores.
        if self.shared.failing.load(Ordering::Relaxed) == failing
            || self.shared.failing.swap(failing, Ordering::Relaxed) == failing
        {
            return;
        }
        match error {
            Some(error) if failing => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::error!(%error, cause, "the log does not take events");
            }
            Some(_) | None => tracing::info!("the log takes events again"),
        }
    }
}

/// Bytes that an event takes while it is under way: its data, and about so much for the rest of it.
fn room_of(event: &EventDraft) -> u64 {
    event.data.len() as u64 + 512
}

/// Events as they are charged: what holds none was an attempt.
fn counted(events: usize) -> u32 {
    u32::try_from(events.max(1)).unwrap_or(u32::MAX)
}

/// A refusal, as it is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    /// How many events were refused; not known if what arrived could not be read.
    pub(super) events: usize,
    pub(super) word: &'static str,
}

impl Transport {
    fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::GrpcStream => "grpc_stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU64;

    use evergate_domain::{Epoch, Offset, Seq};
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
    use parking_lot::Mutex;

    use super::*;
    use crate::publish::testing::{LIMITS, TestLog};

    /// The counters by name and labels.
    #[derive(Default)]
    struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Recorder for Counters {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            Counter::from_arc(Arc::clone(self.0.lock().entry(name).or_default()))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn every_event_is_counted_by_what_became_of_it() {
        let counters = Counters::default();
        let publisher = TestLog::new().publisher(LIMITS);
        let offset = Offset::new(Epoch::new(1).expect("fits"), Seq::new(1).expect("fits"));
        let placed = [true, false, false].map(|duplicate| Placed { offset, duplicate });
        metrics::with_local_recorder(&counters, || {
            let now = Instant::now();
            publisher.count(Transport::Grpc, now, Ok(&placed));
            publisher.count(Transport::Http, now, Err(Refusal { events: 7, word: "too-large" }));
            // What could not be read counts as one.
            publisher.count(Transport::Http, now, Err(Refusal { events: 0, word: "too-large" }));
        });
        let counted: Vec<_> = counters
            .0
            .lock()
            .iter()
            .map(|(name, count)| (name.clone(), count.load(Ordering::SeqCst)))
            .collect();
        let expected = [
            ("evergate_publish_events_total transport=grpc result=duplicate", 1),
            ("evergate_publish_events_total transport=grpc result=published", 2),
            ("evergate_publish_events_total transport=http result=too-large", 8),
        ];
        assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)));
    }
}
