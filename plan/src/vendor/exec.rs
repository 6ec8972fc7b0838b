//! Command lines, as systemd's `config_parse_exec()` reads them.
//!
//! Takes the value of an Exec directive, gives the commands in it: words split and unescaped, specifiers expanded, `$VAR`
//! left for init, which has the environment that they are expanded from.

use super::specifier::Specifiers;
use super::syntax::is_safe;
use super::words::{self, Escapes};
use crate::launch::Line;

/// One command: what stands before the path in our unit, and what init executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) prefix: Prefix,
    pub(super) line: Line,
}

/// The special executable prefixes of systemd.service(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix {
    ignore_failure: bool,
    own_arg0: bool,
    no_expansion: bool,
    privilege: Privilege,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Privilege {
    #[default]
    Unit,
    Full,
    NoSetuid,
    Ambient,
}

impl Prefix {
    /// Takes the prefixes off a command's first word.
    fn read(word: &str) -> (Self, &str) {
        let mut prefix = Self::default();
        for (at, character) in word.char_indices() {
            match (character, prefix.privilege) {
                ('-', _) if !prefix.ignore_failure => prefix.ignore_failure = true,
                ('@', _) if !prefix.own_arg0 => prefix.own_arg0 = true,
                (':', _) if !prefix.no_expansion => prefix.no_expansion = true,
                ('+', Privilege::Unit) => prefix.privilege = Privilege::Full,
                ('!', Privilege::Unit) => prefix.privilege = Privilege::NoSetuid,
                ('!', Privilege::NoSetuid) => prefix.privilege = Privilege::Ambient,
                _ => return (prefix, &word[at..]),
            }
        }
        (prefix, "")
    }

    /// For our own line, whose variables are init's to expand and whose `argv[0]` is nobody's business.
    pub(super) fn rendered(self) -> String {
        let ignore = if self.ignore_failure { "-" } else { "" };
        let privilege = match self.privilege {
            Privilege::Unit => "",
            Privilege::Full => "+",
            Privilege::NoSetuid => "!",
            Privilege::Ambient => "!!",
        };
        format!("{ignore}{privilege}:")
    }

    fn is_full(self) -> bool {
        self.privilege == Privilege::Full
    }
}

impl Command {
    /// As if the line had the prefix `+`.
    pub(super) fn with_full_privileges(mut self) -> Self {
        self.prefix.privilege = Privilege::Full;
        self.line.full_privileges = true;
        self
    }
}

/// A line that systemd would not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Why.
    pub(super) why: String,
    /// systemd goes on without it: it has the prefix `-`, or its first word cannot be read.
    pub(super) ignored: bool,
}

/// The commands of one assignment, and why the rest of it was not read.
pub(super) fn commands(value: &str, specifiers: &Specifiers<'_>) -> (Vec<Command>, Option<BadLine>) {
    let mut rest = value;
    let mut commands = Vec::new();
    loop {
        match next(&mut rest, specifiers) {
            Ok(Some(command)) => commands.push(command),
            Ok(None) => return (commands, None),
            Err(bad) => return (commands, Some(bad)),
        }
    }
}

/// The next command, without the `;` after it. None: the value ends here.
fn next(rest: &mut &str, specifiers: &Specifiers<'_>) -> Result<Option<Command>, BadLine> {
    let (prefix, path) = loop {
        let word = words::first(rest, Escapes::C).map_err(|error| BadLine { why: error.to_string(), ignored: true })?;
        let Some(word) = word else { return Ok(None) };
        if word != ";" {
            let (prefix, path) = Prefix::read(&word);
            break (prefix, path.to_owned());
        }
    };
    let bad = |why: String| BadLine { why, ignored: prefix.ignore_failure };
    let path = specifiers.text(&path).map_err(|error| bad(error.to_string()))?;
    check_path(&path).map_err(|why| bad(why.to_owned()))?;
    let expand = !prefix.no_expansion;
    let mut words = Vec::new();
    while let Some(word) = argument(rest).map_err(|error| bad(error.to_string()))? {
        words.push(specifiers.argument(&word, expand).map_err(|error| bad(error.to_string()))?);
    }
    let arg0 = if prefix.own_arg0 {
        if words.is_empty() {
            return Err(bad("it has the prefix @ and no second word".to_owned()));
        }
        Some(words.remove(0))
    } else {
        None
    };
    words.insert(0, path);
    if words.iter().chain(&arg0).any(|word| word.contains('\0')) {
        return Err(bad("an argument holds a NUL".to_owned()));
    }
    Ok(Some(Command { prefix, line: Line { argv: words, arg0, expand, full_privileges: prefix.is_full() } }))
}

/// The next argument; None at the end of the value or after a lone `;`, which is taken off.
fn argument(rest: &mut &str) -> Result<Option<String>, words::WordError> {
    for (token, word) in [(";", None), ("\\;", Some(";"))] {
        if let Some(after) = rest.strip_prefix(token)
            && (after.is_empty() || after.starts_with([' ', '\t', '\n', '\r']))
        {
            *rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
            return Ok(word.map(str::to_owned));
        }
    }
    words::first(rest, Escapes::C)
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("it names no program")
    } else if !is_safe(path) {
        Err("its program has quotes, backslashes or control characters in its name")
    } else if path.ends_with('/') {
        Err("its program is a directory")
    } else if !path.starts_with('/') && (path.contains('/') || path == "." || path == "..") {
        Err("its program is neither a name nor an absolute path")
    } else {
        Ok(())
    }
}
