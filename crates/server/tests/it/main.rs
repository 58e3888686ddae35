//! The server from outside: its store, its endpoints, and whole rounds with real clients.

mod access;
mod api;
mod artifacts;
mod capabilities;
mod common;
mod crowd;
mod cut;
mod disk;
mod fold;
mod forged;
mod garbage;
mod huge;
mod lost;
mod metrics;
mod parts;
mod peers;
mod postgres;
mod real;
mod rounds;
mod servers;
mod slow;
mod store;
mod tls;
mod untrusted;
mod waiting;
mod years;
