//! The state machine against a plain model that keeps everything: random batches, reads in the past, scans that go
//! on between batches, and a history so short that it is compacted all the time.

use proptest::prelude::*;

use super::*;

mod input;
mod plain;
mod run;
mod snapshot;
mod structured;

use input::{Pinned, Step, parameters, step};
use plain::{Condition, Model, ModelChange, ModelCommand, ModelQuery, ModelRow};
use run::Run;
use structured::{ModelStructured, structured};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_state_machine_is_the_model(
        parameters in parameters(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let shard = Shard::with(parameters);
        let other = StateMachine::new(parameters);
        let mut run = Run { shard, other, parameters, model: Model::default(), scans: Vec::new() };
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}
