//! Protocol doors: bytes to requests, replies to bytes, one [`session::Session`] per connection. Sans-I/O.
#![forbid(unsafe_code)]

pub mod session;
