//! Who may call a server: the tokens it knows, and the gate that asks for them.

pub mod browser;
pub mod gate;
pub mod tokens;
