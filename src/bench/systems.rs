//! What systems are called.

use std::path::Path;

use super::topology::System;

/// The names that the command line knows.
pub const NAMES: [&str; 5] = ["kernel", "tapswitch", "ovs", "ovs-tso", "vde"];

/// The system of one of [`NAMES`].
///
/// # Errors
/// Which names there are.
pub fn parse(name: &str) -> Result<System, String> {
    match name {
        "kernel" => Ok(System::Kernel),
        "tapswitch" => Ok(System::Tapswitch {
            options: Vec::new(),
        }),
        "ovs" => Ok(System::OpenVswitch { tso: false }),
        "ovs-tso" => Ok(System::OpenVswitch { tso: true }),
        "vde" => Ok(System::Vde),
        _ => Err(format!("there is none; choose from {}", NAMES.join(", "))),
    }
}

/// A name for each of `systems`, no two the same.
pub(super) fn names(systems: &[System]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for system in systems {
        let name = name(system);
        let same = names
            .iter()
            .filter(|other| **other == name || other.starts_with(&format!("{name} #")))
            .count();
        names.push(match same {
            0 => name,
            _ => format!("{name} #{}", same + 1),
        });
    }
    names
}

fn name(system: &System) -> String {
    match system {
        System::Kernel => "kernel".to_owned(),
        System::Tapswitch { options } if options.is_empty() => "tapswitch".to_owned(),
        System::Tapswitch { options } => format!("tapswitch {}", options.join(" ")),
        System::OpenVswitch { tso: false } => "ovs".to_owned(),
        System::OpenVswitch { tso: true } => "ovs-tso".to_owned(),
        System::Vde => "vde".to_owned(),
        System::Program { line } => {
            let program = line.split_whitespace().next().unwrap_or("program");
            let file = Path::new(program).file_name();
            file.map_or_else(|| program.to_owned(), |file| file.display().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_its_system_and_back() {
        for name in NAMES {
            assert_eq!(names(&[parse(name).unwrap()]), [name]);
        }
        let error = parse("ovz").unwrap_err();
        assert!(error.contains("ovs, ovs-tso"), "{error}");
    }

    #[test]
    fn no_two_have_the_same_name() {
        let program = |line: &str| System::Program {
            line: line.to_owned(),
        };
        let options = vec!["--coalesce".to_owned(), "off".to_owned()];
        let systems = [
            program("/usr/bin/pump -x"),
            System::Tapswitch { options },
            program("pump -y"),
            program("pump -z"),
        ];
        assert_eq!(
            names(&systems),
            ["pump", "tapswitch --coalesce off", "pump #2", "pump #3"]
        );
    }
}
