//! The head of a stream: everything an append must know, and nothing of the events themselves.
//!
//! Appending is decided here, purely, and carried out by the implementation: [`StreamHead::plan`]
//! judges a batch without touching anything, [`StreamHead::commit`] makes the plan true.

use std::collections::HashMap;
use std::sync::Arc;

use evergate_domain::{Epoch, Event, EventDraft, Offset, ProducerId, Seq, UnixMillis};

use crate::producers::{Verdict, Window};
use crate::{AppendError, Epochs, Lineage, Placed, ProducerTable, Run, Standing};

/// What is known of a stream without reading it.
#[derive(Debug, Default)]
pub struct StreamHead {
    /// Where its epochs end.
    pub lineage: Lineage,
    /// The last sequence that is gone.
    pub floor: Seq,
    /// The newest event's time. Never goes back, whatever the clock does.
    pub last_time: UnixMillis,
    /// Who published lately.
    pub producers: ProducerTable,
}

/// A batch, judged: what is new and where it will stand.
#[derive(Debug)]
pub struct Plan {
    /// The new events, dense after the tail.
    pub events: Vec<Arc<Event>>,
    /// The answer, an entry per event of the batch.
    pub answer: Vec<Placed>,
    windows: HashMap<ProducerId, Window>,
}

/// What a commit changed besides the events, for a log that stores it. A run is known by its
/// producer and its first sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadChange<'a> {
    /// The run is new, or longer than it was.
    Run(&'a ProducerId, Run),
    /// The run that begins here is forgotten.
    Gone(&'a ProducerId, Seq),
}

impl StreamHead {
    /// The newest event, or `<epoch>-0`.
    #[must_use]
    pub fn tail(&self, current: Epoch) -> Offset {
        self.lineage.cursor_at(self.lineage.tail_seq(), current)
    }

    /// The newest event that is gone, spelled as a cursor that can be resumed from.
    #[must_use]
    pub fn floor(&self, current: Epoch) -> Offset {
        self.lineage.cursor_at(self.floor, current)
    }

    /// Judges a cursor.
    #[must_use]
    pub fn judge(&self, cursor: Offset, epochs: &Epochs) -> Standing {
        self.lineage.judge(cursor, self.floor, epochs)
    }

    /// Judges a batch: drops what is known already, gives the rest its places, refuses the whole
    /// batch if one of its events cannot be judged. Changes nothing.
    pub fn plan(&self, epoch: Epoch, now: UnixMillis, batch: Vec<EventDraft>) -> Result<Plan, AppendError> {
        let time = now.max(self.last_time);
        let mut next = Offset::new(epoch, self.lineage.tail_seq().plus(1));
        let mut plan =
            Plan { events: Vec::new(), answer: Vec::with_capacity(batch.len()), windows: HashMap::new() };
        for (index, draft) in batch.into_iter().enumerate() {
            if let Some(producer) = &draft.producer {
                let window = plan
                    .windows
                    .entry(producer.id.clone())
                    .or_insert_with(|| self.producers.window(&producer.id).cloned().unwrap_or_default());
                match window.judge(producer.seq) {
                    Verdict::New => window.push(producer.seq, next),
                    Verdict::Duplicate(offset) => {
                        plan.answer.push(Placed { offset, duplicate: true });
                        continue;
                    }
                    Verdict::TooOld { newest } => {
                        return Err(AppendError::SequenceTooOld {
                            index,
                            producer: producer.id.clone(),
                            seq: producer.seq,
                            newest,
                        });
                    }
                }
            }
            plan.answer.push(Placed { offset: next, duplicate: false });
            plan.events.push(Arc::new(draft.placed(next, time)));
            next = next.next();
        }
        Ok(plan)
    }

    /// Makes a plan true. It must be the latest one made of this head.
    pub fn commit(&mut self, plan: &Plan, mut changed: impl FnMut(HeadChange<'_>)) {
        let Some(last) = plan.events.last() else { return };
        debug_assert_eq!(plan.events[0].offset.seq, self.lineage.tail_seq().plus(1));
        self.lineage.extend_to(last.offset);
        self.last_time = last.time;
        for (producer, window) in &plan.windows {
            let before = self.producers.window(producer);
            if before == Some(window) {
                continue;
            }
            for first in window.dropped_since(before) {
                changed(HeadChange::Gone(producer, first));
            }
            for &run in window.written_since(before) {
                changed(HeadChange::Run(producer, run));
            }
            if let Some((forgotten, window)) = self.producers.replace(producer, window.clone()) {
                for first in window.firsts() {
                    changed(HeadChange::Gone(&forgotten, first));
                }
            }
        }
    }
}
