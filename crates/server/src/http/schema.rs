//! What endpoints take and answer, as the OpenAPI document shows it.

use schemars::{Schema, SchemaGenerator};

/// What the body of a request is.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A message, which is read whole.
    Message(Content),
    /// An artifact: streamed, and limited by the store.
    Artifact,
}

/// What a caller hears if nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// 200 with one of these bodies.
    Ok(&'static [Content]),
    /// 201 without a body.
    Created,
    /// 204.
    NoContent,
    /// 200 or 503, both with a body.
    OkOrNot(Content),
}

/// A body.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// A message: JSON with its name in the field `type`.
    Message(&'static str, SchemaOf),
    /// JSON.
    Json(SchemaOf),
    /// Bytes.
    Bytes,
    /// Text of this type.
    Text(&'static str),
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
macro_rules! schema {
    ($type:ty) => {
        ::schemars::SchemaGenerator::subschema_for::<$type>
    };
}

/// A message by its type's name.
macro_rules! message {
    ($type:ident) => {
        $crate::http::schema::Content::Message(
            stringify!($type),
            $crate::http::schema::schema!($type),
        )
    };
}

/// JSON of a type.
macro_rules! json {
    ($type:ty) => {
        $crate::http::schema::Content::Json($crate::http::schema::schema!($type))
    };
}

pub(crate) use {json, message, schema};
