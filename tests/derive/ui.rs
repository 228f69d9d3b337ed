//! Every mistake has its message: one file for each, named for it, beside what rustc says.

#[test]
fn every_mistake_is_one_message_that_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("ui/*/*.rs");
}
