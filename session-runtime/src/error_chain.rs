//! Errors with their causes, in one line: for the log, and for a `main` that returns an error, whose `Debug` is printed.

use std::fmt;

/// Shows an error with all its causes.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
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
