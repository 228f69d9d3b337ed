//! The tool `databag` as a process, beside an application on the same SQLite file.

mod help;
mod keys;
mod sessions;
mod tool;
mod transfer;
