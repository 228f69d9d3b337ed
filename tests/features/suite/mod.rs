//! The features: each as tests that take a store.

pub(crate) mod app;
pub(crate) mod blind;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod flows;
pub(crate) mod json;
pub(crate) mod lifetimes;
pub(crate) mod live;
pub(crate) mod log_in;
pub(crate) mod operators;
pub(crate) mod testing;
pub(crate) mod transport;

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
                    no_choice_extends_a_session_for_ever,
                    the_last_use_is_known_by_the_minute,
                }
                devices::{
                    a_user_sees_which_browsers_have_their_sessions,
                    a_visitor_whose_browser_is_known_leaves_no_trace,
                }
                events::{
                    an_observer_is_told_the_life_of_a_session,
                    an_observer_is_told_why_a_session_has_ended,
                    an_observer_is_told_which_sessions_a_log_in_replaces,
                    an_observer_is_told_of_conflicts_and_merges,
                    an_observer_is_told_of_a_change_that_is_refused,
                    an_observer_is_told_of_tokens_that_are_not_accepted,
                    an_observer_is_told_of_cleanups,
                    an_observer_is_told_how_long_the_store_takes,
                    an_observer_that_panics_changes_nothing,
                    an_observer_may_use_the_sessions_in_a_task,
                    no_event_shows_a_token_or_a_whole_id,
                    a_probe_is_answered_whether_the_store_works,
                }
                fields::{
                    a_field_ends_when_its_time_has_passed,
                    only_a_change_of_the_field_starts_its_time_again,
                    the_time_of_a_field_outlives_a_merge,
                }
                flows::{
                    two_tabs_finish_their_own_flows,
                    a_flow_outlives_a_log_in_and_ends_with_a_log_out,
                    a_flow_ends_by_itself,
                    each_ticket_is_taken_once_in_a_thousand_races,
                    of_two_handlers_that_take_one_flow_one_is_answered,
                }
                json::{
                    a_remembered_session_lives_as_long_as_the_bag_says,
                    a_field_ends_when_its_time_has_passed,
                    every_value_of_a_flow_comes_back_once,
                    a_flow_in_a_bag_for_a_new_session_lives_as_long_as_the_field_says,
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
                    a_user_who_is_written_into_the_bag_has_logged_in_freshly,
                    a_scope_requires_what_it_says,
                    an_error_handler_finds_the_reason,
                }
                operators::{
                    an_operator_uses_columns_of_other_names,
                    an_operator_finds_and_ends_sessions_in_the_console,
                }
                testing::{
                    a_request_of_a_test_has_its_session_behind_the_middleware,
                    a_form_of_a_test_has_its_token,
                    a_request_of_a_test_has_sessions_of_several_bags,
                }
                transport::{
                    a_header_carries_the_token_in_the_place_of_the_cookie,
                    a_request_with_the_header_is_served_by_it_alone,
                    no_csrf_token_is_asked_of_a_request_by_header,
                    a_header_is_skipped_as_a_cookie_is,
                    an_error_has_the_header_too,
                    a_header_that_cannot_carry_a_token_is_refused,
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
