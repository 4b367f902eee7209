//! A lesson as its teacher wrote it, without running it.

use std::io::{self, Write};

use super::{BOLD, CYAN, DIM, paint, pick, prose, tell::title, typed};
use crate::{
    cli::output,
    lesson::{FrameSpec, Lang, Lesson, Step, System, commands_of, narrate::Style},
};

pub(super) fn lesson(out: &mut impl Write, lesson: &Lesson, style: Style) -> io::Result<()> {
    title(out, lesson, style)?;
    let about = lesson.about.in_lang(style.lang);
    if !about.is_empty() {
        writeln!(out)?;
        prose(out, about, 0, style)?;
    }
    network(out, lesson, style)?;
    for (number, step) in (1..).zip(&lesson.steps) {
        writeln!(out)?;
        let head = format!("{number}/{} ", lesson.steps.len());
        let say = step.say.in_lang(style.lang);
        write!(out, "{}", paint(style, DIM, &head))?;
        if say.is_empty() {
            writeln!(out)?;
        }
        // The first line is behind the number.
        let mut text = Vec::new();
        prose(&mut text, say, head.len(), style)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        write!(out, "{}", text.get(head.len()..).unwrap_or_default())?;
        commands(out, lesson, step, style)?;
        for frame in &step.frames {
            writeln!(out, "    {}", asserted(frame, style.lang))?;
        }
    }
    let names: Vec<_> = lesson
        .faults
        .iter()
        .map(|fault| fault.name.as_str())
        .collect();
    if !names.is_empty() {
        let count = names.len();
        let said = match style.lang {
            Lang::En => {
                let s = if count == 1 { "" } else { "s" };
                format!(
                    "{count} fault{s} to find: tapswitch lab break {}",
                    lesson.id
                )
            }
            Lang::Zh => format!(
                "可以排查的故障有 {count} 个：tapswitch lab break {}",
                lesson.id
            ),
        };
        writeln!(out, "\n{said}")?;
    }
    Ok(())
}

fn network(out: &mut impl Write, lesson: &Lesson, style: Style) -> io::Result<()> {
    let head = pick(style, "Machines", "机器");
    writeln!(out, "\n{}", paint(style, BOLD, head))?;
    for node in &lesson.nodes {
        match node.underlay {
            Some(underlay) => {
                let said = pick(style, "eth0 on the cable", "eth0 接在网线上");
                writeln!(out, "  {}  {underlay}, mtu {}, {said}", node.name, node.mtu)?;
            }
            None => writeln!(out, "  {}", node.name)?,
        }
    }
    let mut needs = lesson.needs.clone();
    for (features, en, zh) in [
        (&lesson.features, "from the kernel", "由内核提供"),
        (&lesson.kernel_needs, "on the kernel", "在内核上"),
    ] {
        let names: Vec<_> = features.iter().map(|feature| feature.name()).collect();
        needs.extend((!names.is_empty()).then(|| match style.lang {
            Lang::En => format!("{} ({en})", and(&names)),
            Lang::Zh => format!("{}（{zh}）", names.join("、")),
        }));
    }
    if !needs.is_empty() {
        let (head, comma) = match style.lang {
            Lang::En => ("  needs: ", ", "),
            Lang::Zh => ("  需要：", "，"),
        };
        output::hanging(out, head.to_owned(), &needs.join(comma), style.width)?;
    }
    Ok(())
}

/// Names as a sentence has them.
fn and(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

fn commands(out: &mut impl Write, lesson: &Lesson, step: &Step, style: Style) -> io::Result<()> {
    let node = (lesson.nodes.len() > 1).then_some(step.node.as_str());
    let scripts = [
        (None, &step.scripts.both),
        (Some(System::Tapswitch), &step.scripts.tapswitch),
        (Some(System::Kernel), &step.scripts.kernel),
    ];
    for (system, script) in scripts {
        let Some(script) = script else {
            continue;
        };
        if let Some(system) = system {
            let head = match style.lang {
                Lang::En => format!("on {system}:"),
                Lang::Zh => format!("在 {system} 上："),
            };
            writeln!(out, "    {}", paint(style, DIM, &head))?;
        }
        for command in commands_of(script) {
            for line in typed(&command, node) {
                writeln!(out, "    {}", paint(style, CYAN, &line))?;
            }
        }
    }
    Ok(())
}

/// A frame that must be seen, in a line.
fn asserted(frame: &FrameSpec, lang: Lang) -> String {
    let [colon, comma, to] = match lang {
        Lang::En => [": ", ", ", " to "],
        Lang::Zh => ["：", "，", "到 "],
    };
    let mut text = format!("=> {}{colon}{}", frame.at, frame.what);
    if let Some(fate) = frame.fate {
        text += &format!("{comma}{}", fate.in_lang(lang));
    }
    if let Some(places) = &frame.to {
        text += &format!("{to}{}", places.join(", "));
    }
    if let Some(reason) = &frame.reason {
        text += &format!("{colon}{reason}");
    }
    if let Some(on) = frame.on {
        text += &format!(" ({on})");
    }
    text
}
