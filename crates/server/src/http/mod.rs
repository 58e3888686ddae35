//! The server's HTTP side: connections, TLS and limits below, endpoints and what they call above.

pub mod connection;
pub mod endpoints;
pub mod health;
pub mod limits;
pub mod openapi;
pub mod service;
pub mod tls;
