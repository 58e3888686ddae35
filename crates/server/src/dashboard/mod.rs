//! The dashboard: one page, and what it shows as it changes.
//!
//! * The page is in the executable and loads nothing from elsewhere.
//! * What all viewers see is put together once, however many they are, and not at all while nobody looks.

pub mod board;
pub mod feed;
pub mod page;
