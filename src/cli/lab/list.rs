//! The lessons in a table, and the rows that they teach.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use comfy_table::{ColumnConstraint, Width};
use serde::Serialize;

use super::{fit, pick};
use crate::{
    cli::output,
    lesson::{Lesson, System, Text, library, narrate::Style},
};

/// All lessons, in the order in which they are taught.
pub(super) fn lessons(out: &mut impl Write, json: bool, style: Style) -> io::Result<()> {
    #[derive(Serialize)]
    struct Row {
        id: String,
        title: Text,
        rows: Vec<String>,
        on: Vec<System>,
        faults: Vec<String>,
    }
    if json {
        let rows = library::lessons().map(|lesson| Row {
            id: lesson.id,
            title: lesson.title,
            rows: lesson.rows,
            on: lesson.on,
            faults: lesson.faults.into_iter().map(|fault| fault.name).collect(),
        });
        return output::json_value(out, &rows.collect::<Vec<_>>());
    }
    let mut table = output::table(&[
        "id",
        pick(style, "lesson", "课程"),
        pick(style, "rows", "条目"),
        pick(style, "on", "运行于"),
    ]);
    fit(&mut table, style);
    if let Some(title) = table.column_mut(1) {
        title.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(44)));
    }
    for lesson in library::lessons() {
        let on = match lesson.on.as_slice() {
            [only] => only.name(),
            _ => pick(style, "both", "两者"),
        };
        table.add_row([
            lesson.id.clone(),
            lesson.title.in_lang(style.lang).to_owned(),
            lesson.rows.join(" "),
            on.to_owned(),
        ]);
    }
    output::write_table(out, &table)
}

/// The rows, and the lessons of each.
pub(super) fn rows(out: &mut impl Write, json: bool, style: Style) -> io::Result<()> {
    #[derive(Serialize)]
    struct Row {
        row: String,
        lessons: Vec<String>,
    }
    let mut rows: BTreeMap<String, Vec<Lesson>> = BTreeMap::new();
    for lesson in library::lessons() {
        for row in &lesson.rows {
            rows.entry(row.clone()).or_default().push(lesson.clone());
        }
    }
    if json {
        let rows = rows.into_iter().map(|(row, lessons)| Row {
            row,
            lessons: lessons.into_iter().map(|lesson| lesson.id).collect(),
        });
        return output::json_value(out, &rows.collect::<Vec<_>>());
    }
    out.write_all(pick(style, LETTERS, LETTERS_ZH).as_bytes())?;
    let mut table = output::table(&[
        pick(style, "row", "条目"),
        "id",
        pick(style, "lesson", "课程"),
    ]);
    fit(&mut table, style);
    for (row, lessons) in &rows {
        for (index, lesson) in lessons.iter().enumerate() {
            let row = if index == 0 { row.as_str() } else { "" };
            table.add_row([row, &lesson.id, lesson.title.in_lang(style.lang)]);
        }
    }
    output::write_table(out, &table)
}

/// What the letters of the rows are.
const LETTERS: &str = "\
The rows of five walks through container networks, as far as a lesson teaches them:
  A  network namespaces by hand     B  docker0     C  the network of pods
  D  from veth to other nodes       E  containerd by hand

";
const LETTERS_ZH: &str = "\
五篇容器网络教程中，课程所讲的条目：
  A  手工搭建网络命名空间     B  docker0     C  Pod 网络
  D  从 veth 到其他节点       E  手工使用 containerd

";
