//! The server from outside: its store, its endpoints, and whole rounds with real clients.

mod api;
mod artifacts;
mod common;
mod metrics;
mod peers;
mod postgres;
mod real;
mod rounds;
mod servers;
mod store;
