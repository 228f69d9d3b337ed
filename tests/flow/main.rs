//! What a session does over HTTP: requests with real cookies go in, answers and rows come out.

mod shop;

mod clients;
mod concurrency;
mod content;
mod cookies;
mod directory;
mod disk;
mod extractors;
mod faults;
mod handlers;
mod limits;
mod logins;
mod sealed;
mod secrets;
mod server;
mod setup;
mod tampering;
mod unsure;
mod visitors;
