//! The broker and its commands.
#![forbid(unsafe_code)]

mod config;
mod control;

fn main() {
    let _ = config::Config::load(&config::source::Sources::default());
}
