//! Sessions over HTTP: requests with real cookies enter, answers and rows leave.

mod app;

mod binding;
mod concurrency;
mod console;
mod cookie_store;
mod cookies;
mod csrf;
mod damaged;
mod disk;
mod events;
mod extractors;
mod faults;
mod fields;
mod former_cookies;
mod handlers;
mod identity;
mod limits;
mod lists;
mod logins;
mod lost_answers;
mod memory;
mod readback;
mod reports;
mod secrets;
mod server;
mod sessions_argument;
mod setup;
mod tampering;
mod testing;
mod unknown_write_outcome;
mod visitors;
mod watches;
