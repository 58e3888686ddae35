//! The server from outside: its store, its endpoints, and whole rounds with real clients.

mod api;
mod common;
mod cut;
mod peers;
mod postgres;
mod real;
mod rounds;
mod servers;
mod store;
