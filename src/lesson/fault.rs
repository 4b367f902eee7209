//! A lesson's network, broken for a student to find out what is wrong with it.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    format::{Fault, Lesson, Scripts, System},
    lang::Lang,
    report::State,
    run::{Frames, Nobody, RunError, play},
    script::{self, Typed},
    shell::{End, Failure},
    world::{self, World},
};

/// The faults of `lesson` on `system`, of which `seed` chooses one.
///
/// # Errors
/// If there is none.
pub fn choose(lesson: &Lesson, system: System, seed: u64) -> Result<&Fault, String> {
    let faults: Vec<_> = on(lesson, system).collect();
    let count = u64::try_from(faults.len()).unwrap_or(u64::MAX);
    let index = mixed(seed).checked_rem(count);
    let fault = index.and_then(|index| faults.get(usize::try_from(index).ok()?));
    fault.copied().ok_or_else(|| {
        let id = &lesson.id;
        format!("break {id}: it has no fault on {system}; see tapswitch lab list --json")
    })
}

/// The fault of `lesson` with this name.
///
/// # Errors
/// If there is none on `system`.
pub fn named<'l>(lesson: &'l Lesson, system: System, name: &str) -> Result<&'l Fault, String> {
    let fault = on(lesson, system).find(|fault| fault.name == name);
    fault.ok_or_else(|| {
        let names: Vec<_> = on(lesson, system)
            .map(|fault| fault.name.as_str())
            .collect();
        let hint = match names.is_empty() {
            true => "it has none there".to_owned(),
            false => format!("it has {}", names.join(", ")),
        };
        format!(
            "break {}: there is no fault {name} on {system}; {hint}",
            lesson.id
        )
    })
}

fn on(lesson: &Lesson, system: System) -> impl Iterator<Item = &Fault> {
    lesson
        .faults
        .iter()
        .filter(move |fault| fault.is_on(system))
}

/// Neighbouring seeds must not choose neighbours (SplitMix64).
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How a student did, under names that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakReport {
    /// The lesson.
    pub id: String,
    /// What it ran on.
    pub on: System,
    /// What was broken.
    pub fault: String,
    /// The seed that chose it; none: somebody asked for it.
    pub seed: Option<u64>,
    /// Whether it was repaired.
    pub state: State,
    /// Why it was not run.
    pub because: Option<String>,
}

/// The network of a lesson with a fault in it.
#[derive(Debug)]
pub struct Broken<'l> {
    world: World,
    fault: &'l Fault,
    lang: Lang,
}

impl<'l> Broken<'l> {
    /// Goes through the steps of `lesson` and then breaks something, in a world of its own: see
    /// [`enter`](super::enter::enter).
    ///
    /// # Errors
    /// Why not in `lang`: if the lesson cannot be run here, if something does not hold before it is broken, and if the
    /// fault breaks nothing.
    pub fn build(
        lesson: &Lesson,
        system: System,
        fault: &'l Fault,
        lang: Lang,
    ) -> Result<Self, RunError> {
        let missing = super::needs::programs(&fault.needs, lang)
            .or_else(|| super::needs::features(&fault.features, lang));
        if let Some(because) = missing {
            return Err(RunError::NotRun(because));
        }
        let (report, world) = play(lesson, system, lang, Frames::Unseen, &mut Nobody)?;
        let Some(world) = world else {
            return Err(RunError::NotRun(report.because.unwrap_or_default()));
        };
        if let Some((step, assert)) = report.broken().next() {
            let (expected, got) = (&assert.expected, assert.got.as_deref().unwrap_or_default());
            return Err(RunError::World(format!(
                "step {step}: {expected}: {got}; see it with tapswitch lab run {} --on {system}",
                lesson.id
            )));
        }
        let mut broken = Self { world, fault, lang };
        let name = &fault.name;
        let (is_whole, said) = broken.is_repaired().map_err(RunError::World)?;
        if !is_whole {
            return Err(RunError::World(format!(
                "check fault {name}: it fails before anything is broken; correct the lesson: {said}"
            )));
        }
        broken.type_in(&fault.scripts).map_err(RunError::World)?;
        match broken.is_repaired().map_err(RunError::World)?.0 {
            false => Ok(broken),
            true => Err(RunError::World(format!(
                "check fault {name}: it succeeds although something is broken; correct the lesson"
            ))),
        }
    }

    /// Whether it is repaired, and what the checker said.
    ///
    /// # Errors
    /// If the checker cannot be run.
    pub fn is_repaired(&mut self) -> Result<(bool, String), String> {
        let script = format!("(\nset -e\n{}\n)", self.fault.check);
        let (node, mut said) = (&self.fault.node, Vec::new());
        let end = self
            .world
            .run(node, &script, Failure::IsFine, &mut |bytes| {
                said.extend_from_slice(bytes);
                Ok(())
            })?;
        let mut said = String::from_utf8_lossy(&said).into_owned();
        if let Some(because) = end.because(self.lang) {
            said += &match self.lang {
                Lang::En => format!(
                    "\nthe check {because}; its shell is gone, and its variables: leave, and start \
                     again"
                ),
                Lang::Zh => format!("\n检查命令{because}；它的 shell 和变量都没了：请退出重来"),
            };
        }
        Ok((end == End::Code(0), said))
    }

    /// Repairs it as the lesson says. The check may have to hold more often than once: a student
    /// asks, and it is asked again at the end.
    ///
    /// # Errors
    /// If that fails, and if the check holds once only.
    pub fn solve(&mut self) -> Result<(), String> {
        self.type_in(&self.fault.solve)?;
        if !self.is_repaired()?.0 {
            // The verdict is not far.
            return Ok(());
        }
        match self.is_repaired()? {
            (true, _) => Ok(()),
            (false, said) => Err(format!(
                "check fault {}: it holds once only; correct the lesson: {}",
                self.fault.name,
                said.trim()
            )),
        }
    }

    /// Opens the user's shell where the fault is, in which the words `check` and `hint` help, until
    /// the user leaves it.
    ///
    /// # Errors
    /// If there is no shell.
    pub fn open_shell(&mut self, words: &Words) -> Result<(), String> {
        words.write().map_err(|cause| {
            let cause = crate::sys::cause_text(&cause);
            format!("make the commands check and hint: {cause}; see /run")
        })?;
        let mut shell = self.start_shell()?;
        loop {
            match shell.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(()),
                Err(cause) => return Err(format!("wait for the shell: {cause}; start again")),
            }
            if fs::remove_file(ASKED).is_ok() {
                let (is_repaired, said) = self.is_repaired()?;
                words.answer(is_repaired, &said).map_err(|cause| {
                    let cause = crate::sys::cause_text(&cause);
                    format!("answer check: {cause}; see /run")
                })?;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn start_shell(&self) -> Result<Child, String> {
        let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let shell = shell.unwrap_or_else(|| "sh".into());
        let mut command = Command::new(&shell);
        // The user's own files would hide the prompt, find other programs first, and set HISTFILE.
        match Path::new(&shell).file_name().and_then(OsStr::to_str) {
            Some("bash") => {
                command.args(["--noprofile", "--norc"]);
                if io::stdin().is_terminal() {
                    command.arg("-i");
                }
            }
            Some("zsh") => drop(command.arg("-f")),
            _ => {}
        }
        // The user's own history is none of the lesson's; it would be cut to the default length.
        command
            .env("HISTFILE", HISTORY)
            .env("fish_history", "")
            .env_remove("ENV")
            .env_remove("BASH_ENV")
            .env("PS1", format!("{}# ", self.fault.node));
        self.world.spawn_here(&self.fault.node, &mut command)
    }

    /// Types what breaks or repairs it.
    fn type_in(&mut self, scripts: &Scripts) -> Result<(), String> {
        let node = &self.fault.node;
        for script in scripts.on(self.world.system()) {
            for Typed(command) in script::commands(script).map_err(|(_, said)| said)? {
                let mut said = Vec::new();
                let end = self
                    .world
                    .run(node, &command, Failure::IsTheEnd, &mut |bytes| {
                        said.extend_from_slice(bytes);
                        Ok(())
                    })?;
                if end != End::Code(0) {
                    let said = String::from_utf8_lossy(&said);
                    let code = || format!("exit code {}: {}", end.code(), said.trim());
                    let because = end.because(Lang::En).map_or_else(code, ToOwned::to_owned);
                    return Err(format!("type {command}: {because}"));
                }
            }
        }
        Ok(())
    }
}

/// What the commands of the student's shell say.
#[derive(Clone, Debug)]
pub struct Words {
    /// What `hint` says.
    pub hint: String,
    /// What `check` says if it is repaired.
    pub repaired: String,
    /// What it says if not.
    pub not_yet: String,
}

impl Words {
    fn write(&self) -> io::Result<()> {
        fs::write(HINT, format!("{}\n", self.hint))?;
        let programs = Path::new(world::PROGRAMS);
        world::executable(&programs.join("hint"), &format!("#!/bin/sh\ncat {HINT}\n"))?;
        let check = format!(
            "#!/bin/sh\nrm -f {ANSWER}\n: >{ASKED}\n\
             until [ -e {ANSWER} ]; do sleep 0.05; done\ncat {ANSWER}\n[ -e {REPAIRED} ]\n"
        );
        world::executable(&programs.join("check"), &check)
    }

    fn answer(&self, is_repaired: bool, said: &str) -> io::Result<()> {
        let text = match is_repaired {
            true => format!("{}\n", self.repaired),
            false => format!("{}{}\n", indented(said), self.not_yet),
        };
        match is_repaired {
            true => fs::write(REPAIRED, "")?,
            // It may never have been there.
            false => drop(fs::remove_file(REPAIRED)),
        }
        // It is there in one piece.
        let new = PathBuf::from(format!("{ANSWER}.new"));
        fs::write(&new, text)?;
        fs::rename(new, ANSWER)
    }
}

fn indented(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("  {line}\n")).collect()
}

const HISTORY: &str = "/run/lab-history";
const HINT: &str = "/run/lab-hint";
const ASKED: &str = "/run/lab-asked";
const ANSWER: &str = "/run/lab-answer";
const REPAIRED: &str = "/run/lab-repaired";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_chooses_the_same_fault_each_time_and_all_are_chosen_by_some() {
        let fault = |name: &str| {
            format!(
                "[[fault]]\nname = \"{name}\"\nrun = \"false\"\nsymptom = \"s\"\ncheck = \"true\"\n\
                 solve = \"true\"\n"
            )
        };
        let text = format!(
            "id = \"a\"\ntitle = \"t\"\n[[step]]\nrun = \"true\"\n{}{}{}",
            fault("x"),
            fault("y"),
            fault("z")
        );
        let lesson = crate::lesson::parse(&text).unwrap();
        let chosen = |seed| &choose(&lesson, System::Kernel, seed).unwrap().name;
        let mut names: Vec<_> = (0..50).map(chosen).collect();
        assert_eq!(chosen(7), chosen(7));
        names.sort();
        names.dedup();
        assert_eq!(names, ["x", "y", "z"]);
        assert!(named(&lesson, System::Kernel, "w").is_err());
    }
}
