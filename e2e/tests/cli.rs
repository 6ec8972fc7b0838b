//! The command line as a person meets it, on systemd 252 and 257: exit codes, what comes on standard output and what on
//! standard error, the words that matter, and what is there and what is gone afterwards.

/// Makes of `fn name(systemd: Systemd)` the tests `name::on_252` and `name::on_257`.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn on_252() {
                super::$test(e2e::sandbox::Systemd::V252);
            }

            #[test]
            fn on_257() {
                super::$test(e2e::sandbox::Systemd::V257);
            }
        }
    )+};
}

mod config;
mod foreground;
mod install;
mod logs;
mod plan;
mod ps;
mod rm;
mod run;
mod support;
