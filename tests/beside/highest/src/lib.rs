//! Only the tests.
