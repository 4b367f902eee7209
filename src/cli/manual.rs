//! Manual pages.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;

/// Writes a page for each command into `directory`/man1, where `man` looks for them.
pub(super) fn write(directory: &Path) -> io::Result<()> {
    let section = directory.join("man1");
    fs::create_dir_all(&section)?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    write_pages(&program, &section)
}

fn write_pages(command: &Command, section: &Path) -> io::Result<()> {
    let commands = command.get_subcommands();
    for below in commands.filter(|below| !below.is_hide_set()) {
        write_pages(below, section)?;
    }
    let page = Man::new(command.clone()).source(concat!("tapswitch ", env!("CARGO_PKG_VERSION")));
    let mut file = File::create(section.join(page.get_filename()))?;
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    page.render_synopsis_section(&mut file)?;
    page.render_description_section(&mut file)?;
    page.render_options_section(&mut file)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut file)?;
    }
    if let Some(notes) = command.get_after_help() {
        // Line by line as --help has them: the page would run them together.
        write!(
            file,
            ".SH NOTES\n.nf\n{}.fi\n",
            as_they_are(&notes.to_string())
        )?;
    }
    file.flush()
}

/// Lines that troff takes for text (groff(7): escapes, and control lines).
fn as_they_are(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let is_paragraph = line.len() > WIDTH;
        if is_paragraph {
            lines += ".fi\n";
        }
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // What begins a control line is behind something of no width.
        lines += "\\&";
        lines += &line.replace('\'', "\\(aq");
        lines.push('\n');
        if is_paragraph {
            lines += ".nf\n";
        }
    }
    lines
}

/// What is longer is a paragraph, which the page may break where it likes.
const WIDTH: usize = 80;
