//! Errors as people read them: in one line, from what was tried down to what went wrong.

use std::error::Error;

/// An error with everything below it, each cause said once: some libraries end a text with the cause below it.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, below) = texts.split_first().unwrap();
        Layer { text, source: (!below.is_empty()).then(|| Box::new(layers(below))) }
    }

    #[test]
    fn each_is_said_once() {
        let error = layers(&["read a.yaml", "open: no such file", "no such file", "errno 2"]);
        assert_eq!(causes(&error), "read a.yaml: open: no such file: errno 2");
        assert_eq!(causes(&layers(&["read 22 bytes of a.yaml", "2"])), "read 22 bytes of a.yaml: 2");
    }
}
