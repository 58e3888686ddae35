//! Who may call a server: the tokens it knows, the sessions of browsers, and the gate that asks for either.

pub mod browser;
pub mod gate;
pub mod session;
pub mod tokens;
