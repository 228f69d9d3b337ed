//! Errors with their causes, in one line: for the log, and for a `main` that returns an error, whose `Debug` is printed.

use std::fmt;

/// Shows an error with all its causes, but for those that say once more what was said.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = vec![self.0.to_string()];
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // `Error code 13: database or disk is full`, under `database or disk is full`.
            if !said.iter().any(|said| said.contains(&text) || text.ends_with(said.as_str())) {
                said.push(text);
            }
            cause = error.source();
        }
        f.write_str(&said.join(": "))
    }
}

/// Gives an error a `Debug` that reads like its `Display`, with all its causes.
macro_rules! readable_debug {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            /// One line with all causes, as a `main` prints that returns the error.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&$crate::error_chain::ErrorChain(self), f)
            }
        }
    };
}
pub(crate) use readable_debug;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failed {
        text: &'static str,
        source: Option<Box<Failed>>,
    }

    fn chain(texts: &[&'static str]) -> Failed {
        let (text, causes) = texts.split_first().expect("an error");
        Failed { text, source: (!causes.is_empty()).then(|| Box::new(chain(causes))) }
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        for (texts, shown) in [
            (
                ["not written", "disk is full: make room", "disk is full"],
                "not written: disk is full: make room",
            ),
            (["not written", "disk is full", "code 13: disk is full"], "not written: disk is full"),
            (["not written", "refused", "by the server"], "not written: refused: by the server"),
        ] {
            assert_eq!(ErrorChain(&chain(&texts)).to_string(), shown);
        }
    }
}
