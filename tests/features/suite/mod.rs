//! The features: each as tests that take a store.

pub(crate) mod app;
pub(crate) mod fields;
pub(crate) mod lifetimes;
pub(crate) mod live;
pub(crate) mod log_in;

/// Runs every test on a store.
macro_rules! features {
    ($store:ident: $open:path) => {
        mod $store {
            $crate::suite::features! { @tests $open;
                lifetimes::{
                    a_remembered_session_lives_as_long_as_the_bag_says,
                    an_ordinary_log_in_has_the_ordinary_limits,
                    a_session_is_remembered_for_any_time,
                    no_use_of_a_remembered_session_extends_it,
                    a_remembered_session_can_be_made_an_ordinary_one,
                    the_last_use_is_known_by_the_minute,
                }
                fields::{
                    a_field_ends_when_its_time_has_passed,
                    only_a_change_of_the_field_starts_its_time_again,
                    the_time_of_a_field_outlives_a_merge,
                }
                live::{
                    a_touch_extends_the_idle_limit_as_a_request_does,
                    a_touch_leaves_the_absolute_limit,
                    a_touch_revives_nothing,
                    a_watch_ends_at_once_when_this_process_ends_the_session,
                    a_watch_follows_a_session_and_ends_with_its_user,
                    a_watch_ends_when_the_session_expires,
                }
                log_in::{
                    a_visitor_who_must_log_in_is_answered_by_what_they_accept,
                    a_form_is_no_way_back,
                    a_scope_has_pages_of_its_own,
                    only_a_fresh_log_in_opens_what_needs_one,
                    a_user_who_proves_again_who_they_are_is_fresh,
                    a_scope_requires_what_it_says,
                    an_error_handler_finds_the_reason,
                }
            }
        }
    };
    (@tests $open:path; $($module:ident::{$($test:ident,)+})+) => {
        $(
            mod $module {
                $(
                    #[actix_web::test]
                    async fn $test() {
                        $crate::suite::$module::$test($open().await).await;
                    }
                )+
            }
        )+
    };
}
pub(crate) use features;
