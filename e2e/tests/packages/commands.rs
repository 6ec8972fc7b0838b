//! What runs: the package's program, its options, the pod's.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] =
    scenarios![args_keep_the_program, command_replaces_both, program_only_keeps_the_options, words_are_literal];

fn args_keep_the_program(node: &Node) {
    ready(node, "args", "image: sk-simple, env: [{name: G, value: howdy}], args: [--greeting, $(G) $$(G)]");
    says(node, "args", "sk-simple: howdy $(G) 1\n");
}

fn command_replaces_both(node: &Node) {
    ready(node, "command", "image: sk-simple, command: [/usr/sbin/sk-continued, only]");
    says(node, "command", "sk-continued: [only]\n");
    ready(node, "command-args", "image: sk-simple, command: [sk-continued, a], args: [b, '']");
    says(node, "command-args", "sk-continued: [a] [b] []\n");
}

fn program_only_keeps_the_options(node: &Node) {
    let annotation = "systemk.io/command: program-only";
    let container = "image: sk-continued, command: [/usr/sbin/sk-continued, first]";
    apply(node, "program-only", &pod_with("program-only", annotation, "", container));
    node.wait_ready("program-only").unwrap();
    says(node, "program-only", "sk-continued: [first] [--foreground] [--one] [--two] [words] [--name]");
}

/// Neither systemd nor a shell reads the pod's words; Kubernetes' own `$(NAME)` works in both.
fn words_are_literal(node: &Node) {
    let words =
        r#"["100%", "%n", "$HOME", "${HOME}", "$$", "two words", "\"q\"", "a\\b", "$(W)", "$(UNKNOWN)", "l1\nl2"]"#;
    let container = format!("image: sk-continued, env: [{{name: W, value: '50%x $$ %H'}}], args: {words}");
    ready(node, "words", &container);
    let shown = "sk-continued: [100%] [%n] [$HOME] [${HOME}] [$] [two words] [\"q\"] [a\\b] [50%x $ %H] [$(UNKNOWN)] [l1\nl2]\n";
    says(node, "words", shown);
}
