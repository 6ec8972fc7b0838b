//! What a container executes: command, args, the image's own program, a vendor unit's Exec lines.
//!
//! Kubernetes' rule: `command` replaces the program and its options, `args` alone keep the program. The founding program's
//! rule, `command` replaces only the first word of `ExecStart=`, by the annotation `systemk.io/command: program-only`.

use k8s_openapi::api::core::v1::Container;

use super::expansion::expand;
use crate::blocked::{Blocked, Unplannable};
use crate::inputs::ImageFacts;
use crate::launch::{EnvVar, Line, MAIN_LINE};
use crate::note::{Note, NoteKind, Refusal};
use crate::vendor::{ExecLine, VendorService};

/// The annotation that chooses the founding program's rule.
pub const COMMAND_ANNOTATION: &str = "systemk.io/command";

/// What the container's unit executes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The unit's Exec lines, in the order in which they are written.
    pub lines: Vec<ExecLine>,
    /// The pod's own program runs instead of the vendor's: the vendor's readiness protocol says nothing about it.
    pub replaced: bool,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// What decides a container's command.
#[derive(Clone, Copy)]
pub struct CommandInput<'a> {
    /// The container.
    pub container: &'a Container,
    /// Its path in the pod.
    pub path: &'a str,
    /// The value of [`COMMAND_ANNOTATION`].
    pub annotation: Option<&'a str>,
    /// Its image.
    pub image: &'a ImageFacts,
    /// Its vendor unit.
    pub vendor: Option<&'a VendorService>,
    /// Its environment, for `$(VAR)`.
    pub env: &'a [EnvVar],
}

/// The Exec lines of one container.
///
/// # Errors
/// Nothing to execute; `args` for a unit with several programs; a NUL.
pub fn command(input: &CommandInput<'_>) -> Result<Command, Unplannable> {
    let program_only = match input.annotation {
        None => false,
        Some("program-only") => true,
        Some(other) => {
            let at = format!("metadata.annotations[{COMMAND_ANNOTATION}]");
            return Err(refused(at, format!("{other:?} is not known; the only value is program-only")));
        }
    };
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|w| expand(w, |name| lookup(input.env, name))).collect()
    };
    let command = words(&input.container.command);
    let args = words(&input.container.args);
    if command.iter().chain(&args).any(|w| w.contains('\0')) {
        return Err(refused(format!("{}.command", input.path), "holds a NUL byte"));
    }
    match (input.vendor, command.is_empty()) {
        (Some(vendor), true) => vendor_program(input, vendor, args),
        (Some(vendor), false) if program_only => program_only_command(input, vendor, &command, args),
        (Some(vendor), false) => Ok(replaced(vendor, pod_line([command, args].concat()), input.path)),
        (None, false) => Ok(own(pod_line([command, args].concat()))),
        (None, true) => match input.image {
            ImageFacts::HostBinary { path } => Ok(own(pod_line([vec![path.clone()], args].concat()))),
            ImageFacts::Package(package) => Err(Unplannable::Blocked(Blocked::new(
                "CreateContainerError",
                format!(
                    "no command specified: package {} has no service unit, so {}.command has to say what to run",
                    package.name, input.path
                ),
            ))),
        },
    }
}

fn refused(path: String, text: impl Into<String>) -> Unplannable {
    Unplannable::Refused(vec![Refusal::new(path, text)])
}

fn lookup(env: &[EnvVar], name: &str) -> Option<String> {
    env.iter().rev().find(|v| v.name == name).map(|v| v.value.clone())
}

fn pod_line(argv: Vec<String>) -> Line {
    Line { argv, arg0: None, expand: false, full_privileges: false }
}

fn main_line(line: Line) -> ExecLine {
    ExecLine { key: MAIN_LINE.to_owned(), directive: "ExecStart", prefix: ":".to_owned(), line }
}

fn own(line: Line) -> Command {
    Command { lines: vec![main_line(line)], replaced: true, notes: Vec::new() }
}

/// The pod's program under the vendor's settings. The vendor's other lines belong to the program that does not run.
fn replaced(vendor: &VendorService, line: Line, path: &str) -> Command {
    let left_out: Vec<&str> = vendor.lines.iter().filter(|l| l.directive != "ExecStart").map(|l| l.directive).collect();
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        let text =
            format!("the package's {} belong to its own program, which command replaces", left_out.join("=, ") + "=");
        notes.push(Note::new(NoteKind::Dropped, format!("{path}.command"), text));
    }
    Command { lines: vec![main_line(line)], replaced: true, notes }
}

fn is_main(line: &ExecLine) -> bool {
    line.directive == "ExecStart"
}

fn vendor_program(input: &CommandInput<'_>, vendor: &VendorService, args: Vec<String>) -> Result<Command, Unplannable> {
    let mut lines = vendor.lines.clone();
    if !args.is_empty() {
        let main = only_main(input, &mut lines, "args")?;
        let program = main.argv.first().cloned().unwrap_or_default();
        main.argv = [vec![program], args].concat();
        // The options are the pod's now, expanded by Kubernetes' rule: a `$` in them is literal.
        main.expand = false;
    }
    Ok(Command { lines, replaced: false, notes: Vec::new() })
}

fn program_only_command(
    input: &CommandInput<'_>,
    vendor: &VendorService,
    command: &[String],
    args: Vec<String>,
) -> Result<Command, Unplannable> {
    let mut lines = vendor.lines.clone();
    let main = only_main(input, &mut lines, "command")?;
    let literal = |words: &[String]| -> Vec<String> { words.iter().map(|w| w.replace('$', "$$")).collect() };
    if args.is_empty() {
        let options = main.argv.iter().skip(1).cloned().collect();
        // The vendor's options keep their $VARs, the pod's words have none.
        let own = if main.expand { literal(command) } else { command.to_vec() };
        main.argv = [own, options].concat();
    } else {
        main.argv = [command.to_vec(), args].concat();
        main.expand = false;
    }
    main.arg0 = None;
    Ok(Command { lines, replaced: false, notes: Vec::new() })
}

fn only_main<'l>(
    input: &CommandInput<'_>,
    lines: &'l mut [ExecLine],
    field: &str,
) -> Result<&'l mut Line, Unplannable> {
    let mut mains: Vec<&mut ExecLine> = lines.iter_mut().filter(|l| is_main(l)).collect();
    match (mains.len(), mains.pop()) {
        (1, Some(line)) => Ok(&mut line.line),
        _ => Err(refused(
            format!("{}.{field}", input.path),
            "the package's unit has several ExecStart= lines, so it is not clear which one is meant; give the whole command",
        )),
    }
}
