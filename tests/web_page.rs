//! The live page in a real browser, with real daemons behind it: what is on it, and that everybody
//! can use it.

#[path = "web_page/chinese.rs"]
mod chinese;
mod common;
#[path = "web_page/driver.rs"]
mod driver;
#[path = "web_page/hard_cases.rs"]
mod hard_cases;
#[path = "web_page/use_of_it.rs"]
mod use_of_it;
#[path = "web_page/what_is_on_it.rs"]
mod what_is_on_it;
#[path = "web_page/world.rs"]
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use common::Env;
use libtest_mimic::Trial;

use self::world::World;

/// Its name, and itself.
type Test = (&'static str, fn(&World));

fn main() -> ExitCode {
    let world = Arc::new(Mutex::new(None));
    let code = common::main(|env: &Env| -> Vec<Trial> {
        let tests = [
            what_is_on_it::TESTS,
            use_of_it::TESTS,
            hard_cases::TESTS,
            chinese::TESTS,
        ];
        let trial = |&(name, body): &Test| {
            let world = Arc::clone(&world);
            env.trial_with(PROGRAMS, name, move || in_world(&world, body))
        };
        tests.into_iter().flatten().map(trial).collect()
    });
    // Before the namespaces go.
    drop(world.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

const PROGRAMS: &[&str] = &["ping", "chromium", "chromedriver"];

/// Runs a test, and holds the page to what always holds: nothing was refused by the policy, and no
/// script failed. The world is built once; a test that fails leaves a new one to the next.
fn in_world(world: &Mutex<Option<World>>, body: fn(&World)) {
    let mut place = world.lock().unwrap_or_else(PoisonError::into_inner);
    let world = place.get_or_insert_with(World::build);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        body(world);
        let complaints = world.browser.complaints();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }));
    if let Err(panic) = outcome {
        world.browser.picture("failed");
        drop(place.take());
        resume_unwind(panic);
    }
}
