//! Well-behaved clients of metadata, for measurements of what others do to them.
//!
//! They ask for the mix of [`Workload::W8`] at a fixed rate in an open loop, against any store, and tell what they had
//! to wait. They do **not** know what is measured meanwhile.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::arguments::Effort;
use crate::error::PerfError;
use crate::keys::Directories;
use crate::load::Pace;
use crate::measurement::{Measurement, measure, measure_marked, measure_surviving};
use crate::operation::RequestMaker;
use crate::preload::{Loaded, ensure_loaded};
use crate::store::Store;
use crate::workload::{Case, CaseOverrides, Workload};

/// Clients of one store, on connections of their own for each measurement.
#[derive(Debug)]
pub(crate) struct GoodClients {
    case: Case,
    requests: RequestMaker,
}

/// How long they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Asking that is not measured, before the asking that is.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

impl From<&Effort> for Span {
    fn from(effort: &Effort) -> Span {
        Span {
            warm_up: effort.warm_up,
            measured: effort.measured,
        }
    }
}

impl GoodClients {
    /// Loads what they will ask for, unless it is there.
    ///
    /// # Errors
    /// When the store does not take it.
    pub(crate) fn load(
        store: &mut Store,
        keys: u64,
        directories: Directories,
    ) -> Result<(GoodClients, Loaded), PerfError> {
        let overrides = CaseOverrides {
            directories,
            ..CaseOverrides::default()
        };
        let cases = Workload::W8.cases(&overrides);
        let case = *cases.last().expect("a workload has points");
        let mut requests = RequestMaker::new(keys);
        let space = case.mix.key_space().expect("its operations have keys");
        let loaded = ensure_loaded(store, space, &mut requests)?;
        Ok((GoodClients { case, requests }, loaded))
    }

    /// As fast as the store answers: `achieved_per_second` is its capacity, unless the measurement is void.
    ///
    /// # Errors
    /// When the store cannot be asked at all.
    pub(crate) fn measure_capacity(
        &mut self,
        store: &mut Store,
        span: Span,
    ) -> Result<Measurement, PerfError> {
        self.measure(store, Pace::Closed, span, None)
    }

    /// One request after the other on one connection: what the store takes when nobody else asks.
    ///
    /// # Errors
    /// When the store cannot be asked at all.
    pub(crate) fn measure_alone(
        &mut self,
        store: &mut Store,
        span: Span,
    ) -> Result<Measurement, PerfError> {
        let case = Case {
            connections: 1,
            in_flight_per_connection: 1,
            ..self.case
        };
        let effort = self.effort(span);
        Ok(measure(
            &case,
            Pace::Closed,
            &effort,
            store,
            &mut self.requests,
        )?)
    }

    /// At a fixed rate, each request at its own random time. Latencies count from when it was meant to start.
    ///
    /// # Errors
    /// When the store cannot be asked at all.
    pub(crate) fn measure_at(
        &mut self,
        store: &mut Store,
        operations_per_second: f64,
        span: Span,
    ) -> Result<Measurement, PerfError> {
        let pace = Pace::Poisson {
            operations_per_second,
        };
        self.measure(store, pace, span, None)
    }

    /// As [`GoodClients::measure_at`]; requests that are sent while `mark` is set are also told by themselves.
    ///
    /// # Errors
    /// When the store cannot be asked at all.
    pub(crate) fn measure_marked_at(
        &mut self,
        store: &mut Store,
        operations_per_second: f64,
        span: Span,
        mark: &AtomicBool,
    ) -> Result<Measurement, PerfError> {
        let pace = Pace::Poisson {
            operations_per_second,
        };
        self.measure(store, pace, span, Some(mark))
    }

    /// As [`GoodClients::measure_at`], and goes on when a node of the cluster is lost that `store` does not observe.
    ///
    /// # Errors
    /// When the cluster cannot be asked at all, or nobody leads for too long.
    pub(crate) fn measure_surviving_at(
        &mut self,
        store: &mut Store,
        operations_per_second: f64,
        span: Span,
    ) -> Result<Measurement, PerfError> {
        let pace = Pace::Poisson {
            operations_per_second,
        };
        let effort = self.effort(span);
        let requests = &mut self.requests;
        Ok(measure_surviving(
            &self.case, pace, &effort, store, requests,
        )?)
    }

    fn measure(
        &mut self,
        store: &mut Store,
        pace: Pace,
        span: Span,
        mark: Option<&AtomicBool>,
    ) -> Result<Measurement, PerfError> {
        let effort = self.effort(span);
        let requests = &mut self.requests;
        Ok(measure_marked(
            &self.case, pace, &effort, mark, store, requests,
        )?)
    }

    fn effort(&self, span: Span) -> Effort {
        Effort {
            warm_up: span.warm_up,
            measured: span.measured,
            rounds: 1,
            keys: self.requests.key_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_store::{FakeStore, Manner};

    #[test]
    fn they_ask_at_their_rate_and_find_what_was_loaded() {
        let fake = FakeStore::start(Manner::Reversed);
        let mut store = Store::connect(&fake.address().to_string()).unwrap();
        let span = Span {
            warm_up: Duration::from_millis(50),
            measured: Duration::from_millis(500),
        };
        let loading = GoodClients::load(&mut store, 5_000, Directories::Spread);
        let (mut clients, loaded) = loading.unwrap();
        assert_eq!(loaded.keys, 5_000);
        let open = clients.measure_at(&mut store, 1_000.0, span).unwrap();
        assert_eq!(open.failures, 0, "{:?}", open.first_failure);
        // 500 in half a second, give or take five standard deviations.
        let offered = open.offered_per_second.unwrap();
        assert!((770.0..1_230.0).contains(&offered), "{offered}");
        assert_eq!(open.operations.len(), 4);
        for closed in [
            clients.measure_alone(&mut store, span).unwrap(),
            clients.measure_capacity(&mut store, span).unwrap(),
        ] {
            assert_eq!(closed.failures, 0, "{:?}", closed.first_failure);
            assert!(closed.achieved_per_second > 0.0);
        }
    }
}
