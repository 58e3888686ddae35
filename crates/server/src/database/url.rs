//! The address of a PostgreSQL database, whose password is never shown.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use std::fmt;

/// Address of a PostgreSQL database. As text it is without user and password, so that it can be shown and logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; what is left out is as for `psql`.
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// The whole address, password and all.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Host and name, if it is an address.
    pub(crate) fn place(&self) -> Option<(String, String)> {
        let schemes = ["postgres://", "postgresql://"];
        let options: PgConnectOptions = schemes
            .iter()
            .any(|scheme| self.0.starts_with(scheme))
            .then(|| self.0.parse().ok())??;
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let name = options.get_database().unwrap_or(options.get_username());
        // A password with a slash in it, not escaped, would end up in the name.
        (!name.contains('@')).then(|| (host, name.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Some((host, name)) => write!(f, "{name} at {host}"),
            None => f.write_str("(no address)"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}
