//! The books of a run: where answers are judged and counted, and what will have none.

use super::link::{Answer, Sent};
use super::{LoadPlan, LoadResult, Pace};
use crate::operation::{Ending, RequestMaker};

/// Where answers are judged and counted.
pub(super) struct Books<'b> {
    measures_from_answer: bool,
    /// Of one request.
    commands: u64,
    window: &'b std::ops::Range<u64>,
    requests: &'b mut RequestMaker,
    pub(super) result: &'b mut LoadResult,
}

impl<'b> Books<'b> {
    pub(super) fn new(
        plan: &LoadPlan<'_>,
        window: &'b std::ops::Range<u64>,
        requests: &'b mut RequestMaker,
        result: &'b mut LoadResult,
    ) -> Books<'b> {
        Books {
            measures_from_answer: plan.pace == Pace::Closed,
            commands: plan.mix.commands_per_request(),
            window,
            requests,
            result,
        }
    }

    /// Takes an answer, or one part of it.
    pub(super) fn take(&mut self, answer: Answer<'_>) {
        let Answer { at_ns, sent, reply } = answer;
        let counts = self.counts(sent.start_ns, at_ns);
        let Books {
            commands,
            window,
            requests,
            result,
            ..
        } = self;
        let kind = sent.asked.operation.kind();
        let ending = requests.judge(&mut sent.asked, reply);
        if ending == Ok(Ending::Unfinished) {
            return;
        }
        result.answered_in_all += *commands;
        if window.contains(&at_ns) {
            result.answered += *commands;
        }
        let is_conflict = match ending {
            Ok(ending) => ending == Ending::Conflict,
            Err(failure) => return result.failures.note(failure),
        };
        if counts {
            let latency_ns = at_ns.saturating_sub(sent.start_ns);
            result.note_latency(kind, sent.mark, latency_ns);
            result.conflicts += u64::from(is_conflict);
        }
    }

    /// Whether the latency of a request counts that began and ended then.
    fn counts(&self, start_ns: u64, end_ns: u64) -> bool {
        match self.measures_from_answer {
            true => self.window.contains(&end_ns),
            false => self.window.contains(&start_ns),
        }
    }

    /// A write will not be answered, and may have happened.
    pub(super) fn note_unknown(&mut self, sent: &Sent, at_ns: u64) {
        self.result.losses.unknown += self.commands;
        if self.counts(sent.start_ns, at_ns) {
            let waited_ns = at_ns.saturating_sub(sent.start_ns);
            let kind = sent.asked.operation.kind();
            self.result.note_latency(kind, sent.mark, waited_ns);
        }
    }
}
