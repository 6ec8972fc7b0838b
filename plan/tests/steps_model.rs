//! `steps()` against a small systemd and a small disk: programs that end as they like, an agent that dies anywhere.
//!
//! Never are two runs of a container alive at once, no attempt is started again once it ran, every recorded end is the true
//! one (or unknown, where nothing recorded it), and in the end there is nothing left to do.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use plan::admission::{Admission, NODE_PORTS};
use plan::blocked::Blocked;
use plan::history::PodHistory;
use plan::pod_plan::ContainerRole;
use plan::steps::{Desired, Step, steps};
use proptest::prelude::*;

mod model;

use model::{Ending, Program, World, plan_of};

const UID: &str = "0a-1";

/// Where the agent dies in a round: at the n-th step, before, inside or after its effect.
#[derive(Clone, Copy, Debug)]
enum Death {
    Before(usize),
    Inside(usize),
    After(usize),
}

/// One look and what happens until the next one.
#[derive(Clone, Debug)]
struct Round {
    death: Option<Death>,
    /// Until the next look; signals may be lost, so it need not come when something happens.
    pause_ms: i64,
    /// Somebody restarts what runs.
    meddle: bool,
    /// A ConfigMap changed.
    volume: u8,
    blocked: bool,
    /// Another pod has its port, as long as nothing of it was started.
    waits: bool,
}

#[derive(Clone, Debug)]
struct Scenario {
    policy: &'static str,
    containers: Vec<(ContainerRole, Vec<Program>)>,
    rounds: Vec<Round>,
    delete_in: Option<usize>,
    grace_ms: i64,
}

fn program() -> impl Strategy<Value = Program> {
    let ending = prop_oneof![
        6 => (0..3i32).prop_map(Ending::Exits),
        2 => Just(Ending::Signal(9)),
        1 => Just(Ending::SetUpFails),
        1 => Just(Ending::Refused),
        1 => Just(Ending::ConditionFalse),
    ];
    (ending, 0..30_000i64, 0..200i64, 0..60_000i64, prop::bool::weighted(0.15)).prop_map(
        |(ending, runs_ms, set_up_ms, stops_ms, hook_lost)| Program { ending, runs_ms, set_up_ms, stops_ms, hook_lost },
    )
}

fn round() -> impl Strategy<Value = Round> {
    let at = 0..8usize;
    let death =
        prop_oneof![at.clone().prop_map(Death::Before), at.clone().prop_map(Death::Inside), at.prop_map(Death::After),];
    let pause = prop_oneof![3 => 0..50i64, 3 => 0..12_000i64, 1 => 0..400_000i64];
    let rarely = prop::bool::weighted;
    (prop::option::weighted(0.5, death), pause, rarely(0.08), 0..2u8, rarely(0.1), rarely(0.2)).prop_map(
        |(death, pause_ms, meddle, volume, blocked, waits)| Round { death, pause_ms, meddle, volume, blocked, waits },
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let programs = || prop::collection::vec(program(), 1..5);
    let init = prop::collection::vec(programs().prop_map(|p| (ContainerRole::Init, p)), 0..3);
    let app = prop::collection::vec(programs().prop_map(|p| (ContainerRole::App, p)), 1..3);
    (
        prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        (init, app).prop_map(|(mut init, app)| {
            init.extend(app);
            init
        }),
        prop::collection::vec(round(), 1..40),
        prop::option::of(0..40usize),
        prop::sample::select(vec![0, 1_000, 30_000]),
    )
        .prop_map(|(policy, containers, rounds, delete_in, grace_ms)| Scenario {
            policy,
            containers,
            rounds,
            delete_in,
            grace_ms,
        })
}

fn pod(policy: &str) -> Pod {
    Pod { spec: Some(PodSpec { restart_policy: Some(policy.to_owned()), ..Default::default() }), ..Default::default() }
}

struct Run {
    world: World,
    pod: Pod,
    stop: Option<(i64, i64)>,
    gone: bool,
}

impl Run {
    /// One look. Gives how many steps there were and when the agent wants to look again.
    fn look(&mut self, round: &Round) -> (Vec<Step>, Option<i64>) {
        let history = self.world.saved.clone().unwrap_or_else(|| PodHistory {
            uid: UID.to_owned(),
            namespace: "ns".to_owned(),
            name: "p".to_owned(),
            ..Default::default()
        });
        let observed = self.world.observe(&history);
        let mut plan = plan_of(&self.world, &history, round.volume, round.blocked);
        let waits = round.waits && history.containers.is_empty();
        if waits {
            plan.admission = Admission::Waits(Blocked::new(NODE_PORTS, "port 80/TCP is taken by pod ns/other"));
        }
        let desired = match self.stop {
            Some((requested_ms, grace_ms)) => Desired::Stop { requested_ms, grace_ms },
            None => Desired::Run { pod: &self.pod, plan: &plan },
        };
        let decision = steps(desired, &history, &observed, self.world.now);
        if waits && self.stop.is_none() {
            let only_told = decision.steps.iter().all(|step| matches!(step, Step::SaveHistory(_)));
            assert!(only_told && decision.wake_at_ms.is_none(), "it waits: {decision:?}");
        }
        for (at, step) in decision.steps.iter().enumerate() {
            match round.death {
                Some(Death::Before(n)) if n == at => return self.dies(&decision.steps),
                Some(Death::Inside(n)) if n == at => {
                    self.world.half_apply(step);
                    return self.dies(&decision.steps);
                }
                Some(_) | None => {}
            }
            if !self.world.apply(step) {
                return (decision.steps.clone(), Some(self.world.now));
            }
            if matches!(round.death, Some(Death::After(n)) if n == at) {
                return self.dies(&decision.steps);
            }
        }
        self.gone = decision.gone;
        (decision.steps, decision.wake_at_ms)
    }

    fn dies(&mut self, steps: &[Step]) -> (Vec<Step>, Option<i64>) {
        self.world.forget();
        (steps.to_vec(), Some(self.world.now))
    }
}

fn play(scenario: &Scenario) {
    let mut run = Run { world: World::new(&scenario.containers), pod: pod(scenario.policy), stop: None, gone: false };
    for (at, round) in scenario.rounds.iter().enumerate() {
        if scenario.delete_in == Some(at) {
            run.stop = Some((run.world.now, scenario.grace_ms));
        }
        if round.meddle && run.stop.is_none() {
            run.world.restart_something();
        }
        run.look(round);
        if run.gone {
            break;
        }
        run.world.pass(round.pause_ms);
        run.world.check();
    }
    settle(&mut run);
    match run.stop {
        Some(_) => {
            assert!(run.gone, "the pod is not gone: {:?}", run.world);
            run.world.assert_empty();
        }
        None => {
            run.world.assert_settled(scenario.policy);
            // And then it is deleted.
            run.stop = Some((run.world.now, scenario.grace_ms));
            settle(&mut run);
            assert!(run.gone);
            run.world.assert_empty();
        }
    }
}

/// No more trouble: looks whenever something happens, until nothing does.
fn settle(run: &mut Run) {
    let quiet = Round { death: None, pause_ms: 0, meddle: false, volume: 0, blocked: false, waits: false };
    let mut looks_now = 0;
    for _ in 0..400 {
        if run.gone {
            return;
        }
        let (made, wake) = run.look(&quiet);
        run.world.check();
        let next = [wake, run.world.next_event()].into_iter().flatten().min();
        match next {
            None if made.is_empty() => return,
            None => {}
            Some(at) => {
                looks_now = if at <= run.world.now { looks_now + 1 } else { 0 };
                assert!(looks_now < 20, "looks without end: {made:?} {:?}", run.world);
                run.world.pass((at - run.world.now).max(0));
            }
        }
    }
    panic!("does not settle: {:?}", run.world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_agent_that_dies_anywhere_runs_the_pod_as_one_that_lives(scenario in scenario()) {
        play(&scenario);
    }
}
