//! The server's HTTP side: connections, TLS and limits below, endpoints and what they call above.

mod body;
pub mod connection;
mod dashboard;
pub mod endpoints;
mod error;
mod extract;
mod handlers;
pub mod health;
pub mod limits;
pub(crate) mod look;
pub mod openapi;
pub mod peer;
pub mod router;
mod schema;
pub mod service;
pub mod tls;
